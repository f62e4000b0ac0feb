"""Graphs without a batch axis, and outputs with batch and time as one axis, by ONNX Runtime's results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.axes import from_graph, to_graph
from qrnn.model.batch import make_batch
from qrnn.model.file import load, save
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.onnx_import import import_model
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

INT = np.int64


def logits(batch_first: bool, batch: Any = "n", time: Any = "t", outer: bool = False) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → [N·T, 5] or [T·N, 5] → dense, without a Reshape behind it; with ``outer`` there is an axis before."""
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", [batch, time, 4])], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [y], perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
    y = g.node("Gemm", [g.node("Reshape", [y, g.const(np.array([-1, 5], INT))]), g.random(5, 3)])
    g.axes_op("Unsqueeze", y, [0], "out") if outer else g.node("Identity", [y], ["out"])
    g.output("out", 3 if outer else 2)
    return g.model()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize(("batch", "time"), [("n", "t"), (3, 6), (1, "t"), (6, 6)])
def test_an_output_with_batch_and_time_as_one_axis(
    batch_first: bool, outer: bool, batch: Any, time: Any, tmp_path: Path
) -> None:
    """It has the shape of every output over time, [N, T, …], and a note says so."""
    proto = logits(batch_first, batch, time, outer)
    x = {"x": data(batch if isinstance(batch, int) else 3, 6, 4)}
    model = agree(proto, x)
    assert model.outputs[0].merged
    assert any("has batch and time as one axis; here it has two" in note for note in model.notes)
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path))
    x = {"x": data(7, 6, 4)}  # groups of as many sequences as the file takes
    want = run_onnxruntime(model, path, make_batch(model.inputs, x))["out"]
    np.testing.assert_allclose(run_oracle(model, x).outputs["out"], want, atol=1e-5)
    save(quantize(model, x, SHORTS), tmp_path / "m.qrnn")
    assert load(tmp_path / "m.qrnn").outputs[0].merged


def one_sequence(op: str, both: bool, states: bool, head: str, tokens: bool = False) -> onnx.ModelProto:
    """X [T, 4] → Unsqueeze → recurrent → Squeeze, as PyTorch exports recurrent layers that are given one sequence."""
    g, count = Graph(), 2 if both else 1
    if tokens:
        x = g.node("Gather", [g.random(9, 4), g.input("x", ["t"], onnx.TensorProto.INT64)])
    else:
        x = g.input("x", ["t", 4])
    h = g.axes_op("Unsqueeze", g.input("h", [count, 5]), [1]) if states else ""
    c = g.axes_op("Unsqueeze", g.input("c", [count, 5]), [1]) if states and op == "LSTM" else ""
    y, last, *_ = g.recurrent(op, g.axes_op("Unsqueeze", x, [1]), 4, 5, h=h, c=c, directions=count)
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1, 3]), g.const(np.array([0, 0, -1], INT))])
    y = g.axes_op("Squeeze", y, [1])
    if head == "last":
        y = g.node("Gather", [y, g.const(np.array(-1))], axis=0)
    elif head == "state":
        y = g.axes_op("Squeeze", last, [1])
        g.node("Tanh", [y], ["out"])
        g.output("out", 2)
        return g.model()
    g.node("MatMul", [y, g.random(5 * count, 3)], ["out"])
    g.output("out", 1 if head == "last" else 2)
    return g.model()


@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(["LSTM", "GRU", "RNN"]),
    both=st.booleans(),
    states=st.booleans(),
    head=st.sampled_from(["all", "last", "state"]),
    tokens=st.booleans(),
)
def test_a_graph_of_one_sequence(op: str, both: bool, states: bool, head: str, tokens: bool) -> None:
    count = 2 if both else 1
    x = np.arange(6) % 9 if tokens else data(6, 4)
    feeds = {"x": x} | ({"h": data(count, 5, seed=6)} if states else {})
    feeds |= {"c": data(count, 5, seed=7)} if states and op == "LSTM" else {}
    model = agree(one_sequence(op, both, states, head, tokens), feeds)
    assert all(place.batch_axis is None for place in (*model.inputs, *model.outputs))


