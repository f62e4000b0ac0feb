"""Put a cell together: its pattern, the elements that are its state, and W, R and B in ONNX's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qrnn.onnx_import.cells.elements import WHAT, Elements, Function
from qrnn.onnx_import.cells.forms import Dense, Form, NotACell, Single, applied, form, is_all
from qrnn.onnx_import.cells.patterns import Pattern
from qrnn.onnx_import.values import Array

GATES = {"LSTM": ("i", "o", "f", "c"), "GRU": ("z", "r", "h"), "RNN": ("i",)}
"""The gates of each operator in ONNX's order."""

ACTIVATIONS = frozenset(
    ["Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Elu", "ThresholdedRelu", "Softsign", "Softplus"]
)
"""The functions that a cell may have."""

PEEPHOLES = ("i", "o", "f")


@dataclass(frozen=True)
class Cell:
    """A recognised cell: one step of an ONNX node, and the elements that it reads and gives.

    ``w`` [1, G·H, I], ``r`` [1, G·H, H], ``b`` [1, 2·G·H] and ``p`` [1, 3·H] are the node's operands; ``x`` [I], ``h`` [H] and ``c`` [H] (LSTM
    only) are what the step reads, ``new_h`` and ``new_c`` what it gives.
    """

    op: str
    home: str
    """The value that is its new hidden state."""
    w: Array
    r: Array
    b: Array
    p: Array | None
    functions: tuple[Function, ...]
    linear_before_reset: int
    x: Array
    h: Array
    c: Array | None
    new_h: Array
    new_c: Array | None

    @property
    def hidden(self) -> int:
        """Return the number of units."""
        return self.new_h.size

    def same_weights(self, other: Cell) -> bool:
        """Return whether another cell is the same function of its operands."""
        return (
            (self.op, self.functions, self.linear_before_reset)
            == (other.op, other.functions, other.linear_before_reset)
            and (self.p is None) == (other.p is None)
            and all(np.array_equal(a, b) for a, b in zip(self._weights(), other._weights(), strict=True))
        )

    def _weights(self) -> list[Array]:
        return [a for a in (self.w, self.r, self.b, self.p) if a is not None]


@dataclass
class _Gate:
    """One gate's argument: rows of W by the elements that they multiply, R, a bias, weights of peepholes, and what is left."""

    inputs: list[tuple[Array, Array, Array]]
    """Rows, the matrix of these rows, and the elements that it multiplies."""
    recurrent: Array
    bias: Array
    peephole: Array
    left: list[Single] = field(default_factory=list)


def positions(elements: Elements, ids: Array) -> Array:
    """Return for every element its place in ``ids``, -1 for one that is not in it."""
    found = np.full(elements.count, -1, np.int64)
    found[ids] = np.arange(ids.size)
    return found


def gate_of(
    elements: Elements, found: Form, state: Array, cell_state: Array | None, also: Array | None = None
) -> _Gate:
    """Sort the terms of a gate's argument by what they multiply: the input, the state, or the cell state.

    ``also`` are elements that a term is left for, as the reset state of a GRU is.
    """
    size = found.values.size
    elements.budget.value(WHAT, 0, scratch=size * state.size + elements.count)
    elements.budget.spend(WHAT, size * state.size + elements.count)
    place = positions(elements, state)
    gate = _Gate([], np.zeros((size, state.size)), found.values.copy(), np.zeros(size))
    inner = None if cell_state is None else positions(elements, cell_state)
    dense, single = list(found.dense), list(found.single)
    for _ in range(8):
        more = Form(np.zeros(size))
        for term in dense:
            _sort(elements, gate, term, place, state, more)
        for one in single:
            hits = place[one.ids]
            owner = elements.block_of(one.ids)
            if (hits >= 0).all():
                np.add.at(gate.recurrent, (one.rows, hits), one.factors)
            elif inner is not None and (inner[one.ids] == one.rows).all():
                gate.peephole[one.rows] += one.factors
            elif (owner is not None and owner.kind in ("product", "unary")) or elements.depends(one.ids, state):
                gate.left.append(one)
            else:
                elements.budget.value(WHAT, one.ids.size**2)
                gate.inputs.append((one.rows, np.diag(one.factors), one.ids))
        gate.bias += more.values
        dense, single = more.dense, more.single
        if not dense and not single:
            return gate
    raise NotACell("a gate has more than 8 matrices one behind the other")


