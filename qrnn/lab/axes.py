"""The configurations of a sweep: every field of `qrnn.Scheme` is an axis, and so are the epochs of a training; a grid is the product of values.

A field that is added to Scheme can be varied at once (``--vary FIELD=…``); `DEFAULT_GRID` is the one place that would make it part of the
grid that is swept by default.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from qrnn.errors import QuantizationError
from qrnn.lab.training import AXIS, Configuration, configuration, epochs_of
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.widths import parse_widths, widths_text

DEFAULT_GRID: Mapping[str, tuple[Any, ...]] = {
    "weights": (8, 4),
    "activations": (8, 16),
    "gates": ("pwl:128", "pwl:64", "pwl:16", "hard", "step"),
    "calibrator": ("robust", "percentile"),
    "refine": ("none", "all"),
}
"""Values by axis, for 80 configurations; other fields are the target's. States have power-of-two formats by calibration, so are no axis."""

TUNED: Mapping[str, tuple[Any, ...]] = {
    "weights": (8, 4),
    "activations": (8, 16),
    "calibrator": ("robust", "percentile", "mse"),
    "input": ("auto", "8", "8-per-feature", "16", "16-per-feature"),
    "refine": ("none", "all"),
}
"""Values by axis that `qrnn.tune` tries, beside the gates, of which it chooses each by itself."""

OF_TARGET = ("widest_operand", "multipliers")
"""The fields that a target alone sets, since they say what the device can do, and do well."""

AXES = tuple(field.name for field in fields(Configuration) if field.name not in OF_TARGET)

_OPTIONS = {"input": "input-scheme", AXIS: "epochs"}
"""The options of ``qrnn convert`` and ``qrnn finetune`` for fields of another name."""


def choices(scheme: Scheme) -> dict[str, Any]:
    """Return every field that can be chosen, by its name, those that `Scheme.to_dict` leaves out too."""
    fields = {**asdict(scheme), "widths": widths_text(scheme.widths)}
    return {name: value for name, value in fields.items() if name not in OF_TARGET}


def grid(base: Scheme, vary: Mapping[str, Sequence[Any]] | None = None) -> list[Scheme]:
    """Return every combination of the values of ``vary``, in a fixed order; other fields are those of ``base``.

    ``vary`` maps axes to values; None stands for `DEFAULT_GRID`. QuantizationError for an axis or a value that does not exist. With the axis
    ``finetune`` they are `qrnn.lab.training.Configuration`.
    """
    chosen = DEFAULT_GRID if vary is None else vary
    base = configuration(base) if AXIS in chosen else base
    for axis, values in chosen.items():
        _known(axis)
        if not values:
            raise QuantizationError(f"axis {axis!r}: no values; expected at least one")
    found = [
        replace(base, **dict(zip(chosen, point, strict=True)))
        for point in itertools.product(*(chosen[axis] for axis in chosen))
    ]
    return list(dict.fromkeys(found))


def parse_axis(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse ``AXIS=VALUE,VALUE…`` into the axis and its values; QuantizationError says what is wrong.

    Values that have commas themselves are separated by ``;``.
    """
    axis, equals, listed = text.partition("=")
    axis = axis.strip()
    if not equals:
        raise QuantizationError(f"{text!r}: expected AXIS=VALUE,VALUE…, with AXIS one of {', '.join(AXES)}")
    _known(axis)
    values = [part.strip() for part in listed.split(";" if ";" in listed else ",")]
    values = [value for value in values if value]
    if not values:
        raise QuantizationError(f"{text!r}: no values; expected AXIS=VALUE,VALUE…")
    parsed = tuple(_value(axis, value) for value in values)
    for value in parsed:
        replace(Configuration(), **{axis: value})
    return axis, parsed


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Apply `parse_axis` to each text; QuantizationError where an axis comes twice."""
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        axis, values = parse_axis(text)
        if axis in found:
            raise QuantizationError(f"{text!r}: axis {axis!r} is given twice; give all of its values at once")
        found[axis] = values
    return found


def only(schemes: Sequence[Scheme], wanted: Mapping[str, Sequence[Any]]) -> list[Scheme]:
    """Return the schemes whose fields have one of the wanted values."""
    return [s for s in schemes if all(getattr(s, axis, 0) in values for axis, values in wanted.items())]


def label(scheme: Scheme) -> str:
    """Return a configuration in a few words: weights and activations by their bits, then gates, calibrator and the rest."""
    values = choices(scheme)
    words = [f"w{values.pop('weights')}", f"a{values.pop('activations')}", str(values.pop("gates"))]
    words += [str(values.pop("calibrator")), f"in:{values.pop('input')}"]
    defaults = choices(Configuration())
    return " ".join(words + [f"{name}:{value}" for name, value in values.items() if value != defaults[name]])


def convert_command(
    scheme: Scheme,
    model: str,
    calibration: str,
    target: str,
    output: str,
    stream: bool = False,
    values: Mapping[str, Any] | None = None,
    train: Sequence[str] = (),
) -> str:
    """Return the ``qrnn convert`` command that makes this configuration, for a shell; ``qrnn finetune`` with ``train`` where it is trained."""
    trained = bool(epochs_of(scheme))
    words = ["qrnn", "finetune" if trained else "convert", model, "--calibration", calibration, "--target", target]
    words += train if trained else ()
    defaults = choices(Configuration())
    for name, value in choices(scheme).items():
        if name in _ALWAYS_NAMED or value != defaults[name]:
            words += [f"--{_OPTIONS.get(name, name.replace('_', '-'))}", str(value)]
    words += ["--stream"] if stream else []
    for name, value in (values or {}).items():
        words += ["--set", f"{name}={_value_text(value)}"]
    return shlex.join([*words, "-o", output])


def _value_text(value: Any) -> str:
    """Return a value as the option ``--set`` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_value_text, value)) if isinstance(value, Sequence) else repr(value)


_ALWAYS_NAMED = ("weights", "activations", "gates", "calibrator", "input")
"""Fields that a target may set, so that the command always names them."""


def _known(axis: str) -> None:
    if axis not in AXES:
        raise QuantizationError(f"axis {axis!r} is unknown; expected one of {', '.join(AXES)}")


def _value(axis: str, text: str) -> Any:
    """Return ``text`` as the type of the field's default."""
    default = getattr(Configuration(), axis)
    if axis in ("activations", "weights") and text == AUTO:
        return text
    if axis == "widths":
        return parse_widths(text)
    if isinstance(default, bool):
        if text in ("true", "false"):
            return text == "true"
        raise QuantizationError(f"{axis}={text!r}, expected true or false")
    for kind in (int, float):
        if isinstance(default, kind):
            try:
                return kind(text)
            except ValueError:
                raise QuantizationError(f"{axis}={text!r}, expected a number") from None
    return text
