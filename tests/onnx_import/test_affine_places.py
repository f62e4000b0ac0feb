"""A factor and an offset for each feature, in any spelling and at any place between layers, by ONNX Runtime's results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.running.session import Session
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

SPELLINGS = ("normalization", "mul add", "sub div", "one minus", "neg", "scalars", "divided")


def batch_norm(g: Graph, x: str, features: int) -> str:
    """BatchNormalization of x [N, F, …]."""
    drawn = [g.random(features), g.random(features), g.random(features)]
    return str(g.node("BatchNormalization", [x, *drawn, g.const(g.rng.uniform(0.1, 2.0, features).astype(np.float32))]))


def spelled(g: Graph, x: str, how: str, features: int) -> str:
    """Some factor and offset of x [N, T, F]."""
    positive = g.const(g.rng.uniform(0.5, 2.0, features).astype(np.float32))
    if how == "normalization":
        x = batch_norm(g, g.node("Transpose", [x], perm=[0, 2, 1]), features)
        return str(g.node("Transpose", [x], perm=[0, 2, 1]))
    if how == "mul add":
        return str(g.node("Add", [g.random(features), g.node("Mul", [g.random(1, 1, features), x])]))
    if how == "sub div":
        return str(g.node("Div", [g.node("Sub", [x, g.random(features)]), positive]))
    if how == "one minus":
        return str(g.node("Sub", [g.const(np.float32(1)), x]))
    if how == "neg":
        return str(g.node("Neg", [g.node("Add", [x, g.random(1)])]))
    if how == "scalars":
        return str(g.node("Sub", [g.node("Mul", [x, g.const(np.float32(-2.5))]), g.const(np.float32(0.75))]))
    return str(g.node("Div", [g.node("Sub", [g.random(features), x]), g.const(np.float32(4))]))


def recurrent(g: Graph, x: str, features: int, hidden: int, name: str) -> str:
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), features, hidden, name=name)[0]
    return str(g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2]))


@settings(max_examples=15, deadline=None)
@given(
    places=st.lists(st.lists(st.sampled_from(SPELLINGS), max_size=2), min_size=5, max_size=5),
    head=st.sampled_from(["none", "dense", "sigmoid", "softplus"]),
)
def test_at_any_place(places: list[list[str]], head: str) -> None:
    """Before a recurrent layer, behind it, behind what is joined of it and the input, before a head, and behind it."""
    g = Graph()

    def here(y: str, place: int, features: int) -> str:
        for how in places[place]:
            y = spelled(g, y, how, features)
        return y

    x = g.input("x", ["n", "t", 4])
    y = here(recurrent(g, here(x, 0, 4), 4, 5, "a"), 1, 5)
    y = here(g.node("Concat", [x, y], axis=2), 2, 9)
    y = here(recurrent(g, y, 9, 3, "b"), 3, 3)
    if head == "dense":
        y = g.node("MatMul", [y, g.random(3, 3)])
    elif head != "none":
        y = g.node(head.capitalize(), [y])
    g.node("Identity", [here(y, 4, 3)], ["out"])
    g.output("out")
    x = {"x": data(3, 6, 4)}
    model = agree(g.model(), x)
    want, got = (
        run_oracle(model, x).outputs["out"],
        Session(quantize(model, x, SHORTS), "reference").run(x).outputs["out"],
    )
    assert np.abs(want - got).max() < 0.1 * (np.ptp(want) + 1e-3)


@pytest.mark.parametrize(
    ("behind", "kinds"),
    [("recurrent", [Recurrent, Recurrent]), ("output", [Recurrent, Affine]), ("input", [Dense, Recurrent])],
)
def test_a_normalization_that_follows_no_weights(behind: str, kinds: list[type]) -> None:
    """It folds into the matrix that reads it; where none does, it is a layer of its own, or at a graph input a dense one."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    if behind == "input":
        x = batch_norm(g, x, 4)
        g.node("Identity", [x], ["normal"])
        g.output("normal")
    y = g.recurrent("LSTM", g.node("Transpose", [x], perm=[2, 0, 1]), 4, 5, name="a")[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 2, 0])
    if behind != "input":
        y = batch_norm(g, y, 5)
    if behind == "recurrent":
        y = g.recurrent("LSTM", g.node("Transpose", [y], perm=[2, 0, 1]), 5, 3, name="b")[0]
    g.node("Identity", [y], ["out"])
    g.output("out", 4 if behind == "recurrent" else 3)
    assert [type(layer) for layer in agree(g.model(), {"x": data(3, 6, 4)}).layers] == kinds


def test_behind_the_last_step() -> None:
    """PyTorch's BatchNorm1d of out[:, -1] has X [N, F]."""
    g = Graph()
    last = g.recurrent("LSTM", g.input("x", ["t", "n", 4]), 4, 5)[1]
    y = batch_norm(g, g.axes_op("Squeeze", last, [0]), 5)
    g.node("Gemm", [y, g.random(5, 2), g.random(2)], ["out"])
    g.output("out", 2)
    assert [type(layer) for layer in agree(g.model(), {"x": data(6, 3, 4)}).layers] == [Recurrent, Dense]


def test_over_merged_batch_and_time() -> None:
    g = Graph()
    y = recurrent(g, g.input("x", ["n", "t", 4]), 4, 5, "a")
    y = batch_norm(g, g.node("Reshape", [y, g.const(np.array([-1, 5]))]), 5)
    sizes = g.node("Concat", [g.node("Shape", ["x"], end=2), g.const(np.array([5]))], axis=0)
    g.node("Reshape", [y, sizes], ["out"])
    g.output("out")
    agree(g.model(), {"x": data(3, 6, 4)})


def test_a_normalization_over_time_is_refused() -> None:
    g = Graph()
    x = batch_norm(g, g.input("x", ["n", 6, 4]), 6)
    g.node("Identity", [recurrent(g, x, 4, 5, "a")], ["out"])
    g.output("out")
    refused_with(UnsupportedError, g.model(), "whose axis 1 is batch or time")
