"""Find the cells of one step: of a graph that runs one step a call, or of the body of a Loop or a Scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.cells import computing, moves
from qrnn.onnx_import.cells.check import check_step
from qrnn.onnx_import.cells.elements import Elements, Known, Value
from qrnn.onnx_import.cells.evaluate import DYNAMIC, Evaluation
from qrnn.onnx_import.cells.forms import NotACell, form
from qrnn.onnx_import.cells.match import Cell, complete
from qrnn.onnx_import.cells.patterns import Pattern
from qrnn.onnx_import.values import Array

assert moves  # imported for their rules
assert computing

Dims = Sequence[int | None]


@dataclass
class Found:
    """The cells of a step, in the order in which they are computed, and why what looks like a cell is none."""

    evaluation: Evaluation
    cells: list[Cell] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """The value that looks like a new hidden state → the reason."""

    def value(self, ids: Array) -> str | None:
        """Return the value of the graph that holds just these elements, in this order."""
        return self.evaluation.named(ids)

    def value_dims(self, name: str) -> tuple[list[int], int | None]:
        """Return the shape of a value, with 1 for the batch, and the axis of that."""
        value = self.evaluation.values[name]
        assert isinstance(value, Value)
        return list(value.ids.shape), value.batch


def evaluate(
    nodes: Sequence[onnx.NodeProto],
    opset: int,
    inputs: Mapping[str, tuple[Dims, int | None]],
    constants: Mapping[str, onnx.TensorProto | Array],
    budget: Budget,
    batch_size: int = DYNAMIC,
    shapes: Callable[[], Mapping[str, Dims]] = dict,
) -> Evaluation:
    """Evaluate nodes on elements.

    ``inputs`` are the shape of each value that the nodes read from outside, with the axis of its batch (None without one), whose size is not
    looked at; ``shapes`` gives those of inner values, where they are known (`evaluate.inferred`).
    """
    evaluation = Evaluation(Elements(budget), opset, batch_size, shapes)
    for name, constant in constants.items():
        if isinstance(constant, onnx.TensorProto):
            evaluation.stored[name] = constant
        else:
            evaluation.set(name, Known(constant))
    for name, (shape, batch) in inputs.items():
        evaluation.input(name, shape, batch)
    evaluation.run(nodes)
    return evaluation


StateOf = Callable[[Pattern], Array | None]
"""What the hidden state of a pattern was before, None for a pattern that is no cell of the step; `NotACell` says why it is none."""


def step_cells(nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, states: Sequence[tuple[str, str]]) -> Found:
    """Find the cells whose states are among ``states``: pairs of a value that holds a state and the value that holds it one step later.

    Each pair has as many elements; a value may hold several states, in any layout that is the same in both. The cells are compared with the
    nodes on random numbers.
    """
    before = [carried(evaluation, old, new) for old, new in states]

    def state_of(pattern: Pattern) -> Array | None:
        found = [old[pattern.new_h] for old in before if (old[pattern.new_h] >= 0).all()]
        return _checked(pattern, found[0], before) if found else None

    return search(nodes, evaluation, state_of)


def carried(evaluation: Evaluation, old: str, new: str) -> Array:
    """Return for each element of ``new`` that of ``old`` in the same place, -1 for other elements and where the sizes differ."""
    before = np.full(evaluation.elements.count, -1, np.int64)
    a, b = evaluation.values.get(old), evaluation.values.get(new)
    if isinstance(a, Value) and isinstance(b, Value) and a.ids.size == b.ids.size:
        before[b.ids.reshape(-1)] = a.ids.reshape(-1)
    return before


def search(nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, state_of: StateOf) -> Found:
    """Find the cells of one step, whose hidden states ``state_of`` knows."""
    found = Found(evaluation)
    elements = evaluation.elements
    for block in list(elements.blocks):
        reasons = []
        for pattern in evaluation.patterns(block):
            if pattern.first:
                continue
            try:
                state = state_of(pattern)
                if state is None:
                    continue
                cell = complete(elements, pattern, np.ascontiguousarray(state))
                check_step(nodes, evaluation, cell)
            except NotACell as error:
                reasons.append(f"{pattern.op}: {error}")
                continue
            found.cells.append(cell)
            break
        else:
            if reasons:
                found.refused[block.home] = "; ".join(reasons)
    _forgive(found)
    return found


def _checked(pattern: Pattern, state: Array, before: Sequence[Array]) -> Array:
    """Return the hidden state, where the states that the equation keeps are those which its new ones become."""
    if pattern.old_h is not None and not np.array_equal(state, pattern.old_h):
        raise NotACell("the state that it keeps is not the one that its new state becomes")
    if pattern.new_c is not None and pattern.old_c is not None:
        after = [old[pattern.new_c] for old in before if (old[pattern.new_c] >= 0).all()]
        if after and not any(np.array_equal(c, pattern.old_c) for c in after):
            raise NotACell("the cell state that it keeps is not the one that its new cell state becomes")
    return state


def _forgive(found: Found) -> None:
    """Forget what was refused as a hidden state and is the cell state of a recognised cell."""
    elements = found.evaluation.elements
    for cell in found.cells:
        if cell.new_c is not None:
            block = elements.block_of(cell.new_c)
            if block is not None:
                found.refused.pop(block.home, None)


def leaves(elements: Elements, pattern: Pattern) -> list[Array]:
    """Return the elements that the matrices of a pattern's gates multiply."""
    return [term.ids for ids in pattern.gates.values() for term in form(elements, ids).dense]
