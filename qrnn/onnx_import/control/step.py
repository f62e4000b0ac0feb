"""Find the cells of a body by their equation, and the states of the loop that are theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qrnn.onnx_import.budget import ITEM_WORK
from qrnn.onnx_import.cells.elements import Value
from qrnn.onnx_import.cells.evaluate import DYNAMIC, Evaluation
from qrnn.onnx_import.cells.match import Cell
from qrnn.onnx_import.cells.step import evaluate, step_cells
from qrnn.onnx_import.control.body import Body, NotRecognised, State
from qrnn.onnx_import.control.writer import Writer
from qrnn.onnx_import.values import Dim


@dataclass
class Placed:
    """A cell, and the states of the loop that are its own."""

    cell: Cell
    h: State
    c: State | None

    @classmethod
    def of(cls, evaluation: Evaluation, cell: Cell, states: list[State]) -> Placed:
        """Find the states of a cell."""

        def state(ids: Any, after: Any) -> State:
            for candidate in states:
                before, last = (evaluation.values.get(n) for n in (candidate.before, candidate.after))
                if not isinstance(before, Value) or not isinstance(last, Value):
                    continue
                if np.array_equal(before.ids.reshape(-1), ids) and np.array_equal(last.ids.reshape(-1), after):
                    return candidate
            raise NotRecognised("a state is a part of a value that it carries, or in another order there")

        return cls(cell, state(cell.h, cell.new_h), None if cell.c is None else state(cell.c, cell.new_c))


def cells_of(flat: Writer, body: Body, states: list[State]) -> tuple[Evaluation, list[Placed]]:
    """Return the cells of a body, which must have all of ``states``; `NotRecognised` says what is no cell."""
    evaluation, nodes = _evaluated(flat, body)
    found = step_cells(nodes, evaluation, [(s.before, s.after) for s in states])
    cells = [Placed.of(evaluation, cell, states) for cell in found.cells]
    taken = {id(s) for c in cells for s in (c.h, c.c) if s is not None}
    missing = [s.before for s in states if id(s) not in taken]
    if missing:
        reasons = "; ".join(dict.fromkeys(found.refused.values()))
        raise NotRecognised(
            f"its state '{missing[0]}' is none of an LSTM, GRU or RNN" + (f" ({reasons})" if reasons else "")
        )
    return evaluation, cells


def _evaluated(flat: Writer, body: Body) -> tuple[Evaluation, list[onnx.NodeProto]]:
    """Evaluate the body on numbered elements; return also its nodes, after those that compute what it reads of constants."""
    begin = [*(r.name for r in body.reads), *(s.before for s in body.states)]
    given: dict[str, tuple[list[int | None], int | None]] = {}
    baked: set[int] = set()
    for name in begin:
        sizes, batch = _sizes(flat.facts.of(name).dims, name)
        given[name] = sizes, batch
        if batch is not None and sizes[batch] is not None:
            baked.add(sizes[batch] or 0)
    if len(baked) > 1:
        raise NotRecognised(f"its values have the batch sizes {sorted(baked)}")
    read = dict.fromkeys(i for n in body.nodes for i in n.input if i and i not in body.inner)
    constants, nodes, rest = _constants(flat, read)
    for name in rest:
        dims = flat.facts.of(name).dims
        if dims is not None and all(isinstance(d, int) for d in dims):
            given[name] = [d for d in dims if isinstance(d, int)], None
        elif dims is not None:
            given[name] = _sizes(dims, name)
    size = next(iter(baked), DYNAMIC)
    whole = [*nodes, *body.nodes]

    def shapes() -> dict[str, list[int | None]]:
        names = [o for n in body.nodes for o in n.output if o]
        known = {name: flat.facts.of(name).dims for name in names}
        return {
            name: [d if isinstance(d, int) else None for d in dims] for name, dims in known.items() if dims is not None
        }

    return evaluate(whole, flat.opset, given, constants, flat.budget, size, shapes), whole


def _sizes(dims: tuple[Dim | None, ...] | None, name: str) -> tuple[list[int | None], int | None]:
    """Return the sizes of a value of a step, and the axis of its batch."""
    if dims is None:
        raise NotRecognised(f"the shape of '{name}' is not known")
    free = [k for k, d in enumerate(dims) if not isinstance(d, int)]
    if len(free) > 1:
        raise NotRecognised(f"'{name}' has more than one axis whose size is not known")
    batch = free[0] if free else None if len(dims) < 2 else 0 if len(dims) == 2 else len(dims) - 2
    return [d if isinstance(d, int) else None for d in dims], batch


def _constants(
    flat: Writer, names: Iterable[str]
) -> tuple[Mapping[str, onnx.TensorProto], list[onnx.NodeProto], list[str]]:
    """Return the constants that values are computed from, the nodes that do so, and the values that depend on more."""
    state: dict[str, bool] = {}
    order: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}
    for wanted in names:
        left, opened = [wanted], set[str]()
        while left:
            name = left[-1]
            if name in state:
                left.pop()
                continue
            flat.budget.spend("writing out control flow", ITEM_WORK)
            tensor, node = flat.facts.tensor(name), flat.facts.writer.get(name)
            if tensor is not None:
                state[name] = True
                constants[name] = tensor
                continue
            missing = [] if node is None else [i for i in node.input if i and i not in state]
            if missing and name not in opened:
                opened.add(name)
                left += missing
                continue
            fixed = node is not None and all(state.get(i, False) for i in node.input if i)
            for output in [name] if node is None else node.output:
                state[output] = fixed
            if fixed and node is not None:
                order.append(node)
    return constants, order, [name for name in names if not state[name]]
