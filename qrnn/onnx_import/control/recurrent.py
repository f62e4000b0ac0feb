"""Write the recurrent node that a cell is over time, and give its states in the shapes that the loop has."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from qrnn.onnx_import.cells.check import values_of
from qrnn.onnx_import.cells.elements import Value
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.cells.match import activations
from qrnn.onnx_import.control.body import NotRecognised, State
from qrnn.onnx_import.control.facts import Known
from qrnn.onnx_import.control.lifting import Lifting
from qrnn.onnx_import.control.sequences import squeeze, unsqueeze
from qrnn.onnx_import.control.step import Placed
from qrnn.onnx_import.control.writer import Writer

FLOAT = onnx.TensorProto.FLOAT


def write_cell(
    flat: Writer, placed: Placed, evaluation: Evaluation, lifting: Lifting, backward: bool, lengths: str
) -> dict[str, str]:
    """Write a cell as a recurrent node over sequences of these lengths, all steps without, and give its hidden states of all steps.

    Returns the hidden state behind the last step for each value [N, H] that holds that of a step.
    """
    cell, stem = placed.cell, placed.cell.home
    parts, ids = [], []
    for name in values_of(evaluation, cell.x):
        value = evaluation.values[name]
        assert isinstance(value, Value)
        ids.append(value.ids.reshape(-1))
        parts.append(_one_axis(flat, lifting.of(name), list(value.ids.shape), value.batch, 1, f"its input '{name}'"))
    x = parts[0]
    if len(parts) > 1:
        x = flat.names.unique(f"{stem}_x")
        flat.node("Concat", parts, [x], x, axis=2)
    place = {int(k): position for position, k in enumerate(np.concatenate(ids))}
    flat.budget.value(f"the weights of '{stem}'", cell.w.shape[1] * len(place))
    w = np.zeros((1, cell.w.shape[1], sum(i.size for i in ids)))
    for k, element in enumerate(cell.x):
        w[:, :, place[int(element)]] = cell.w[:, :, k]
    arrays = {"W": w, "R": cell.r, "B": cell.b, **({} if cell.p is None else {"P": cell.p})}
    operands = {key: flat.constant(f"{stem}_{key}", array) for key, array in arrays.items()}
    h = _initial(flat, placed.h, evaluation)
    c = "" if placed.c is None else _initial(flat, placed.c, evaluation)
    inputs = [x, operands["W"], operands["R"], operands["B"], lengths, h, *([c, operands.get("P", "")] if c else [])]
    outputs = [flat.names.unique(f"{stem}_{what}") for what in (("Y", "Y_h", "Y_c") if c else ("Y", "Y_h"))]
    attributes: dict[str, Any] = {"hidden_size": cell.hidden, **activations(cell)}
    if cell.op == "GRU":
        attributes["linear_before_reset"] = cell.linear_before_reset
    flat.node(cell.op, inputs, outputs, stem, direction="reverse" if backward else "forward", **attributes)
    time, batch = (flat.facts.of(x).dims or (None, None))[:2]
    for output, dims in zip(outputs, [(time, 1, batch, cell.hidden), *[(1, batch, cell.hidden)] * 2], strict=False):
        # the weights are of double precision, of which ONNX infers nothing for such a node
        flat.facts.give(output, Known(dims, None, FLOAT))
    steps = flat.names.unique(f"{stem}_steps")
    squeeze(flat, outputs[0], steps, 1)
    end = flat.names.unique(f"{stem}_end")
    squeeze(flat, outputs[1], end, 0)
    ends: dict[str, str] = {}
    for name, value in evaluation.values.items():
        if isinstance(value, Value) and np.array_equal(value.ids.reshape(-1), cell.new_h):
            lifting.give(name, _shaped(flat, steps, value, name))
            if value.ids.ndim == 2 and value.batch == 0:
                ends[name] = end
        elif cell.new_c is not None and isinstance(value, Value) and np.array_equal(value.ids.reshape(-1), cell.new_c):
            lifting.forbid(name, "what it gives reads the cell state of every step, which an LSTM does not give")
    for state, last in ((placed.h, outputs[1]), (placed.c, outputs[2] if c else "")):
        if state is not None and state.last:
            value = evaluation.values[state.before]
            assert isinstance(value, Value)
            _final(flat, last, state.last, list(value.ids.shape), value.batch)
    return ends


def _one_axis(flat: Writer, name: str, dims: list[int], batch: int | None, lead: int, what: str) -> str:
    """Return a value [lead …, N, F] of one whose other axes have size 1."""
    features = [k for k, d in enumerate(dims) if d != 1 and k != batch]
    keep = features or [len(dims) - 1]
    if batch is None or len(features) > 1 or keep[0] < batch:
        raise NotRecognised(f"{what} has no axis of the batch and one of features behind it")
    for k in reversed([k for k in range(len(dims)) if k != batch and k not in keep]):
        squeezed = flat.names.unique(f"{name}_squeezed")
        squeeze(flat, name, squeezed, k + lead)
        name = squeezed
    return name


def _shaped(flat: Writer, steps: str, value: Value, name: str) -> str:
    """Return hidden states [T, N, H] with the axes of size 1 that a value of a step has."""
    dims = list(value.ids.shape)
    if value.batch is None:
        return steps
    for k, size in enumerate(dims):
        if k != value.batch and size == 1 and (k < value.batch or any(d != 1 for d in dims[k + 1 :])):
            made = flat.names.unique(f"{name}_unsqueezed")
            unsqueeze(flat, steps, made, k + 1)
            steps = made
    return steps


def _initial(flat: Writer, state: State, evaluation: Evaluation) -> str:
    """Return an initial state [1, N, H]."""
    value = evaluation.values[state.before]
    assert isinstance(value, Value)
    name = _one_axis(flat, state.first, list(value.ids.shape), value.batch, 0, f"its state '{state.first}'")
    made = flat.names.unique(f"{state.first}_initial")
    unsqueeze(flat, name, made, 0)
    return made


def _final(flat: Writer, last: str, output: str, dims: list[int], batch: int | None) -> None:
    """Give a final state [1, N, H] in the shape that the loop carries it in."""
    axes = [
        k
        for k, d in enumerate(dims)
        if k != batch and d == 1 and (k < (batch or 0) or any(e != 1 for e in dims[k + 1 :]))
    ]
    name = flat.names.unique(f"{output}_squeezed") if axes else output
    squeeze(flat, last, name, 0)
    for k in axes:
        made = output if k == axes[-1] else flat.names.unique(f"{output}_unsqueezed")
        unsqueeze(flat, name, made, k)
        name = made
