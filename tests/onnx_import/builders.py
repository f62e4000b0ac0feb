"""Build small ONNX models for the importer's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
IR_VERSION = 8


class Graph:
    """Nodes and constants appended one by one; `model` completes the model."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, dims: list[Any], kind: int = TensorProto.FLOAT) -> str:
        """Add a graph input, and return its name."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def output(self, name: str, rank: int = 3) -> str:
        """Declare a value as a graph output, and return its name."""
        dims = [f"{name}_{k}" for k in range(rank)]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        return name

    def const(self, array: Any, name: str = "") -> str:
        """Add a constant, and return its name."""
        self._count += 1
        name = name or f"c{self._count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def random(self, *shape: int, name: str = "") -> str:
        """Add a constant of random numbers, and return its name."""
        return self.const(self.rng.uniform(-0.6, 0.6, size=shape).astype(np.float32), name)

    def node(self, op: str, inputs: list[str], outputs: int | list[str] = 1, name: str = "", **attributes: Any) -> Any:
        """Add a node, and return the name or the names of its outputs."""
        self._count += 1
        names = [f"{op.lower()}{self._count}_{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names[0] if len(names) == 1 else names

    def axes_op(self, op: str, value: str, axes: list[int], output: str = "") -> str:
        """Add Squeeze or Unsqueeze; axes are an attribute before opset 13."""
        names = [output] if output else 1
        if self.opset < 13:
            return self.node(op, [value], names, axes=axes)
        return self.node(op, [value, self.const(np.array(axes, dtype=np.int64))], names)

    def slice(self, value: str, starts: list[int], ends: list[int], axes: list[int], output: str = "") -> str:
        """Add a Slice."""
        names = [output] if output else 1
        if self.opset < 10:
            return self.node("Slice", [value], names, starts=starts, ends=ends, axes=axes)
        return self.node(
            "Slice", [value, *(self.const(np.array(v, dtype=np.int64)) for v in (starts, ends, axes))], names
        )

    def recurrent(
        self,
        op: str,
        x: str,
        features: int,
        hidden: int,
        name: str = "rnn1",
        lengths: str = "",
        h: str = "",
        c: str = "",
        outputs: list[str] | None = None,
        directions: int = 1,
        bias: bool = True,
        peepholes: bool = False,
        **attributes: Any,
    ) -> list[str]:
        """Add an LSTM, GRU or RNN of random weights."""
        rows = GATES[op] * hidden
        w = self.random(directions, rows, features, name=f"{name}_W")
        r = self.random(directions, rows, hidden, name=f"{name}_R")
        b = self.random(directions, 2 * rows, name=f"{name}_B") if bias else ""
        p = self.random(directions, 3 * hidden, name=f"{name}_P") if peepholes else ""
        inputs = [x, w, r, b, lengths, h] + ([c, p] if op == "LSTM" else [])
        while not inputs[-1]:
            inputs.pop()
        if directions == 2:
            attributes.setdefault("direction", "bidirectional")
        names = outputs or [f"{name}_{k}" for k in ("Y", "Yh", "Yc")[: 3 if op == "LSTM" else 2]]
        self.node(op, inputs, names, name=name, hidden_size=hidden, **attributes)
        return names

    def model(self, **more: Any) -> onnx.ModelProto:
        """Return the model, checked."""
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), *more.pop("opsets", [])]
        model = helper.make_model(graph, opset_imports=opsets, **more)
        model.ir_version = IR_VERSION
        return model


def head(
    op: str = "GRU",
    opset: int = 17,
    batch: Any = "batch",
    time: Any = "time",
    lengths: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Build x [N, T, 4] → recurrent → logits [N, T, 3]."""
    g = Graph(opset)
    x = g.input("x", [batch, time, 4])
    lens = g.input("lens", [batch], TensorProto.INT32) if lengths else ""
    xt = g.node("Transpose", [x], perm=[1, 0, 2])
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    y = g.recurrent(op, xt, 4, 5, lengths=lens, directions=directions, **attributes)[0]
    if directions == 2:
        y = g.node("Transpose", [y], perm=[0, 2, 1, 3])
        y = g.node("Reshape", [y, g.const(np.array([0, 0, -1], dtype=np.int64))])
    else:
        y = g.axes_op("Squeeze", y, [1])
    y = g.node("Dropout", [y])
    yt = g.node("Transpose", [y], perm=[1, 0, 2])
    product = g.node("MatMul", [yt, g.random(5 * directions, 3)], name="fc")
    g.node("Add", [product, g.random(3)], ["logits"])
    g.output("logits")
    return g.model()


def outputs_of(op: str) -> list[str]:
    """Return the names of a recurrent operator's outputs."""
    return ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]


def single(
    op: str,
    opset: int = 14,
    layout: int = 0,
    lengths: bool = False,
    states: bool = False,
    outputs: list[str] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """Build one node on X [T, N, 4], hidden size 5, whose outputs (all, unless given) are the graph's; layout 1 has N first in all."""
    g = Graph(opset)
    directions = 2 if more.get("direction") == "bidirectional" else 1
    x = g.input("X", ["n", "t", 4] if layout else ["t", "n", 4])
    lens = g.input("lens", ["n"], TensorProto.INT32) if lengths else ""
    given = [f"initial_{s}" for s in ("hc" if op == "LSTM" else "h")] if states else []
    h, c = ([g.input(s, ["n", directions, 5] if layout else [directions, "n", 5]) for s in given] + ["", ""])[:2]
    names = outputs_of(op) if outputs is None else outputs
    if layout:
        more["layout"] = layout
    g.recurrent(op, x, 4, 5, name="node", lengths=lens, h=h, c=c, outputs=names, directions=directions, **more)
    for name in filter(None, names):
        g.output(name, 4 if name == "Y" else 3)
    return g.model()
