"""Small valid ONNX models that the fuzzer starts from: every cell, direction and attribute, heads, and the shapes that exporters write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from conformance_cases import own_cases
from onnx import TensorProto, helper
from onnx_import.builders import GATES, Graph, head, single
from onnx_import.random_loops import FLAGS, PLAIN, as_loop
from onnx_import.upsampled import features

from fuzzing.outcome import ROOT

SHARED = ROOT.parent / "shared" / "models"

LARGEST_SHARED = 130_000
"""Bytes of a given file that still counts as small."""

OPS = ("LSTM", "GRU", "RNN")


def _ints(g: Graph, *values: int) -> str:
    return g.const(np.array(values, np.int64))


def stack(op: str) -> onnx.ModelProto:
    """Build two layers, a residual sum and a softmax."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", "t", 5])], perm=[1, 0, 2])
    a = g.axes_op("Squeeze", g.recurrent(op, x, 5, 5, name="a")[0], [1])
    a = g.node("Add", [a, x])
    b = g.axes_op("Squeeze", g.recurrent(op, a, 5, 4, name="b")[0], [1])
    y = g.node("Transpose", [b], perm=[1, 0, 2])
    g.node("Softmax", [g.node("MatMul", [y, g.random(4, 3)])], ["p"], axis=-1)
    g.output("p")
    return g.model()


def exported_states(op: str) -> onnx.ModelProto:
    """Build initial states as PyTorch's exporter writes them: zeros expanded to the batch, whose size comes from Shape."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    n = g.node("Gather", [g.node("Shape", [x]), g.const(np.int64(1))], axis=0)
    shape = g.node("Concat", [_ints(g, 1), g.axes_op("Unsqueeze", n, [0]), _ints(g, 5)], axis=0)
    h = g.node("Expand", [g.const(np.zeros((1, 1, 5), np.float32)), shape])
    c = g.node("ConstantOfShape", [shape]) if op == "LSTM" else ""
    y, yh = g.recurrent(op, x, 4, 5, h=h, c=c)[:2]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Tanh", [g.node("Add", [g.node("MatMul", [y, g.random(5, 2)]), g.random(2)])], ["y"])
    g.node("Identity", [yh], ["h"])
    g.output("y")
    g.output("h")
    return g.model()


def computed_weights(op: str) -> onnx.ModelProto:
    """Build weights that arrive through Slice, Concat and Unsqueeze, as the newer exporter writes them."""
    g = Graph(18)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    x = g.node("Transpose", [g.input("x", ["n", 6, 4])], perm=[1, 0, 2])

    def blocks(columns: int) -> str:
        whole = g.random(gates * 5, columns)
        parts = [g.slice(whole, [5 * k], [5 * k + 5], [0]) for k in range(gates)]
        joined = g.node("Concat", parts[::-1], axis=0) if gates > 1 else parts[0]
        return str(g.axes_op("Unsqueeze", joined, [0]))

    bias = g.node("Concat", [g.random(1, gates * 5), g.random(1, gates * 5)], axis=1)
    names = ["y", "yh"] + (["yc"] if op == "LSTM" else [])
    g.node(op, [x, blocks(4), blocks(5), bias], names, name="rnn", hidden_size=5)
    last = g.node("Gather", ["yh", g.const(np.int64(0))], axis=0)
    g.node("Gemm", [last, g.random(3, 5), g.random(3)], ["out"], transB=1)
    g.output("out", 2)
    return g.model()


def tokens() -> onnx.ModelProto:
    """Build a token input, an embedding table and the last step."""
    g = Graph()
    rows = g.node("Gather", [g.random(7, 4), g.input("ids", ["n", "t"], TensorProto.INT64)])
    y = g.recurrent("GRU", g.node("Transpose", [rows], perm=[1, 0, 2]), 4, 5)[0]
    last = g.axes_op("Squeeze", g.slice(y, [-1], [2**63 - 1], [0]), [0, 1])
    g.node("Sigmoid", [g.node("Gemm", [last, g.random(5, 2)])], ["out"])
    g.output("out", 2)
    return g.model()


def one_step(op: str) -> onnx.ModelProto:
    """Build one step per call, the state going in and out as graph input and output."""
    g = Graph(16)
    x, state = g.input("x", ["n", 4]), g.input("state", [2, "n", 5])
    h = g.axes_op("Unsqueeze", g.node("Gather", [state, g.const(np.int64(0))], axis=0), [0])
    if op == "LSTM":
        outputs = g.recurrent(op, g.axes_op("Unsqueeze", x, [0]), 4, 5, h=h, c=g.slice(state, [1], [2], [0]))
        second = outputs[2]
    else:
        outputs = g.recurrent(op, g.axes_op("Unsqueeze", x, [0]), 4, 5, h=h)
        again = g.recurrent(op, outputs[1], 5, 5, name="b", h=g.slice(state, [1], [2], [0]))
        second = again[1]
    hidden = g.axes_op("Squeeze", outputs[1], [0])
    g.node("Sigmoid", [g.node("Gemm", [g.node("Relu", [hidden]), g.random(5, 2)])], ["out"])
    g.node("Concat", [outputs[1], second], ["state_out"], axis=0)
    g.output("out", 2)
    g.output("state_out")
    return g.model()


def two_ways() -> onnx.ModelProto:
    """Build a forward and a reverse node joined by Concat, with a second input without time."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", "t", 2, 2])], perm=[1, 0, 2, 3])
    x = g.node("Reshape", [x, _ints(g, 0, 0, 4)])
    a = g.recurrent("GRU", x, 4, 5, name="fw")
    b = g.recurrent("LSTM", x, 4, 3, name="bw", direction="reverse")
    every = g.node("Concat", [g.axes_op("Squeeze", a[0], [1]), g.axes_op("Squeeze", b[0], [1])], axis=-1)
    g.node("Transpose", [every], ["steps"], perm=[1, 0, 2])
    last = g.node("Concat", [g.axes_op("Squeeze", b[1], [0]), g.input("extra", ["n", 2])], axis=1)
    g.node("LeakyRelu", [g.node("Gemm", [last, g.random(5, 3), g.random(3)])], ["last"], alpha=0.1)
    g.output("steps")
    g.output("last", 2)
    return g.model()