def test_any_batch_runs_of_a_graph_of_one_sequence(tmp_path: Path) -> None:
    proto = one_sequence("LSTM", True, True, "all")
    model = import_model(proto, "test")
    x = {"x": data(3, 6, 4), "h": data(3, 2, 5, seed=6), "c": data(3, 2, 5, seed=7)}
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path))
    want = run_onnxruntime(model, path, make_batch(model.inputs, x))["out"]
    np.testing.assert_allclose(run_oracle(model, x).outputs["out"], want, atol=1e-5)
    quantized = quantize(model, x, SHORTS)
    save(quantized, tmp_path / "m.qrnn")
    assert load(tmp_path / "m.qrnn").inputs == quantized.inputs


def test_a_convolution_of_one_sequence() -> None:
    g = Graph()
    x = g.axes_op("Unsqueeze", g.input("x", [4, "t"]), [0])
    y = g.node("Conv", [x, g.random(3, 4, 3), g.random(3)], pads=[1, 1])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 3, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(4, 6)})


def test_one_number_a_step_without_a_batch() -> None:
    """[T, 1]: the last axis holds the feature, and is no batch of one sequence."""
    g = Graph()
    g.recurrent("GRU", g.axes_op("Unsqueeze", g.input("x", ["t", 1]), [1]), 1, 5, outputs=["y", ""])
    g.output("y", 4)
    assert agree(g.model(), {"x": data(6, 1)}).inputs[0].shape == (1,)


@pytest.mark.parametrize(
    "place", [GraphOutput("y", (3, 2), True, (), 1, 0, True), GraphOutput("y", (3, 2), True, (), 2, 3, True)]
)
def test_moving_merged_axes(place: GraphOutput) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 3, 2)
    moved = to_graph(place, array)
    assert moved.ndim == 3
    np.testing.assert_array_equal(from_graph(place, moved, 4), array)


@pytest.mark.parametrize("has_time", [True, False])
def test_moving_axes_without_a_batch(has_time: bool) -> None:
    array = np.arange(1 * 5 * 6).reshape(1, 5, 3, 2) if has_time else np.arange(6).reshape(1, 3, 2)
    place = GraphInput("x", "features", (3, 2), has_time, batch_axis=None, time_axis=1 if has_time else None)
    moved = to_graph(place, array)
    assert moved.shape == ((3, 5, 2) if has_time else (3, 2))
    np.testing.assert_array_equal(from_graph(place, moved), array)


def test_merged_axes_that_are_not_side_by_side_are_no_model() -> None:
    model = quantize(import_model(logits(True), "test"), {"x": data(3, 6, 4)}, SHORTS)
    with pytest.raises(ModelFileError, match="merged of the axes"):
        replace(model, outputs=tuple(replace(o, time_axis=2) for o in model.outputs))


def two_inputs(joined: bool, over_time: bool, names: list[Any]) -> onnx.ModelProto:
    """X [n, t, 4] → GRU, and z through other layers, joined behind the last step or not."""
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, 5)[1]
    z = g.input("z", names)
    if over_time:
        z = g.node("Conv", [g.node("Transpose", [z], perm=[0, 2, 1]), g.random(3, 3, 3)], pads=[1, 1])
        z = g.node("ReduceMax", [g.node("Relu", [z])], axes=[2], keepdims=0)
    else:
        z = g.node("Tanh", [g.node("Gemm", [z, g.random(3, 3)])])
    if joined:
        g.node("Gemm", [g.node("Concat", [g.axes_op("Squeeze", y, [0]), z], axis=1), g.random(8, 3)], ["out"])
    else:
        g.axes_op("Squeeze", y, [0], "out")
        g.node("Gemm", [z, g.random(3, 3)], ["other"])
        g.output("other", 2)
    g.output("out", 2)
    return g.model()


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("names", [["n", 3], [2, 3], ["n", "t", 3]])
def test_an_input_that_reaches_no_recurrent_layer(joined: bool, names: list[Any]) -> None:
    """Its batch axis is that of what it is joined to, or the one that the file names so; so is its time axis."""
    over_time = len(names) == 3
    proto = two_inputs(joined, over_time, names)
    if not joined and 2 in names:
        refused_with(UnsupportedError, proto, "input 'z' [2, 3] does not reach")
    else:
        agree(proto, {"x": data(2, 6, 4), "z": data(2, 6, 3) if over_time else data(2, 3)})
