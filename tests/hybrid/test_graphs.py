"""What stands around the recurrent layer: layouts, kinds of inputs, and what float parts read and give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_import.builders import Graph
from onnx_import.running import data, runtime

from hybrid.parts import PLAIN, converted, gru, kinds, loop, odd, saved
from qrnn.errors import BackendError, UnsupportedError
from qrnn.hybrid.compare import compare_parts
from qrnn.hybrid.convert import convert_with_float_parts
from qrnn.hybrid.file import load, save
from qrnn.hybrid.model import HybridModel
from qrnn.running.session import Session

pytest.importorskip("onnxruntime")


def over_time(g: Graph, x: str, batch_first: bool = True) -> None:
    """An operator without a handler in front of a GRU and one behind it."""
    h = gru(g, odd(g, g.node("MatMul", [x, g.random(4, 4)])), 4, 5, "rnn", batch_first)
    odd(g, g.node("MatMul", [h, g.random(5, 3)]), "y")
    g.output("y")


LAYOUTS: dict[str, tuple[list[Any], bool]] = {
    "batch first": (["n", "t", 4], True),
    "time first": (["t", "n", 4], False),
    "without names": ([None, None, 4], True),
    "time first, without names": ([None, None, 4], False),
    "a baked batch of 1": ([1, "t", 4], True),
    "a baked batch of 2": ([2, "t", 4], True),
    "baked steps": (["n", 6, 4], True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, tmp_path: Path) -> None:
    dims, batch_first = LAYOUTS[layout]
    g = Graph()
    over_time(g, g.input("x", dims), batch_first)
    path = saved(g, tmp_path)
    x = data(2, 6, 4)
    model = converted(path, {"x": x})
    assert model.not_streamed is None or layout == "baked steps"
    got = Session(model).run({"x": x}).outputs["y"]
    rows = [[0], [1]] if dims[0] == 1 else [[0, 1]]
    for own in rows:
        feed = x[own] if batch_first else x[own].transpose(1, 0, 2)
        want = runtime(onnx.load(path), {"x": feed})["y"]
        np.testing.assert_allclose(got[own], want if batch_first else want.transpose(1, 0, 2), atol=0.02)
    assert compare_parts(path, model, {"x": x}).outputs["y"].sqnr_db > 34


def without_batch(g: Graph) -> dict[str, Any]:
    x = g.input("x", ["t", 4])
    y = g.recurrent("GRU", g.axes_op("Unsqueeze", odd(g, x), [1]), 4, 5, "rnn")[0]
    odd(g, g.axes_op("Squeeze", y, [1, 2]), "y")
    g.output("y", 2)
    return {"x": data(3, 6, 4)}


def tokens(g: Graph) -> dict[str, Any]:
    h = gru(g, g.node("Gather", [g.random(9, 4), g.input("ids", ["n", "t"], TensorProto.INT64)]), 4, 5, "rnn")
    odd(g, h, "y")
    g.output("y")
    return {"ids": np.random.default_rng(0).integers(0, 9, (3, 7))}


def lengths_in_the_graph(g: Graph) -> dict[str, Any]:
    x, own = g.input("x", ["n", "t", 4]), g.input("own", ["n"], TensorProto.INT32)
    read = g.node("Transpose", [odd(g, x)], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("GRU", read, 4, 5, "rnn", lengths=own)[0], [1])
    odd(g, g.node("Transpose", [y], perm=[1, 0, 2]), "y")
    g.output("y")
    return {"x": data(3, 7, 4), "own": np.array([7, 3, 5], np.int32)}


def pooled_behind(g: Graph) -> dict[str, Any]:
    g.node("ReduceMean", [odd(g, gru(g, g.input("x", ["n", "t", 4]), 4, 5, "rnn"))], ["y"], axes=[1], keepdims=0)
    g.output("y", 2)
    return {"x": data(3, 7, 4)}


def last_state_behind(g: Graph) -> dict[str, Any]:
    read = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    odd(g, g.axes_op("Squeeze", g.recurrent("GRU", read, 4, 5, "rnn")[1], [0]), "y")
    g.output("y", 2)
    return {"x": data(3, 7, 4)}


def around_the_integers(g: Graph) -> dict[str, Any]:
    """A tensor of the first float part that the last one reads too, and an output that no integers are on the way to."""
    front = odd(g, g.input("x", ["n", "t", 5]))
    g.node("Mul", [odd(g, gru(g, front, 5, 5, "rnn")), front], ["y"])
    odd(g, "x", "z")
    g.output("y")
    g.output("z")
    return {"x": data(3, 7, 5)}


def zeros_of_the_batch(g: Graph) -> dict[str, Any]:
    """Initial states of zeros, whose number is read from the size of what stands before the float part."""
    x = g.input("x", ["n", "t", 5])
    count = g.axes_op("Unsqueeze", g.node("Gather", [g.node("Shape", [x]), g.const(np.array(0, np.int64))]), [0])
    one, five = (g.const(np.array([k], np.int64)) for k in (1, 5))
    zeros = g.node("ConstantOfShape", [g.node("Concat", [one, count, five], axis=0)])
    read = g.node("Transpose", [odd(g, x)], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("GRU", read, 5, 5, "rnn", h=zeros)[0], [1])
    g.node("Transpose", [y], ["y"], perm=[1, 0, 2])
    g.output("y")
    return {"x": data(3, 7, 5)}


def an_input_without_time(g: Graph) -> dict[str, Any]:
    x, s = g.input("x", ["n", "t", 4]), g.input("s", ["n", 4])
    odd(g, gru(g, g.node("Add", [odd(g, x), g.axes_op("Unsqueeze", odd(g, s), [1])]), 4, 5, "rnn"), "y")
    g.output("y")
    return {"x": data(3, 7, 4), "s": data(3, 4)}


def written_cell(g: Graph) -> dict[str, Any]:
    """An RNN of one step per call, without a recurrent node."""
    x, h = g.input("x", [1, 4]), g.input("h", [1, 5])
    total = g.node("Add", [g.node("MatMul", [odd(g, x), g.random(4, 5)]), g.node("MatMul", [h, g.random(5, 5)])])
    g.node("Tanh", [g.node("Add", [total, g.random(5)])], ["h_next"])
    odd(g, g.node("MatMul", ["h_next", g.random(5, 3)]), "y")
    g.output("y", 2)
    g.output("h_next", 2)
    return {"x": data(3, 7, 4)}


def other_operators(g: Graph) -> dict[str, Any]:
    """An operator of ONNX Runtime's own, of which ONNX knows no shapes."""
    g.opsets = [helper.make_opsetid("com.microsoft", 1)]  # type: ignore[attr-defined]
    front = g.node("BiasGelu", [g.input("x", ["n", "t", 5]), g.random(5)], domain="com.microsoft")
    g.node("MatMul", [gru(g, front, 5, 5, "rnn"), g.random(5, 3)], ["y"])
    g.output("y")
    return {"x": data(3, 7, 5)}


