"""Write ONNX nodes for recognised cells, and bring values to the layout of a recurrent node: [time, batch, features]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.cells.elements import Value
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.cells.match import Cell, activations
from qrnn.onnx_import.values import Array

AXES_ARE_INPUTS = 13
"""The opset from which on Squeeze and Unsqueeze take their axes as an input."""


class Writer:
    """New nodes and constants, with names that the graph does not have."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.reads: list[str] = []
        """Values of the graph that the new nodes read."""
        self._used = {*evaluation.values, *evaluation.stored}
        self._number = 0

    def name(self, stem: str) -> str:
        """Return a new name."""
        while True:
            self._number += 1
            made = f"{stem[:200]}/{self._number}"
            if made not in self._used:
                self._used.add(made)
                return made

    def constant(self, array: Array, stem: str) -> str:
        """Add a constant: in single precision where that holds it."""
        if array.dtype == np.float64 and (array.astype(np.float32).astype(np.float64) == array).all():
            array = array.astype(np.float32)
        name = self.name(stem)
        self.evaluation.elements.budget.value("the weights of recognised cells", array.size)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        output = output or self.name(op)
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"{output}/{op}", **attributes))
        return output

    def axes(self, op: str, value: str, axes: Sequence[int], output: str = "") -> str:
        """Add a Squeeze or an Unsqueeze."""
        if not axes:
            return self.node("Identity", [value], output) if output else value
        if self.evaluation.opset < AXES_ARE_INPUTS:
            return self.node(op, [value], output, axes=list(axes))
        return self.node(op, [value, self.constant(np.array(axes, np.int64), "axes")], output)

    def row(self, ids: Array) -> str:
        """Return a value [1, N, n] of these elements of one step."""
        whole = self.evaluation.named(ids)
        if whole is not None:
            return self._flat(whole)
        elements = self.evaluation.elements
        owners = elements.owners(ids)
        cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1), ids.size]
        parts = []
        for start, end in itertools.pairwise(cuts):
            block = elements.blocks[int(owners[start])]
            places = self.constant(ids[start:end] - block.start, "places")
            parts.append(self.node("Gather", [self._flat(block.home), places], axis=2))
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, axis=2)

    def _flat(self, name: str) -> str:
        """Return a value of the graph with its axes brought to [1, N, n]."""
        value = self.evaluation.values.get(name)
        if not isinstance(value, Value):
            raise NotACell(f"'{name}' holds constants")
        self.reads.append(name)
        shape, batch = list(value.ids.shape), value.batch
        if batch is None and (shape[:1] != [1] or len(shape) < 2):
            name, shape, batch = self.axes("Unsqueeze", name, [0]), [1, *shape], 0
        batch = batch or 0
        if len(shape) == 1:
            name, shape = self.axes("Unsqueeze", name, [1]), [*shape, 1]
        order = [batch, *(k for k in range(len(shape)) if k != batch)]
        if order != sorted(order):
            name = self.node("Transpose", [name], perm=order)
        if len(shape) > 2:
            name = self.node("Flatten", [name], axis=1)
        return self.axes("Unsqueeze", name, [0])

    def give(self, row: str, name: str) -> None:
        """Write a value [1, N, n] as the graph's value ``name``."""
        value = self.evaluation.values[name]
        assert isinstance(value, Value)
        shape, batch = list(value.ids.shape), value.batch
        batch = 0 if batch is None and shape[:1] == [1] else batch
        others = [k for k, d in enumerate(shape) if k != batch and d != 1]
        last = others[0] if others else len(shape) - 1
        if batch is None or len(others) > 1 or last < batch:
            raise NotACell(f"its state '{name}' has a layout that is not supported here")
        flat = self.axes("Squeeze", row, [0])
        self.axes("Unsqueeze", flat, [k for k in range(len(shape)) if k not in (batch, last)], name)

    def recurrent(self, cell: Cell, x: str, h: str, c: str, direction: str = "forward") -> list[str]:
        """Add the node of a cell; return the names of Y [T, 1, N, H], Y_h [1, N, H] and, for LSTM, Y_c."""
        stem = cell.home
        inputs = [x, self.constant(cell.w, f"{stem}/W"), self.constant(cell.r, f"{stem}/R")]
        inputs += [self.constant(cell.b, f"{stem}/B"), "", h]
        outputs = [self.name(f"{stem}/{y}") for y in ("Y", "Y_h")]
        attributes: dict[str, Any] = dict(activations(cell))
        if cell.op == "LSTM":
            inputs += [c, "" if cell.p is None else self.constant(cell.p, f"{stem}/P")]
            outputs.append(self.name(f"{stem}/Y_c"))
        if cell.op == "GRU":
            attributes["linear_before_reset"] = cell.linear_before_reset
        while inputs[-1] == "":
            inputs.pop()
        self.nodes.append(
            helper.make_node(
                cell.op, inputs, outputs, name=stem, hidden_size=cell.hidden, direction=direction, **attributes
            )
        )
        return outputs
