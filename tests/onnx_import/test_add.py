"""Sums of two computed tensors: residual connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.onnx_import.operators.recurrent_attributes import CELLS

from .builders import Graph
from .running import agree, data, runtime


def body(build: Callable[[Graph, str, str], str], rank: int = 3, **more: Any) -> onnx.ModelProto:
    """Build x [N, T, 5] and the GRU's y [N, T, 5] → ``build`` → out."""
    g = Graph()
    x = g.input("x", ["n", "t", 5])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 5, 5, **more)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Identity", [build(g, x, y)], ["out"])
    g.output("out", rank)
    return g.model()


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (lambda g, x, y: g.node("Add", [x, y]), [Recurrent, Add]),
        (lambda g, x, y: g.node("Add", [y, x]), [Recurrent, Add]),
        (lambda g, x, y: g.node("Add", [y, y]), [Recurrent, Add]),
        (lambda g, x, y: g.node("Add", [g.node("Add", [x, y]), y]), [Recurrent, Add, Add]),
        (lambda g, x, y: g.node("Add", [g.node("MatMul", [y, g.random(5, 5)]), x]), [Recurrent, Dense, Add]),
        (lambda g, x, y: g.node("Add", [g.node("Add", [x, y]), g.random(5)]), [Recurrent, Add, Affine]),
        (lambda g, x, y: g.node("Add", [g.slice(y, [0], [2], [2]), g.slice(y, [2], [4], [2])]), [Recurrent, Concat, Concat, Add]),
        (lambda g, x, y: g.node("Add", [x, g.node("Gather", [y, g.const(np.array([4, 3, 2, 1, 0]))], axis=2)]), [Recurrent, Concat, Add]),
        (
            lambda g, x, y: g.node("Add", [g.node("Concat", [x, y], axis=2), g.node("Concat", [y, x], axis=2)]),
            [Recurrent, Concat, Concat, Add],
        ),
    ],
)  # fmt: skip
def test_sums(build: Callable[[Graph, str, str], str], layers: list[type]) -> None:
    model = agree(body(build), {"x": data(3, 6, 5)})
    assert [type(layer) for layer in model.layers] == layers


def test_the_same_permutation_of_both_needs_no_concat() -> None:
    def build(g: Graph, x: str, y: str) -> str:
        order = g.const(np.array([4, 3, 2, 1, 0]))
        a, b = (g.node("Gather", [v, order], axis=2) for v in (x, y))
        return g.node("Add", [a, b])

    assert [type(layer) for layer in agree(body(build), {"x": data(3, 6, 5)}).layers] == [Recurrent, Add]


def test_tensors_without_time() -> None:
    """The final states of both directions, and a graph input [N, 5]."""
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    last = g.recurrent("LSTM", xt, 4, 5, directions=2)[1]
    forward, reverse = (g.axes_op("Squeeze", v, [0]) for v in g.node("Split", [last], 2, axis=0, num_outputs=2))
    g.opset = 18
    g.node("Add", [g.node("Add", [forward, reverse]), g.input("side", ["n", 5])], ["out"])
    g.output("out", 2)
    model = agree(g.model(), {"x": data(3, 6, 4), "side": data(3, 5)})
    assert not model.outputs[0].has_time


@pytest.mark.parametrize("op", CELLS)
def test_residual_stack(op: str) -> None:
    """Three layers, each added to what it reads, and a head."""
    g = Graph()
    value = g.node("Transpose", [g.input("x", ["n", "t", 5])], perm=[1, 0, 2])
    for k in range(3):
        y = g.recurrent(op, value, 5, 5, name=f"layer{k}")[0]
        value = g.node("Add", [value, g.axes_op("Squeeze", y, [1])])
    g.node("Transpose", [g.node("MatMul", [value, g.random(5, 2)])], ["out"], perm=[1, 0, 2])
    g.output("out")
    agree(g.model(), {"x": data(3, 6, 5)})


def test_one_step() -> None:
    """h_n [1, N, 5] and x [N, 5] of a graph that runs one step per call are added at every step."""
    g = Graph()
    x, h = g.input("x", ["n", 5]), g.input("h", [1, "n", 5])
    xt = g.axes_op("Unsqueeze", x, [0])
    _, last = g.recurrent("GRU", xt, 5, 5, h=h, outputs=["y", "h_out"])
    g.node("Add", [xt, last], ["out"])
    g.output("out")
    g.output("h_out")
    proto = g.model()
    model = import_model(proto, "test")
    xs, state = data(3, 6, 5), data(1, 3, 5)
    inputs = {"x": xs, "h": state}
    assert model.one_step
    got = run_oracle(model, {"x": xs, "h": state.transpose(1, 0, 2)}).outputs["out"]
    for t in range(6):
        step = runtime(proto, inputs | {"x": xs[:, t], "h": state})
        state = step["h_out"]
        np.testing.assert_allclose(got[:, t].reshape(3, 5), step["out"][0], atol=1e-5)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda g, x, y: g.node("Add", [y, g.slice(x, [0], [2], [2])], name="sum"), "[N, T, 5] and 'slice"),
        (lambda g, x, y: g.node("Add", [g.axes_op("Unsqueeze", x, [2]), y], name="sum"), "[N, T, 1, 5] and"),
    ],
)
def test_broadcasting_is_refused(build: Callable[[Graph, str, str], str], says: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(body(build), "test")
    message = str(caught.value)
    assert says in message
    assert "only tensors of the same shape, or with feature axes of size 1, can be" in message


def test_a_tensor_without_time_meets_the_time_axis() -> None:
    """[N, T, 5] + [N, 5] lines up N with T, as ONNX counts axes from the back."""
    proto = body(lambda g, x, y: g.node("Add", [y, g.axes_op("Squeeze", g.slice(y, [-1], [2**63 - 1], [1]), [1])]))
    with pytest.raises(UnsupportedError, match="is used both as batch and as time"):
        import_model(proto, "test")


def test_states_are_not_added() -> None:
    g = Graph()
    h = g.input("h", [1, "n", 5])
    last = g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5, h=h)[1]
    g.node("Add", [last, h], ["out"], name="sum")
    g.output("out")
    with pytest.raises(UnsupportedError, match=r"node 'sum' \(Add, opset 17\): reads the state input 'h'"):
        import_model(g.model(), "test")
