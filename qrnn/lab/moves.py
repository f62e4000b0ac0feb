"""The neighbours of a configuration in a search: every single change of a width, a calibrator, the input's scheme, or a gate's function.

`Scheme` has one width for all layers and one choice for each kind of gate, so these are searched. A choice for each layer would become more
moves here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from qrnn.lab.axes import TUNED
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.quantization.gate_choice import GATE_KEYS, KIND_KEYS, GateChoice, GateChoices, parse_gates
from qrnn.quantization.scheme import Scheme

TABLES = ("pwl:512", "pwl:128", "pwl:64", "pwl:32", "pwl:16", "hard")
"""The choices for a gate; a sigmoid also has ``step``."""


@dataclass(frozen=True)
class Move:
    """One change: ``what`` (an axis, a gate's key, or ``gates`` for all of them) becomes ``value``."""

    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.what}={self.value}"


def gate_kinds(model: FloatModel) -> dict[str, str]:
    """Return the key of each gate of the model whose function can be chosen, with sigmoid or tanh; a key of both is left out."""
    kinds: dict[str, set[str]] = {}
    for layer in model.layers:
        if isinstance(layer, Recurrent):
            for d in layer.directions:
                for role in layer.roles:
                    if GATE_ROLE[role] in d.activations:
                        key = "cell" if role == "output" else GATE_KEYS[role]
                        kinds.setdefault(key, set()).add(d.activations[GATE_ROLE[role]].kind)
        elif isinstance(layer, Pointwise):
            kinds.setdefault("head", set()).add(layer.activation.kind)
    return {key: found.pop() for key, found in kinds.items() if len(found) == 1 and found <= set(KIND_KEYS)}


def gates_of(scheme: Scheme, kinds: dict[str, str]) -> dict[str, str]:
    """Return the choice that ``scheme`` makes for each key."""
    choices = parse_gates(scheme.gates)
    general, keyed = choices.general or GateChoice(), dict(choices.keyed)
    found = {}
    for key, kind in kinds.items():
        chosen = keyed.get(key, keyed.get(kind))
        if chosen is None:
            spared = key == "head" or (kind == "tanh" and general.form == "step")
            chosen = GateChoice(segments=general.segments) if spared else general
        found[key] = str(replace(chosen, ramp=None) if kind == "tanh" else chosen)
    return found


def with_gates(scheme: Scheme, gates: dict[str, str]) -> Scheme:
    """Return ``scheme`` with these choices, in the shortest text."""
    values = set(gates.values())
    general = next(iter(values)) if len(values) == 1 else None
    if general is not None and (general.startswith("pwl") or (general == "hard" and "head" not in gates)):
        return replace(scheme, gates=general)
    keyed = tuple((key, parse_gates(value).general or GateChoice()) for key, value in gates.items())
    return replace(scheme, gates=str(GateChoices(None, keyed)))


def moves(scheme: Scheme, kinds: dict[str, str]) -> Iterator[tuple[Move, Scheme]]:
    """Yield every single change of ``scheme``, in a fixed order."""
    for axis, values in TUNED.items():
        for value in values:
            if value != getattr(scheme, axis):
                yield Move(axis, str(value)), replace(scheme, **{axis: value})
    now = gates_of(scheme, kinds)
    for choice in TABLES if len(kinds) > 1 else ():
        changed = dict.fromkeys(kinds, choice)
        if changed != now:
            yield Move("gates", choice), with_gates(scheme, changed)
    for key, kind in kinds.items():
        for choice in (*TABLES, *(("step",) if kind == "sigmoid" else ())):
            if choice != now[key]:
                yield Move(key, choice), with_gates(scheme, {**now, key: choice})


def apply(move: Move, scheme: Scheme, kinds: dict[str, str]) -> Scheme | None:
    """Return ``scheme`` after ``move``, or None where that changes nothing."""
    return next((changed for other, changed in moves(scheme, kinds) if other == move), None)