def _sort(elements: Elements, gate: _Gate, term: Dense, place: Array, state: Array, more: Form) -> None:
    """Add a matrix's columns to W and R; what the state reaches through other matrices is written to ``more``."""
    elements.budget.value(WHAT, 0, scratch=2 * term.places.size * term.ids.size)
    elements.budget.spend(WHAT, 8 * term.places.size * term.ids.size)
    matrix = term.factors[:, None] * term.matrix[term.places]
    hits = place[term.ids]
    recurrent = hits >= 0
    for k in np.flatnonzero(recurrent):
        gate.recurrent[term.rows, hits[k]] += matrix[:, k]
    rest = np.flatnonzero(~recurrent)
    if not rest.size:
        return
    if not elements.depends(term.ids[rest], state):
        gate.inputs.append((term.rows, matrix[:, rest], term.ids[rest]))
        return
    for owner in np.unique(elements.owners(term.ids[rest])):
        own = rest[elements.owners(term.ids[rest]) == owner]
        ids = term.ids[own]
        if not elements.depends(ids, state):
            gate.inputs.append((term.rows, matrix[:, own], ids))
            continue
        if elements.blocks[int(owner)].kind not in ("matmul", "sum"):
            raise NotACell("a gate reads more of the state than a matrix times it")
        inner = form(elements, ids)
        elements.budget.spend(WHAT, matrix[:, own].size * sum(d.ids.size for d in inner.dense))
        more.values[term.rows] += matrix[:, own] @ inner.values
        whole = np.arange(term.rows.size)
        ones = np.ones(term.rows.size)
        for d in inner.dense:
            made = matrix[:, own][:, d.rows] @ (d.factors[:, None] * d.matrix[d.places])
            more.dense.append(Dense(term.rows, ones, made, whole, d.ids))
        for s in inner.single:
            made = matrix[:, own][:, s.rows] * s.factors
            more.dense.append(Dense(term.rows, ones, made, whole, s.ids))


def complete(elements: Elements, pattern: Pattern, state: Array) -> Cell:
    """Return the cell whose hidden state is ``state`` [H]; `NotACell` where the equation is another one."""
    hidden = pattern.new_h.size
    if not all(f.name in ACTIVATIONS for f in pattern.functions):
        raise NotACell(f"its functions are {', '.join(f.name for f in pattern.functions)}, which no cell of ONNX has")
    if state.size != hidden:
        raise NotACell(f"its state has {state.size} elements and its result {hidden}")
    gates = {}
    for name in pattern.gates:
        if pattern.op != "GRU" or name != "h":
            cell_state = pattern.new_c if name == "o" else pattern.old_c  # which peepholes read
            gates[name] = gate_of(elements, form(elements, pattern.gates[name], cell_state), state, cell_state)
    linear_before_reset, candidate_bias = 0, np.zeros(hidden)
    if pattern.op == "GRU":
        gates["h"], reset, linear_before_reset, candidate_bias = _candidate(elements, pattern, state)
        gates["r"] = gate_of(elements, form(elements, reset), state, None)
    for name, gate in gates.items():
        if gate.left:
            raise NotACell(f"gate {name} adds something that is no matrix times the input or the state")
    names = GATES[pattern.op]
    if missing := [name for name in names if name not in gates]:
        raise NotACell(f"it has no gate {', '.join(missing)}")
    if not any(gate.recurrent.any() for gate in gates.values()):
        raise NotACell("no gate reads its hidden state")
    if pattern.negated:
        _negate(gates["z"], pattern.functions[0])
    x = _distinct([ids for name in names for _, _, ids in gates[name].inputs])
    elements.budget.value(WHAT, len(names) * hidden * (x.size + hidden), scratch=len(names) * hidden * hidden)
    w = np.zeros((len(names), hidden, x.size))
    place = positions(elements, x)
    for k, name in enumerate(names):
        for rows, matrix, ids in gates[name].inputs:
            np.add.at(w[k], (rows[:, None], place[ids][None]), matrix)
    b = np.concatenate([gates[name].bias for name in names])
    recurrent_b = np.concatenate([np.zeros((len(names) - 1) * hidden), candidate_bias])
    peepholes = [gates[name].peephole for name in PEEPHOLES if name in gates]
    has_peepholes = pattern.op == "LSTM" and any(p.any() for p in peepholes)
    if pattern.op == "LSTM" and gates["c"].peephole.any():
        raise NotACell("its candidate reads the cell state")
    return Cell(
        op=pattern.op,
        home=pattern.home,
        w=w.reshape(1, len(names) * hidden, x.size),
        r=np.concatenate([gates[name].recurrent for name in names])[None],
        b=np.concatenate([b, recurrent_b])[None],
        p=np.concatenate(peepholes)[None] if has_peepholes else None,
        functions=pattern.functions,
        linear_before_reset=linear_before_reset,
        x=x,
        h=state,
        c=pattern.old_c,
        new_h=pattern.new_h,
        new_c=pattern.new_c,
    )


