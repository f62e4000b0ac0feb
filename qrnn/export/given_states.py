"""States that a graph takes as inputs are set, read back and cleared by functions of their own in exported C."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import LayerState
from qrnn.export.c_text import copy_constant
from qrnn.export.code import Code
from qrnn.export.names import Names
from qrnn.export.ports import Element, Port, StateField
from qrnn.export.real_values import RealValues, shortest
from qrnn.model.boundary import to_integers
from qrnn.model.layer_facts import StateArray
from qrnn.model.parts import FloatArray, Int64Array, QuantInitialState
from qrnn.model.quant_model import QuantModel

WORDS = ("set", "get", "clear")
"""What the functions of a state do, as their names have it: NAME_set_STATE."""

TYPES: dict[Element, tuple[int, int]] = {"int16_t": (-(1 << 15), (1 << 15) - 1), "int32_t": (-(1 << 31), (1 << 31) - 1)}


@dataclass(frozen=True)
class Start:
    """A state of a layer that begins with elements of a port: index ``part`` of the first axis of the layer's state array ``array``.

    ``elements`` are those of the port, one for each value of the state.
    """

    layer: str
    array: int
    part: int
    declared: StateArray
    initial: QuantInitialState
    elements: Int64Array

    @property
    def kind(self) -> Element:
        """Return the type of the state in C."""
        return "int16_t" if self.declared.dtype is np.int16 else "int32_t"


@dataclass(frozen=True)
class StatePort:
    """A state that callers of the C may give: a graph state input, or a part of one; ``source`` are its elements there.

    The port is over time where every step is a row by itself, which may begin with a state of its own.
    """

    port: Port
    source: Int64Array
    starts: tuple[Start, ...]

    def values(self) -> RealValues:
        """Return what the port's integers are worth."""
        scales, limits = np.ones(self.port.count), np.zeros(self.port.count, np.int64)
        for start in self.starts:
            scales[start.elements] = 2.0**-start.declared.frac
            limits[start.elements] = start.declared.limit
        own = shortest(limits.tolist())
        return RealValues(shortest(scales.tolist()), (0,), int(limits.max()), own if len(own) > 1 else ())

    def initial(self) -> npt.NDArray[np.int64]:
        """Return the integers [count] that a sequence begins with where no state is given."""
        found = np.zeros(self.port.count, np.int64)
        for start in reversed(self.starts):  # the first is the one that is read back
            found[start.elements] = start.initial.value
        return found

    def integers(self, real: FloatArray) -> npt.NDArray[np.int64]:
        """Return the integers [N, count] of real values [N, F] of the graph state input, by the rule of the contract."""
        given, found = real[:, self.source], np.zeros((len(real), self.port.count), np.int64)
        for start in self.starts:
            scale, limit = 2.0**-start.declared.frac, start.declared.limit
            found[:, start.elements] = to_integers(given[:, start.elements], scale, limit)
        return found

    def random(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return random integers [size, count] of each state's whole range, with its ends more often than chance would have them."""
        found = np.zeros((size, self.port.count), np.int64)
        for start in self.starts:
            least, most = start.declared.range
            shape = (size, len(start.elements))
            values, ends = rng.integers(least, most, shape, endpoint=True), rng.random(shape)
            found[:, start.elements] = np.where(ends < 0.02, least, np.where(ends > 0.98, most, values))
        return found

    def fill(self, states: Mapping[str, LayerState], values: npt.NDArray[np.integer]) -> None:
        """Write integers [N, count] to the states of layers, [N, …], that begin with them."""
        for start in self.starts:
            states[start.layer][start.array][:, start.part] = values[:, start.elements]

    def read(self, states: Mapping[str, LayerState], row: int) -> npt.NDArray[np.int64]:
        """Return the integers [count] that the states of layers have in a row: what NAME_get_STATE gives."""
        found = np.zeros(self.port.count, np.int64)
        for start in reversed(self.starts):
            found[start.elements] = states[start.layer][start.array][row, start.part]
        return found


def given_states(model: QuantModel, names: Names, over_time: bool) -> tuple[StatePort, ...]:
    """Return the states that callers may give: one for each graph state input that a layer begins with.

    An input whose elements begin states of several formats, which no integer stands for, is one port for each of these states.
    """
    found = []
    for given in model.inputs:
        if given.kind != "state":
            continue
        starts = list(_starts(model, given.name))
        formats: dict[int, set[tuple[int, int, int]]] = {}
        for start in starts:
            for element in start.elements.tolist():
                formats.setdefault(element, set()).add((start.declared.frac, *start.declared.range))
        if all(len(known) == 1 for known in formats.values()):
            every = np.arange(given.features, dtype=np.int64)
            parts = [(given.name, every, starts)] if starts else []
        else:
            parts = [(f"{given.name}_{s.declared.name}_{s.layer}", s.elements, [_alone(s)]) for s in starts]
        for text, source, own in parts:
            kind: Element = "int32_t" if any(start.kind == "int32_t" for start in own) else "int16_t"
            port = Port(given.name, names.new(text), kind, len(source), over_time)
            found.append(StatePort(port, source, tuple(own)))
    return tuple(found)


def _starts(model: QuantModel, source: str) -> Iterator[Start]:
    """Yield the states of layers that begin with elements of a graph state input."""
    for layer in model.layers_with_states:
        for number, declared in enumerate(layer.states()):
            for part, initial in enumerate(declared.starts):
                if initial.source == source and initial.indices is not None:
                    yield Start(layer.name, number, part, declared, initial, initial.indices)


def _alone(start: Start) -> Start:
    """Return a start whose port holds its own values alone, in their order."""
    own = np.arange(len(start.elements), dtype=np.int64)
    return Start(start.layer, start.array, start.part, start.declared, start.initial, own)


# C


def prototypes(name: str, state: StatePort) -> dict[str, str]:
    """Return the declarations of a state's functions, by what they do."""
    port = state.port
    return {
        "set": f"int {name}_set_{port.name}({name}_state *state, const {port.kind} *{port.name})",
        "get": f"void {name}_get_{port.name}(const {name}_state *state, {port.kind} *{port.name})",
        "clear": f"void {name}_clear_{port.name}({name}_state *state)",
    }


def functions(name: str, code: Code, fields: Sequence[StateField], states: Sequence[StatePort]) -> list[str]:
    """Return the definitions of the functions of all states; ``fields`` are the members of the state."""
    found = []
    for state in states:
        heads = prototypes(name, state)
        bodies = {word: [] for word in WORDS}  # type: dict[str, list[str]]
        checks: list[str] = []
        for start in state.starts:
            member, first = _member(fields, start)
            at = _element(code, state.port, start)
            count, cast = len(start.elements), start.kind != state.port.kind
            checks += _check(at, count, start.declared.range, state.port)
            to, given = f"state->{member}[{_sum(first)}]", f"{state.port.name}[{at}]"
            bodies["set"] += _loop(count, f"{to} = {f'({start.kind})' if cast else ''}{given};")
            bodies["get"] = _loop(count, f"{given} = {to};") + bodies["get"]  # the first one is read back
            bodies["clear"] += _cleared(code, member, first, start)
        bodies["set"] = [*checks, *bodies["set"], "return 0;"]
        read = {int(e) for start in state.starts for e in start.elements}
        if len(read) < state.port.count:
            bodies["get"] = [
                f"QRNN_CLEAR({state.port.name}, {state.port.count}U * sizeof({state.port.kind}));",
                *bodies["get"],
            ]
        found += ["\n".join([heads[word], "{", *(f"    {line}" for line in bodies[word]), "}"]) for word in WORDS]
    return found


def _member(fields: Sequence[StateField], start: Start) -> tuple[str, int]:
    """Return the member of the state that has a layer's state, and where in it that begins."""
    own = [f for f in fields if (f.layer, f.array) == (start.layer, start.array) and f.part in (None, start.part)]
    (field,) = own
    return field.name, start.part * len(start.elements) if field.part is None else 0


def _element(code: Code, port: Port, start: Start) -> str:
    """Return the C expression of the element of the port that value k of the state begins with."""
    elements = start.elements
    first, step = int(elements[0]), int(elements[1] - elements[0]) if len(elements) > 1 else 1
    if step > 0 and np.array_equal(elements, first + step * np.arange(len(elements))):
        return _sum(first, "k" if step == 1 else f"({step}U * k)")
    kind = "uint16_t" if int(elements.max()) < 1 << 16 else "uint32_t"
    return f"{code.shared_array(kind, f'elements_{port.name}', elements.astype(np.int32))}[k]"


def _sum(first: int, more: str = "k") -> str:
    return f"{first}U + {more}" if first else more.strip("()")


def _loop(count: int, statement: str) -> list[str]:
    return [f"for (uint32_t k = 0U; k < {count}U; k++) {{", f"    {statement}", "}"]


def _check(at: str, count: int, allowed: tuple[int, int], port: Port) -> list[str]:
    """Return statements that end the function with 1 where a value is out of its range; none where its type has no other values."""
    least, most = TYPES[port.kind]
    given = f"{port.name}[{at}]"
    tests = [f"({given} < {allowed[0]})"] if allowed[0] > least else []
    tests += [f"({given} > {allowed[1]})"] if allowed[1] < most else []
    if not tests:
        return []
    body = " || ".join(tests) if len(tests) > 1 else tests[0].removeprefix("(").removesuffix(")")
    return [
        f"for (uint32_t k = 0U; k < {count}U; k++) {{",
        f"    if ({body}) {{",
        "        return 1;",
        "    }",
        "}",
    ]


def _cleared(code: Code, member: str, first: int, start: Start) -> list[str]:
    """Return the statement that sets a state to what a sequence begins with."""
    place, count = f"&state->{member}[{first}]" if first else f"state->{member}", len(start.elements)
    if not start.initial.value.any():
        return [f"QRNN_CLEAR({place}, {count}U * sizeof({start.kind}));"]
    constant = code.shared_array(start.kind, f"start_{member}", start.initial.value)
    return [copy_constant(place, constant, count, start.kind)]


def header_lines(name: str, states: Sequence[StatePort], rows: bool) -> list[str]:
    """Return the declarations for the header, with what they do."""
    if not states:
        return []
    lines = ["/* States that you may give, in their own integers:"]
    lines += [f" *   {_line(state)}" for state in states]
    begins = "each row after it begins with them" if rows else "the next step goes on from them"
    lines += [
        f" * set: {begins}. Returns 0; or 1, and changes nothing, where a value is out of its range.",
        " * get: what the state holds now. clear: back to what it was after reset. */",
    ]
    return [*lines, *(f"{p};" for state in states for p in prototypes(name, state).values()), ""]


def _line(state: StatePort) -> str:
    values, port = state.values(), state.port
    ranges = {start.declared.range for start in state.starts}
    limit = f", |q| <= {values.limit}" if len(ranges) == 1 else ""
    return f"{port.kind} {port.name}[{port.count}]: real value = {values.formula}{limit}"


def macro_lines(name: str, states: Sequence[StatePort]) -> list[str]:
    """Return the macros of the states' sizes, scales and offsets."""
    lines = []
    for state in states:
        prefix = f"{name.upper()}_{state.port.name.upper()}"
        values = state.values()
        lines += [f"#define {prefix}_SIZE {state.port.count}", *values.macros(prefix), *values.limit_macro(prefix)]
    return lines
