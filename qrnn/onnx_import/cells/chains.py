"""Find cells that follow each other over a fixed number of steps: each reads the states that the one before gives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import onnx

from qrnn.onnx_import.cells.alike import input_alike
from qrnn.onnx_import.cells.check import check_first, check_step
from qrnn.onnx_import.cells.elements import WHAT, Elements
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.cells.forms import Form, NotACell, form
from qrnn.onnx_import.cells.match import GATES, Cell, complete, gate_of, positions
from qrnn.onnx_import.cells.patterns import Pattern
from qrnn.onnx_import.values import Array


@dataclass
class Chain:
    """One layer's steps in their order: the cell, what each step reads and gives, and the states that the first step reads.

    An initial state is numbers, or elements of a graph input.
    """

    cell: Cell
    x: list[Array]
    new_h: list[Array]
    new_c: list[Array]
    h: Array
    c: Array | None
    given: bool
    """Whether the initial states are elements, not numbers."""

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return len(self.x)


@dataclass
class Chains:
    """The layers of a graph that is written out over time, and why what looks like one is none."""

    found: list[Chain] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def chains(nodes: list[onnx.NodeProto], evaluation: Evaluation) -> Chains:
    """Find all chains of two steps or more."""
    result = Chains()
    for steps in _linked(evaluation):
        try:
            result.found.append(_chain(nodes, evaluation, steps))
        except NotACell as error:
            result.refused[steps[0].home] = f"{steps[0].op} of {len(steps)} steps: {error}"
    result.found.sort(key=lambda c: int(c.new_h[0][0]))
    return result


def _linked(evaluation: Evaluation) -> list[list[Pattern]]:
    """Return lists of patterns of which each reads the states that the one before gives."""
    elements = evaluation.elements
    by_state: dict[tuple[str, bytes], list[Pattern]] = {}
    before: dict[int, Pattern] = {}
    after: dict[int, list[Pattern]] = {}
    patterns: list[Pattern] = []
    simple: dict[int, _Simple] = {}
    for block in elements.blocks:
        for pattern in evaluation.patterns(block):
            previous = None
            if pattern.op == "RNN":
                simple[block.start] = _Simple(elements, pattern)
                previous = simple[block.start].previous(simple)
            else:
                old = pattern.old_c if pattern.op == "LSTM" else pattern.old_h
                kept = [] if old is None else by_state.get((pattern.op, old.tobytes()), [])
                previous = max(kept, key=lambda p: not p.first, default=None)
                new = pattern.new_c if pattern.op == "LSTM" else pattern.new_h
                assert new is not None
                by_state.setdefault((pattern.op, new.tobytes()), []).append(pattern)
            patterns.append(pattern)
            if previous is not None:
                before[id(pattern)] = previous
                after.setdefault(id(previous), []).append(pattern)
    found = []
    for pattern in patterns:
        if id(pattern) in after and id(pattern) not in before:
            steps = [pattern]
            while len(after.get(id(steps[-1]), [])) == 1:
                steps.append(after[id(steps[-1])][0])
            if len(steps) > 1:
                found.append(steps)
    return found


class _Simple:
    """A dense layer with a function, which may be a step of an RNN: the matrices that it has, and the elements that they multiply."""

    def __init__(self, elements: Elements, pattern: Pattern) -> None:
        self.pattern = pattern
        try:
            found = form(elements, pattern.gates["i"])
        except NotACell:
            found = Form(np.zeros(0))
        self.matrices = {(id(d.matrix), d.places.tobytes()) for d in found.dense}
        self.reads = {int(k): None for d in found.dense for k in np.unique(elements.owners(d.ids))}
        self._blocks = elements.blocks

    def previous(self, known: dict[int, _Simple]) -> Pattern | None:
        """Return the step before: a layer with these matrices, or with some of them, whose whole result this one reads."""
        for k in reversed(self.reads):
            other = known.get(self._blocks[k].start)
            if other is not None and other is not self and other.matrices and other.matrices <= self.matrices:
                same = other.pattern.functions == self.pattern.functions
                if same and other.pattern.new_h.size == self.pattern.new_h.size:
                    return other.pattern
        return None


def _chain(nodes: list[onnx.NodeProto], evaluation: Evaluation, steps: list[Pattern]) -> Chain:
    """Return the layer that these steps are; `NotACell` where they are not the same cell, or not one from the start."""
    elements = evaluation.elements
    cell = complete(elements, steps[1], steps[0].new_h)
    inputs = [cell.x]
    for k, (before, pattern) in enumerate(itertools.pairwise(steps[1:]), 2):
        x = input_alike(elements, cell, before.new_h, pattern.old_c, pattern.new_h, pattern.new_c)
        if x is None:
            other = complete(elements, pattern, before.new_h)
            if not other.same_weights(cell):
                raise NotACell(f"its weights are others in step {k} than in step 1 (counted from 0)")
            x = other.x
        inputs.append(x)
    check_step(nodes, evaluation, cell)
    start = _start(evaluation, steps[0], cell)
    made = Chain(
        cell,
        [start.x, *inputs],
        [p.new_h for p in steps],
        [p.new_c for p in steps if p.new_c is not None],
        start.h,
        start.c,
        start.given,
    )
    check_first(nodes, evaluation, cell, start.x, start.h, start.c, start.given, steps[0].new_h, steps[0].new_c)
    return made


@dataclass
class _Start:
    """What the first step reads."""

    x: Array
    h: Array
    c: Array | None
    given: bool


def _start(evaluation: Evaluation, pattern: Pattern, cell: Cell) -> _Start:
    """Return what the first step reads: states that are given as elements, or numbers."""
    elements = evaluation.elements
    if not pattern.first:
        states = [pattern.old_h] if pattern.old_h is not None else _groups(elements, pattern)
        for state in states:
            try:
                first = complete(elements, pattern, state)
            except NotACell:
                continue
            if first.same_weights(cell):
                return _Start(first.x, first.h, first.c, True)
        if pattern.op != "RNN":
            raise NotACell("its first step is another cell than the others")
    return _first(elements, pattern, cell)


def _groups(elements: Elements, pattern: Pattern) -> list[Array]:
    """Return the groups of elements without an equation that the gates read and that have the size of the state."""
    found: dict[bytes, Array] = {}
    for ids in pattern.gates.values():
        for term in form(elements, ids).dense:
            for owner in np.unique(elements.owners(term.ids)):
                own = term.ids[elements.owners(term.ids) == owner]
                for start in range(0, own.size - pattern.new_h.size + 1, pattern.new_h.size):
                    part = np.ascontiguousarray(own[start : start + pattern.new_h.size])
                    if elements.blocks[int(owner)].kind == "leaf":
                        found[part.tobytes()] = part
    return list(found.values())


def _first(elements: Elements, pattern: Pattern, cell: Cell) -> _Start:
    """Return what a step reads that starts from numbers: its terms with the state are in its biases, or missing."""
    names = [name for name in GATES[cell.op] if name in pattern.gates]
    hidden = cell.hidden
    rows = {name: slice(k * hidden, (k + 1) * hidden) for k, name in enumerate(GATES[cell.op])}
    x: Array | None = None
    more: list[tuple[str, Array]] = []
    for name in names:
        gate = gate_of(elements, form(elements, pattern.gates[name]), np.zeros(0, np.int64), None)
        sign = -1.0 if name == "z" and pattern.negated else 1.0
        inputs, bias = _without_constants(elements, gate.inputs, gate.bias)
        if cell.op == "GRU" and name == "h" and x is not None:  # its terms with the state are compared by `check_first`
            inputs = [(at, m[:, np.isin(ids, x)], ids[np.isin(ids, x)]) for at, m, ids in inputs]
        ids = np.concatenate([np.zeros(0, np.int64), *(i for _, _, i in inputs)])
        _, order = np.unique(ids, return_index=True)
        own = np.ascontiguousarray(ids[np.sort(order)])
        if x is None and own.size == cell.x.size:
            x = own
        if x is None or not np.isin(own, x).all():
            raise NotACell("its first step reads other inputs than the others")
        elements.budget.value(WHAT, hidden * x.size)
        w = np.zeros((hidden, x.size))
        place = positions(elements, x)
        for at, matrix, i in inputs:
            np.add.at(w, (at[:, None], place[i][None]), matrix)
        if not np.array_equal(sign * w, cell.w[0][rows[name]]):
            raise NotACell("the matrix of its input is another in the first step")
        if name != "h" or cell.op != "GRU":
            wb, rb = np.split(cell.b[0], 2)
            more.append((name, sign * bias - (wb + rb)[rows[name]]))
    if x is None:
        raise NotACell("its first step reads no input")
    h = pattern.start.get("h")
    if h is None:
        r = np.concatenate([cell.r[0][rows[name]] for name, _ in more])
        elements.budget.spend(WHAT, r.size * hidden)
        h = _solved(r, np.concatenate([values for _, values in more]))
    c = pattern.start.get("c", np.zeros(hidden)) if cell.op == "LSTM" else None
    return _Start(x, h, c, False)


def _without_constants(
    elements: Elements, inputs: list[tuple[Array, Array, Array]], bias: Array
) -> tuple[list[tuple[Array, Array, Array]], Array]:
    """Add what a gate reads of constants to its bias."""
    left, bias = [], bias.copy()
    for rows, matrix, ids in inputs:
        keep = np.ones(ids.size, bool)
        for owner in np.unique(elements.owners(ids)):
            block = elements.blocks[int(owner)]
            if block.kind == "const":
                assert block.values is not None
                here = elements.owners(ids) == owner
                np.add.at(bias, rows, matrix[:, here] @ block.values[ids[here] - block.start])
                keep &= ~here
        if keep.any():
            left.append((rows, matrix[:, keep], ids[keep]))
    return left, bias


def _solved(r: Array, values: Array) -> Array:
    """Return the initial state h of which a first step's biases hold r @ h: zeros, or what solves all of them."""
    if np.abs(values).max(initial=0) <= 1e-6 * max(float(np.abs(r).max(initial=0)), 1e-30):
        return np.zeros(r.shape[1])
    solution = np.asarray(np.linalg.lstsq(r, values, rcond=None)[0])
    if np.abs(r @ solution - values).max() > 1e-5 * np.abs(values).max():
        raise NotACell("its biases are others in the first step, and no initial state makes them so")
    return solution
