"""Read the config of a Keras layer so that no key of it is passed over: each is used, known to change nothing at inference, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from qrnn.errors import ModelFileError, UnsupportedError

HARMLESS = frozenset(
    [
        "name", "trainable", "seed", "implementation", "unroll", "unit_forget_bias", "batch_input_shape", "batch_shape", "input_shape",
        "build_input_shape", "dropout", "recurrent_dropout", "momentum", "renorm_momentum", "renorm_clipping", "synchronized", "rate",
        "noise_shape", "stddev", "autocast", "input_dtype", "input_spec", "virtual_batch_size", "fused", "expects_training_arg", "batch_size",
        "input_length", "scale_by_length", "use_cudnn",
    ]
)  # fmt: skip
"""What matters for training, for how a layer is built, or for how fast it runs, and never for what it computes."""

HARMLESS_ENDINGS = ("_initializer", "_regularizer", "_constraint")

MUST_BE: dict[str, tuple[Any, ...]] = {
    "time_major": (False,),
    "renorm": (False,),
    "adjustment": (None,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "quantization_config": (None,),
    "quantization_mode": (None,),
    "sparse": (False, None),
    "ragged": (False, None),
    "registered_name": (None,),
    "hard": (False,),
}
"""Settings of which only these values are supported, in whatever layer they stand."""

FLOAT_POLICIES = frozenset(["float16", "float32", "float64", "bfloat16", "mixed_float16", "mixed_bfloat16"])
TYPES = FLOAT_POLICIES | {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"}


class Settings:
    """The config of one layer. ``where`` says in messages which layer it is."""

    def __init__(self, where: str, config: Any) -> None:
        self.where = where
        if not isinstance(config, Mapping):
            raise ModelFileError(
                f"{where}: its config is {type(config).__name__}, expected an object; save the model again"
            )
        self._left = dict(config)
        self._check_type()

    def refusal(self, what: str) -> UnsupportedError:
        """Return an UnsupportedError that names the layer."""
        return UnsupportedError(f"{self.where}: {what}")

    def refuse(self, what: str) -> NoReturn:
        """Raise an UnsupportedError that names the layer."""
        raise self.refusal(what)

    def damaged(self, what: str) -> NoReturn:
        """Raise a ModelFileError that names the layer."""
        raise ModelFileError(f"{self.where}: {what}; save the model again")

    def take(self, key: str, default: Any = None) -> Any:
        """Return a setting of any kind; ``default`` where the config leaves it out."""
        return self._left.pop(key, default)

    def flag(self, key: str, default: bool) -> bool:
        """Return a setting that is true or false."""
        value = self.take(key, default)
        if value not in (0, 1):
            self.damaged(f"{key}={short(value)}, expected true or false")
        return bool(value)

    def number(self, key: str, default: float) -> float:
        """Return a real number."""
        value = self.take(key, default)
        if isinstance(value, Mapping):  # Keras 2 writes some numbers as arrays
            value = value.get("value", value.get("config"))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -3e38 < value < 3e38:
            self.damaged(f"{key}={value!r}, expected a number")
        return float(value)

    def size(self, key: str, default: int | None = None) -> int:
        """Return a whole number of at least 1."""
        value = self.take(key, default)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            self.damaged(f"{key}={value!r}, expected a whole number of at least 1")
        return value

    def sizes(self, key: str, count: int, default: Any = 1) -> list[int]:
        """Return ``count`` whole numbers of at least 1, of which the config may write one for all."""
        value = self.take(key, default)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(values) != count or any(
            isinstance(v, bool) or not isinstance(v, int) or not 1 <= v < 1 << 31 for v in values
        ):
            self.damaged(f"{key}={value!r}, expected {count} whole number(s) of at least 1")
        return values

    def axes(self, key: str, rank: int, default: Any = -1) -> list[int]:
        """Return axes of a value of ``rank`` axes, counted from the first and in order."""
        value = self.take(key, default)
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(v, bool) or not isinstance(v, int) or not -rank <= v < rank for v in values):
            self.damaged(f"{key}={value!r}, expected axes of a value of {rank} axes")
        return sorted({v % rank for v in values})

    def choice(self, key: str, known: tuple[Any, ...], default: Any) -> Any:
        """Return a setting that is one of ``known``; anything else is refused."""
        value = self.take(key, default)
        if isinstance(value, (Mapping, list)) or value not in known:
            self.refuse(f"{key}={value!r} is not supported; expected one of {', '.join(map(repr, known))}")
        return value

    def child(self, key: str) -> Mapping[str, Any]:
        """Return the object of another layer that this one holds."""
        value = self.take(key)
        if not isinstance(value, Mapping) or not isinstance(value.get("class_name"), str):
            self.damaged(f"{key} is no layer")
        return value

    def finish(self) -> None:
        """Refuse what was not used, unless it is known to change nothing."""
        for key, value in self._left.items():
            if key in MUST_BE:
                if value not in MUST_BE[key]:
                    self.refuse(f"{key}={short(value)} is not supported; save the model without it")
            elif key not in HARMLESS and not key.endswith(HARMLESS_ENDINGS):
                self.refuse(
                    f"its setting {key}={short(value)} is not known; save the model with a Keras that qrnn knows, or leave it out"
                )

    def _check_type(self) -> None:
        """Refuse weights of integers; those of any float type are read as they are."""
        policy = self._left.pop("dtype", None)
        name = policy
        if isinstance(policy, Mapping):
            inner = policy.get("config")
            name = inner.get("name") if isinstance(inner, Mapping) else None
            if policy.get("class_name") not in ("DTypePolicy", "Policy", "FloatDTypePolicy"):
                self.refuse(
                    f"its dtype policy is {short(policy.get('class_name'))}; save the model before it is quantized"
                )
        if name is not None and (not isinstance(name, str) or name not in TYPES):
            self.refuse(f"its dtype is {short(name)}; save the model in float32, before it is quantized")


def short(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