def _distinct(parts: list[Array]) -> Array:
    """Return each element once, in the order in which they come."""
    if not parts:
        raise NotACell("no gate reads an input")
    ids = np.concatenate(parts)
    _, first = np.unique(ids, return_index=True)
    return np.asarray(ids[np.sort(first)])


def _negate(gate: _Gate, function: Function) -> None:
    """Make one minus a gate the gate."""
    if function.name != "Sigmoid" and not (function.name == "HardSigmoid" and function.beta == 0.5):
        raise NotACell(f"its update gate is one minus {function.name}, which is no such function")
    gate.inputs[:] = [(rows, -matrix, ids) for rows, matrix, ids in gate.inputs]
    gate.recurrent *= -1
    gate.bias *= -1


def _candidate(elements: Elements, pattern: Pattern, state: Array) -> tuple[_Gate, Array, int, Array]:
    """Return the candidate of a GRU, the argument of its reset gate, linear_before_reset, and the bias inside the reset product."""
    found = form(elements, pattern.gates["h"])
    for one in found.single:
        block = elements.block_of(one.ids)
        if block is None or block.kind != "product" or not is_all(one.factors, 1) or one.rows.size != state.size:
            continue
        places = one.ids - block.start
        for r, q in ((0, 1), (1, 0)):
            reset = applied(elements, block.operands[r][places])
            if reset is None or reset[0] != pattern.functions[0]:
                continue
            inner = gate_of(elements, form(elements, block.operands[q][places]), state, None)
            if inner.inputs or inner.left:
                raise NotACell("the reset gate multiplies more than the recurrent part of the candidate")
            rest = Form(found.values, found.dense, [s for s in found.single if s is not one])
            gate = gate_of(elements, rest, state, None)
            if gate.recurrent.any():
                raise NotACell("its candidate reads the state beside the reset gate")
            gate.recurrent = inner.recurrent[np.argsort(one.rows)]
            return gate, reset[1], 1, inner.bias[np.argsort(one.rows)]
    for term in found.dense:
        for owner in np.unique(elements.owners(term.ids)):
            block = elements.blocks[int(owner)]
            if block.kind != "product" or block.size != state.size:
                continue
            for r, h in ((0, 1), (1, 0)):
                reset = applied(elements, block.operands[r])
                if reset is None or reset[0] != pattern.functions[0] or not np.array_equal(block.operands[h], state):
                    continue
                product = np.arange(block.start, block.start + block.size)
                gate = gate_of(elements, found, product, None)
                if any(elements.depends(ids, state) for _, _, ids in gate.inputs):
                    raise NotACell("its candidate reads the state beside the reset gate")
                return gate, reset[1], 0, np.zeros(state.size)
    raise NotACell("its candidate has no product of a reset gate and the state")


def activations(cell: Cell) -> Mapping[str, list[str] | list[float]]:
    """Return a cell's functions as the attributes of an ONNX node."""
    made: dict[str, list[str] | list[float]] = {"activations": [f.name for f in cell.functions]}
    for name in ("alpha", "beta"):
        values = [getattr(f, name) for f in cell.functions if getattr(f, name) is not None]
        if values:
            made[f"activation_{name}"] = values
    return made