@pytest.mark.parametrize(
    ("build", "expected", "streams"),
    [
        (without_batch, "float integers float", True),
        (tokens, "integers float", True),
        (lengths_in_the_graph, "float integers float", True),
        (pooled_behind, "integers float", False),
        (last_state_behind, "integers float", True),
        (around_the_integers, "float integers float", True),
        (zeros_of_the_batch, "float integers", True),
        (an_input_without_time, "float integers float", True),
        (written_cell, "float integers float", True),
        (other_operators, "float integers", True),
    ],
)
def test_graphs(build: Any, expected: str, streams: bool, tmp_path: Path) -> None:
    """Whatever stands around the recurrent layer, a saved model is near the whole graph by ONNX Runtime."""
    g = Graph()
    arrays = build(g)
    path = tmp_path / "model.onnx"
    path.write_bytes(g.model(opsets=getattr(g, "opsets", [])).SerializeToString())
    made = converted(path, arrays)
    save(made, tmp_path / "model.qrnn")
    model = load(tmp_path / "model.qrnn")
    assert isinstance(model, HybridModel)
    assert " ".join(kinds(model)) == expected
    assert (model.not_streamed is None) == streams
    report = compare_parts(path, model, arrays)
    assert all(error.sqnr_db > 34 for error in report.outputs.values())
    assert "HybridModel" in repr(model)
    assert "HybridSession" in repr(Session(model))


