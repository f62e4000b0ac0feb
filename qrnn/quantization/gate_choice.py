"""The text of ``--gates`` says which integer function stands for each gate of a model.

    gates   = item , item …                 item = [key=]choice
    choice  = pwl:N | hard | hard:ALPHA,BETA | step
    key     = input forget candidate output cell | reset update candidate | candidate | head | sigmoid tanh

A gate's own key goes before ``sigmoid`` and ``tanh``, these before the choice without a key, and that before pwl:128.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation

DEFAULT_GATES = "pwl:128"
SEGMENTS = (8, 16, 32, 64, 128, 256, 512, 1024)
HARD_SIGMOID = (0.2, 0.5)
"""The alpha and beta of ``hard`` without numbers."""

GATE_KEYS: Mapping[str, str] = {
    "i": "input",
    "f": "forget",
    "g": "candidate",
    "o": "output",
    "output": "cell",  # the role of the LSTM's activation of the cell on its way to h
    "r": "reset",
    "z": "update",
    "n": "candidate",
    "h": "candidate",
    "head": "head",
}
"""The key of each gate of the float model."""

KIND_KEYS = ("sigmoid", "tanh")
KEYS = (*KIND_KEYS, *dict.fromkeys(GATE_KEYS.values()))
"""All keys, in the order of canonical text."""


@dataclass(frozen=True)
class GateChoice:
    """What stands for a sigmoid or tanh: a table (``pwl``), a ramp (``hard``) or a threshold (``step``, of a sigmoid only).

    ``segments`` is the number of a table's segments on the half range; tables of other functions follow it too. ``ramp`` holds alpha and
    beta of the hard sigmoid max(0, min(1, alpha·x + beta)). None is (0.2, 0.5), and for tanh the ramp max(-1, min(1, x)).
    """

    form: Literal["pwl", "hard", "step"] = "pwl"
    segments: int = 128
    ramp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.segments not in SEGMENTS:
            raise QuantizationError(f"segments={self.segments!r}, expected one of {', '.join(map(str, SEGMENTS))}")

    def __str__(self) -> str:
        if self.form == "pwl":
            return f"pwl:{self.segments}"
        return self.form if self.ramp is None else f"{self.form}:{self.ramp[0]!r},{self.ramp[1]!r}"

    def apply(self, activation: Activation) -> Activation:
        """Return the function to run in place of ``activation``: another one only for ``hard`` and ``step`` on a sigmoid or tanh."""
        if self.form == "pwl" or activation.kind not in KIND_KEYS:
            return activation
        if activation.kind == "tanh":
            if self.form == "step" or self.ramp is not None:
                raise QuantizationError(f"{self} does not stand for a tanh; use hard (max(-1, min(1, x))) or pwl:N")
            return Activation("hard_tanh")
        if self.form == "step":
            return Activation("step")
        return Activation("hard_sigmoid", *(self.ramp or HARD_SIGMOID))


@dataclass(frozen=True)
class GateChoices:
    """The choices of a model: ``general`` for all gates (None is pwl:128), and those with a key."""

    general: GateChoice | None = None
    keyed: tuple[tuple[str, GateChoice], ...] = ()

    def __str__(self) -> str:
        keyed = dict(self.keyed)
        items = [] if self.general is None else [str(self.general)]
        return ",".join(items + [f"{key}={keyed[key]}" for key in KEYS if key in keyed]) or DEFAULT_GATES

    def resolve(self, gate: str, activation: Activation) -> tuple[Activation, GateChoice]:
        """Return the function to run, and a ``pwl`` choice for its table if it has one.

        ``gate`` is i, f, g, o or ``output`` (of the cell) for an LSTM, r, z, n for a GRU, h for an RNN, and ``head`` for a pointwise layer.
        """
        general = self.general or GateChoice()
        table = GateChoice(segments=general.segments)
        keyed = dict(self.keyed)
        key = GATE_KEYS[gate]
        chosen = keyed.get(key, keyed.get(activation.kind))
        if key in keyed and chosen is not None and chosen.form != "pwl" and activation.kind not in KIND_KEYS:
            raise QuantizationError(
                f"gates: {key}={chosen}: the model's own function there is {activation}, which is run exactly as it is; leave {key} out"
            )
        if chosen is None:
            spared = gate == "head" or (activation.kind == "tanh" and general.form == "step")
            chosen = table if spared else replace(general, ramp=None if activation.kind == "tanh" else general.ramp)
        try:
            function = chosen.apply(activation)
        except QuantizationError as error:
            raise QuantizationError(f"gates: {key}: {error}") from None
        return function, chosen if chosen.form == "pwl" else table

    def unused(self, gates_seen: Iterable[str]) -> tuple[str, ...]:
        """Return the keys of gates that a model with only ``gates_seen`` (named as in `resolve`) does not have."""
        seen = {GATE_KEYS[gate] for gate in gates_seen}
        return tuple(key for key, _ in self.keyed if key not in seen and key not in KIND_KEYS)


def parse_gates(text: str) -> GateChoices:
    """Parse the text of ``--gates``; QuantizationError says what is wrong with it."""
    general: GateChoice | None = None
    keyed: dict[str, GateChoice] = {}
    for item in _items(text):
        key, equals, choice = (part.strip() for part in item.rpartition("="))
        if equals and key not in KEYS:
            raise _refused(text, item, f"key {key!r} is unknown; expected one of {', '.join(KEYS)}")
        if (key in keyed) if equals else general is not None:
            raise _refused(text, item, f"a second choice {'for ' + key if equals else 'without a key'}; give one")
        parsed = _parse_choice(text, item, choice)
        if not equals:
            general = parsed
            continue
        keyed[key] = parsed
        if key in KIND_KEYS:
            try:
                parsed.apply(Activation("tanh" if key == "tanh" else "sigmoid"))
            except QuantizationError as error:
                raise _refused(text, item, str(error)) from None
    return GateChoices(general, tuple((key, keyed[key]) for key in KEYS if key in keyed))


def _items(text: str) -> list[str]:
    """Split the text at commas, but not between the two numbers of hard:ALPHA,BETA."""
    items: list[str] = []
    for part in text.split(","):
        if items and re.fullmatch(r"([a-z]+\s*=)?\s*hard:[^,]*", items[-1]) and re.match(r"[-+.\d]", part.strip()):
            items[-1] += "," + part.strip()
        else:
            items.append(part.strip())
    return items


def _parse_choice(text: str, item: str, choice: str) -> GateChoice:
    if choice in ("hard", "step"):
        return GateChoice("hard" if choice == "hard" else "step")
    if match := re.fullmatch(r"pwl:(\d{1,6})", choice, re.ASCII):
        if int(match[1]) not in SEGMENTS:
            raise _refused(text, item, f"expected pwl:N with N one of {', '.join(map(str, SEGMENTS))}")
        return GateChoice(segments=int(match[1]))
    number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
    if match := re.fullmatch(f"hard:{number},{number}", choice, re.ASCII):
        ramp = float(match[1]), float(match[2])
        if isfinite(ramp[0]) and isfinite(ramp[1]):
            return GateChoice("hard", ramp=ramp)
    if choice.startswith("hard:"):
        raise _refused(text, item, "expected hard:ALPHA,BETA with two finite numbers, for example hard:0.2,0.5")
    raise _refused(text, item, "expected pwl:N, hard, hard:ALPHA,BETA or step, each with key= before it or without")


def _refused(text: str, item: str, reason: str) -> QuantizationError:
    return QuantizationError(f"gates {text!r}: item {item!r}: {reason}")