def split_and_slices() -> onnx.ModelProto:
    """Build features that are picked, split, sliced with negative steps and joined again."""
    g = Graph()
    x = g.input("x", ["n", "t", 6])
    picked = g.node("Gather", [x, _ints(g, 5, 0, 2, 2)], axis=2)
    y = g.recurrent("RNN", g.node("Transpose", [picked], perm=[1, 0, 2]), 4, 5)[0]
    y = g.axes_op("Squeeze", y, [1])
    left, right = g.node("Split", [y, _ints(g, 2, 3)], 2, axis=2)
    turned = g.node("Slice", [right, _ints(g, 2), _ints(g, -9), _ints(g, 2), _ints(g, -1)])
    g.node("Concat", [turned, g.node("Elu", [left])], ["y"], axis=2)
    g.output("y")
    return g.model()


def masked_constants() -> onnx.ModelProto:
    """Build constants that need folding: shapes computed by arithmetic, a bias scaled, a cast table."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("LSTM", x, 4, 6)[0], [1])
    size = g.node("Mul", [_ints(g, 2), _ints(g, 3)])
    y = g.node("Reshape", [y, g.node("Concat", [_ints(g, 0, 0), size], axis=0)])
    weight = g.node("Mul", [g.random(6, 2), g.const(np.float32(0.5))])
    bias = g.node("Sub", [g.node("Cast", [_ints(g, 1, 2)], to=TensorProto.FLOAT), g.random(2)])
    g.node("Add", [g.node("MatMul", [y, weight]), bias], ["y"])
    g.output("y")
    return g.model()


def in_function() -> onnx.ModelProto:
    """Build a recurrent node inside a model-local function, as the newer exporter leaves some."""
    model = head("GRU")
    graph = model.graph
    k = next(k for k, n in enumerate(graph.node) if n.op_type == "GRU")
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[k])
    inputs, outputs = [i for i in node.input if i], [o for o in node.output if o]
    body = helper.make_function("local", "Body", inputs, outputs, [node], [helper.make_opsetid("", 17)])
    model.functions.append(body)
    graph.node[k].CopyFrom(helper.make_node("Body", inputs, outputs, domain="local", name="call"))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def outside_weights() -> onnx.ModelProto:
    """Build weights kept in a file beside the model; see `SIDE_FILE`."""
    model = head("LSTM")
    offset = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > 64:
            size = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", str(offset)), ("length", str(size))):
                tensor.external_data.add(key=key, value=value)
            offset += size
    return model


SIDE_FILE = np.random.default_rng(7).uniform(-0.6, 0.6, 4096).astype(np.float32).tobytes()
"""What ``weights.bin`` holds."""


def in_branch() -> onnx.ModelProto:
    """Build a recurrent node in the branches of an If."""
    model = head("RNN")
    graph = model.graph
    inner = list(graph.node)
    branch = helper.make_graph(inner, "branch", [], [graph.output[0]])
    twin = helper.make_graph(inner, "branch2", [], [graph.output[0]])
    for part, suffix in ((branch, "_a"), (twin, "_b")):
        made = {o for n in part.node for o in n.output}
        for node in part.node:
            node.input[:] = [i + suffix if i in made else i for i in node.input]
            node.output[:] = [o + suffix if o else o for o in node.output]
        part.output[0].name += suffix
    del graph.node[:]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    graph.node.append(helper.make_node("If", ["yes"], [graph.output[0].name], then_branch=branch, else_branch=twin))
    return model


def old_style() -> onnx.ModelProto:
    """Build a model of IR version 3, in which initializers are graph inputs too."""
    model = head("LSTM", 7)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def upsampled() -> onnx.ModelProto:
    """Build transposed convolutions over time and bands, crops of both, repeated bands and steps, and channels that become steps."""
    g = Graph()
    x = features(g, "tf", 4, 3)
    y = g.node("ConvTranspose", [x, g.random(4, 2, 2, 3), g.random(4)], strides=[1, 2], pads=[0, 1, 0, 1], group=2)
    y = g.node("Slice", [y, _ints(g, 0), _ints(g, -1), _ints(g, 2)])
    y = g.node("Resize", [y, "", g.const(np.array([1, 1, 2, 2], np.float32))], mode="nearest")
    y = g.node("ConvTranspose", [y, g.random(4, 4, 3, 1)], strides=[2, 1], output_padding=[1, 0], dilations=[2, 1])
    g.node("DepthToSpace", [y], ["y"], blocksize=2)
    g.output("y", 4)
    return g.model()


def _graphs() -> Iterator[tuple[str, onnx.ModelProto]]:
    for op in OPS:
        for opset in (7, 9, 11, 13, 14, 17, 21):
            yield f"head {op} {opset}", head(op, opset)
        yield f"head {op} two ways", head(op, direction="bidirectional", lengths=True)
        yield f"head {op} baked", head(op, batch=1, time=4)
        for layout in (0, 1):
            for states in (False, True):
                for direction in ("forward", "bidirectional"):
                    model = single(op, layout=layout, states=states, lengths=states, direction=direction)
                    yield f"single {op} {layout} {states} {direction}", model
        yield f"stack {op}", stack(op)
        yield f"exported states {op}", exported_states(op)
        yield f"computed weights {op}", computed_weights(op)
        yield f"one step {op}", one_step(op)
        for flag in (False, True):
            drawn = replace(PLAIN, op=op, order=tuple(range(GATES[op])), **dict.fromkeys(FLAGS, flag))
            yield f"loop {op} {flag}", as_loop(drawn)
            yield f"scan {op} {flag}", as_loop(replace(drawn, scan=True, reverse_out=not flag))
    for make in (
        *(tokens, two_ways, split_and_slices, masked_constants),
        *(in_function, outside_weights, in_branch, old_style, upsampled),
    ):
        yield make.__name__, make()


@cache
def corpus() -> tuple[tuple[str, bytes], ...]:
    """Return (name, file) of every generated model. Graphs come first, since they hold more."""
    graphs = [(name, model.SerializeToString()) for name, model in _graphs()]
    nodes = [(case.name, case.model.SerializeToString()) for case in own_cases()]
    return (*graphs, *nodes)


@cache
def graph_count() -> int:
    """Return how many of the corpus are whole graphs."""
    return sum(1 for _ in _graphs())


@cache
def shared_files() -> tuple[tuple[str, bytes], ...]:
    """Return the small ones of the given trained models; none where they are absent."""
    paths: list[Any] = sorted(SHARED.rglob("*.onnx")) if SHARED.is_dir() else []
    return tuple((path.name, path.read_bytes()) for path in paths if path.stat().st_size <= LARGEST_SHARED)


def side_files(folder: Path) -> None:
    """Write files that hostile models may point at: weights beside the model, and what must not be read or waited for."""
    (folder / "models").mkdir()
    inside = folder / "models"
    (inside / "weights.bin").write_bytes(SIDE_FILE)
    (folder / "secret.bin").write_bytes(SIDE_FILE)
    (inside / "link.bin").symlink_to(folder / "secret.bin")
    os.mkfifo(inside / "pipe.bin")
    with (inside / "huge.bin").open("wb") as file:
        file.truncate(4 << 30)  # without a block on the disk
