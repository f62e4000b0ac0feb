"""Write the ONNX graph of a Keras model: nodes, constants, inputs and outputs, with the shape and the mask of every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qrnn.keras_import.tensors import Mask, Shape, Value
from qrnn.onnx_import.budget import ITEM_WORK, NODE_WORK, Budget

OPSET = 17
"""The first opset that has every operator which is written here."""

PRODUCER = "keras"


@dataclass
class Graph:
    """A graph that grows. ``layer`` is the Keras layer whose nodes are written, after which they are called."""

    budget: Budget
    keras_version: str
    layer: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    """The values that Embedding layers read."""
    notes: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    """The names of the model's outputs; none of a Sequential model, whose output has the name of its last layer."""
    stateful: dict[str, bool] = field(default_factory=dict)
    """Every recurrent layer, and whether it keeps its state from one call to the next."""
    mixed: list[tuple[str, Value]] = field(default_factory=list)
    """The layers that read several steps of a sequence at once, and what they read: where a mask covers one of them, it has to cover all."""
    _used: set[str] = field(default_factory=set)

    def name(self, wanted: str) -> str:
        """Return a name for a node or a value that nothing else has."""
        count, name = 0, wanted
        while name in self._used:
            count += 1
            name = f"{wanted}_{count}"
        self._used.add(name)
        return name

    def input(self, wanted: str, shape: Shape, dtype: str) -> Value:
        """Declare a graph input; open sizes but that of the batch are steps of time."""
        name = self.name(wanted)
        dims = ["N", *("T" if size is None else size for size in shape[1:])]
        kind = TensorProto.INT64 if np.dtype(dtype).kind in "iu" else TensorProto.FLOAT
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return Value(name, shape, sources=frozenset([name]))

    def constant(self, array: Any, what: str = "constant") -> str:
        """Add a constant; real numbers are float32, as in the Keras model."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        self.budget.spend("writing the graph", ITEM_WORK)
        self.budget.hold(f"layer '{self.layer}': its constants", array.nbytes)
        name = self.name(f"{self.layer}/{what}")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def names(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        self.budget.spend("writing the graph", NODE_WORK)
        name = self.name(f"{self.layer}/{op}")
        results = [self.name(f"{name}.{k}") for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), results, name=name, **attributes))
        return results

    def op(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.names(op, inputs, **attributes)[0]

    def apply(self, op: str, x: Value, *operands: str, shape: Shape | None = None, **attributes: Any) -> Value:
        """Add a node that reads a value first, and return its output; shape and mask are those of the value, unless a shape is given."""
        name = self.op(op, [x.name, *operands], **attributes)
        return Value(name, x.shape if shape is None else shape, x.mask, x.sources)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Reorder axes; the mask stays, for the caller to judge."""
        if list(perm) == list(range(x.rank)):
            return x
        return self.apply("Transpose", x, shape=tuple(x.shape[k] for k in perm), perm=list(perm))

    def reshape(self, x: Value, target: Sequence[int], shape: Shape) -> Value:
        """Reshape as ONNX does: 0 keeps a size, and one -1 is what is left."""
        return self.apply("Reshape", x, self.constant(np.array(target, np.int64), "shape"), shape=shape)

    def number(self, value: float) -> str:
        """Return a constant that is one number."""
        return self.constant(np.float32(value))

    def ints(self, *values: int) -> str:
        """Return a constant that is a list of whole numbers."""
        return self.constant(np.array(values, np.int64), "axes")

    def mixes_steps(self, x: Value) -> None:
        """Remember that this layer reads several steps of ``x`` at once."""
        self.mixed.append((self.layer, x))

    def model(self, outputs: Sequence[tuple[str, Value]]) -> onnx.ModelProto:
        """Return the model with these outputs, by name."""
        for info in self.inputs:
            if info.name in self.tokens:
                info.type.tensor_type.elem_type = TensorProto.INT64
        infos = []
        for name, value in outputs:
            self.nodes.append(helper.make_node("Identity", [value.name], [name], name=self.name(f"{name}/output")))
            dims = ["N", *("T" if size is None else size for size in value.shape[1:])]
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        graph = helper.make_graph(self.nodes, "keras", self.inputs, infos, self.constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name=PRODUCER,
            producer_version=self.keras_version,
        )


def joined_mask(values: Sequence[Value]) -> tuple[Mask | None, bool]:
    """Return the mask that all values have, and whether they agree."""
    masks = {v.mask for v in values}
    return (values[0].mask, True) if len(masks) == 1 else (None, False)