def test_an_operator_that_nobody_knows(tmp_path: Path) -> None:
    """ONNX Runtime does not know the operator: one line says so."""
    g = Graph()
    front = g.node("Mystery", [g.input("x", ["n", "t", 5])], domain="my.own")
    g.node("MatMul", [gru(g, front, 5, 5, "rnn"), g.random(5, 3)], ["y"])
    g.output("y")
    path = tmp_path / "model.onnx"
    path.write_bytes(g.model(opsets=[helper.make_opsetid("my.own", 1)]).SerializeToString())
    with pytest.raises(BackendError, match=r"ONNX Runtime does not take this graph.*Mystery"):
        converted(path, {"x": data(3, 7, 5)})


def drawn(g: Graph, rng: np.random.Generator) -> bool:
    """A chain with short cuts of operators that have handlers and of such that have none; return whether a GRU is in it."""
    known = [g.input("x", ["n", "t", 4])]
    layers = 0
    for k in range(int(rng.integers(3, 9))):
        x, other = known[int(rng.integers(max(0, len(known) - 2), len(known)))], known[int(rng.integers(len(known)))]
        op = str(rng.choice(["gru", "gru", "Sin", "CumSum", "Loop", "Mod", "MatMul", "Add", "Tanh"]))
        if op == "gru" and layers < 3:
            x, layers = gru(g, x, 4, 4, f"rnn{k}"), layers + 1
        elif op == "CumSum":
            x = g.node("Mul", [g.node("CumSum", [x, g.const(np.array(1, np.int64))]), g.const(np.float32(0.1))])
        elif op == "Loop":
            x = loop(g, x)
        elif op == "Mod":
            x = g.node("Mod", [x, g.node("Add", [g.node("Abs", [other]), g.const(np.float32(1))])], fmod=1)
        elif op == "MatMul":
            x = g.node("MatMul", [x, g.random(4, 4)])
        elif op == "Add":
            x = g.node("Add", [x, other])
        else:
            x = g.node("Sin" if op == "Sin" else "Tanh", [x])
        known.append(x)
    g.node("MatMul", [known[-1], g.random(4, 3)], ["y"])
    g.output("y")
    return layers > 0


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed in (0, 4, 9, 16) else pytest.mark.matrix) for seed in range(60)]
)
def test_drawn_graphs(seed: int, tmp_path: Path) -> None:
    """Parts of whatever order are near the whole graph, and streams have the bits of whole runs; or one line says why there are no parts."""
    g = Graph(seed=seed)
    if not drawn(g, np.random.default_rng(seed)):
        return
    path = saved(g, tmp_path)
    x = data(3, 8, 4, seed=seed)
    try:
        model = convert_with_float_parts(path, {"x": x}, scheme=PLAIN)
    except UnsupportedError as error:
        assert "nothing of it can be in integers" in str(error) or "no recurrent node" in str(error)  # noqa: PT017
        return
    if not isinstance(model, HybridModel):
        return
    assert compare_parts(path, model, {"x": x}).outputs["y"].about_mean_db > 20
    if model.not_streamed is None:
        session = Session(model)
        whole, stream = session.run({"x": x}).outputs["y"], session.stream(3)
        for t in range(8):
            np.testing.assert_array_equal(stream.step({"x": x[:, t]})["y"], whole[:, t])
