"""The neighbours of a configuration in a search: every single change of a width, a calibrator, the input's scheme, or a gate's function.

A width is that of everything (`Scheme.weights`, `Scheme.activations`, `Scheme.input`), or of one operand or matrix (`Scheme.widths`). A gate's
function is one for each kind of gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from qrnn.lab.axes import TUNED
from qrnn.lab.training import AXIS, configuration, epochs_of
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.quantization.choices import Choice, choices
from qrnn.quantization.gate_choice import GATE_KEYS, KIND_KEYS, GateChoice, GateChoices, parse_gates
from qrnn.quantization.inputs import source_tensors
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.widths import bits_of, parse_widths

TABLES = ("pwl:512", "pwl:128", "pwl:64", "pwl:32", "pwl:16", "hard")
"""The choices for a gate; a sigmoid also has ``step``."""


@dataclass(frozen=True)
class Space:
    """What a model has to choose: ``kinds`` as `gate_kinds` returns them, single widths (`Scheme.widths`), and ``epochs`` of training, or 0."""

    kinds: dict[str, str]
    widths: tuple[Choice, ...]
    epochs: int = 0


def space(model: FloatModel, epochs: int = 0) -> Space:
    """Return what ``model`` has to choose. Of a single source there is no key, since `Scheme.input` says its width."""
    sources = source_tensors(model)
    alone = sources if len(sources) == 1 else ()
    return Space(gate_kinds(model), tuple(c for c in choices(model) if c.key not in alone), epochs)


@dataclass(frozen=True)
class Move:
    """One change: ``what`` (an axis, a gate's key, ``gates`` for all of them, or a key of `Scheme.widths`) becomes ``value``."""

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
    parsed = parse_gates(scheme.gates)
    general, keyed = parsed.general or GateChoice(), dict(parsed.keyed)
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


def with_width(scheme: Scheme, choice: Choice, value: str) -> Scheme:
    """Return ``scheme`` with another width of one part, which is named only where it is not the general one."""
    named = {**dict(scheme.widths), choice.key: value}
    if value == choice.general(scheme):
        del named[choice.key]
    return replace(scheme, widths=parse_widths(named))


def moves(scheme: Scheme, space: Space) -> Iterator[tuple[Move, Scheme]]:
    """Yield every single change of ``scheme`` that its ``widest_operand`` allows, in a fixed order."""
    kinds, widest = space.kinds, scheme.widest_operand
    for axis, values in TUNED.items():
        for value in values:
            too_wide = axis in ("activations", "input") and value != AUTO and bits_of(str(value)) > widest
            if value != getattr(scheme, axis) and not too_wide:
                yield Move(axis, str(value)), replace(scheme, **{axis: value})
    if space.epochs:
        value = 0 if epochs_of(scheme) else space.epochs
        yield Move(AXIS, str(value)), replace(configuration(scheme), finetune=value)
    now = gates_of(scheme, kinds)
    for choice in TABLES if len(kinds) > 1 else ():
        changed = dict.fromkeys(kinds, choice)
        if changed != now:
            yield Move("gates", choice), with_gates(scheme, changed)
    for key, kind in kinds.items():
        for choice in (*TABLES, *(("step",) if kind == "sigmoid" else ())):
            if choice != now[key]:
                yield Move(key, choice), with_gates(scheme, {**now, key: choice})

    given = dict(scheme.widths)
    for part in space.widths:
        for width in part.values:
            if width != given.get(part.key, part.general(scheme)) and bits_of(width) <= widest:
                yield Move(part.key, width), with_width(scheme, part, width)


def apply(move: Move, scheme: Scheme, space: Space) -> Scheme | None:
    """Return ``scheme`` after ``move``, or None where that changes nothing."""
    return next((changed for other, changed in moves(scheme, space) if other == move), None)
