"""Variances and standard deviations over time, as exporters spell them out, by ONNX Runtime's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from schemes import SHORTS

from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.multiply import Multiply
from qrnn.model.kinds.spread import Spread
from qrnn.running.session import Session
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

X = {"x": data(3, 8, 4)}


def pooled(
    square: str = "mul",
    keep: bool = True,
    divide: str = "mean",
    epsilon: float = 0.0,
    root: str = "",
    part: bool = False,
) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → mean and variance over time, side by side → dense."""
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    z, size = (g.slice(y, [1], [4], [2]), 3) if part else (y, 5)
    mean = g.node("ReduceMean", [z], axes=[1], keepdims=int(keep))
    wide = mean if keep else g.axes_op("Unsqueeze", mean, [1])
    off = g.node("Sub", [z, wide])
    squares = g.node("Mul", [off, off]) if square == "mul" else g.node("Pow", [off, g.const(np.float32(2))])
    steps = g.node("Gather", [g.node("Shape", [z]), g.const(np.array([1]))], axis=0)
    if divide != "mean":
        steps = g.node("ReduceProd", [steps], keepdims=0)
        steps = g.node("Cast", [steps], to=onnx.TensorProto.FLOAT)
        less = g.node("Sub", [steps, g.const(np.float32(1))])
    if divide == "mean":
        v = g.node("ReduceMean", [squares], axes=[1], keepdims=0)
    elif divide == "sample":  # as PyTorch writes it
        v = g.node("ReduceMean", [squares], axes=[1], keepdims=0)
        v = g.node("Div", [g.node("Mul", [v, steps]), less])
    else:
        total = g.node("ReduceSum", [squares, g.const(np.array([1]))], keepdims=0)
        v = g.node("Div", [total, steps if divide == "sum" else less])
    if epsilon:
        v = g.node("Add", [v, g.const(np.float32(epsilon))])
    if root:
        v = g.node("Sqrt", [v]) if root == "sqrt" else g.node("Pow", [v, g.const(np.float32(0.5))])
    mean = g.axes_op("Squeeze", mean, [1]) if keep else mean
    g.node("Gemm", [g.node("Concat", [mean, v], axis=1), g.random(2 * size, 3), g.random(3)], ["out"])
    g.output("out", 2)
    return g.model()


@pytest.mark.parametrize("divide", ["mean", "sample", "sum", "sum of a sample"])
@pytest.mark.parametrize("root", ["", "sqrt", "pow"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-4])
def test_any_divisor(divide: str, root: str, epsilon: float) -> None:
    model = agree(pooled(divide=divide, root=root, epsilon=epsilon), X)
    (layer,) = (layer for layer in model.layers if isinstance(layer, Spread))
    assert (layer.root, layer.sample) == (bool(root), "sample" in divide)
    assert not any(isinstance(layer, Multiply) for layer in model.layers)


@pytest.mark.parametrize("square", ["mul", "pow"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("part", [True, False])
def test_any_spelling(square: str, keep: bool, part: bool) -> None:
    """Also of a part of the features of a tensor."""
    agree(pooled(square, keep, "sample", 1e-5, "sqrt", part), X)


def test_integers() -> None:
    model = agree(pooled(root="sqrt", epsilon=1e-5), X)
    want = run_oracle(model, X).outputs["out"]
    got = Session(quantize(model, X, SHORTS), "reference").run(X).outputs["out"]
    assert np.abs(want - got).max() < 0.02 * np.ptp(want)
    assert sum(isinstance(layer, LastStep) for layer in model.layers) == 2


def test_each_sequence_has_its_own() -> None:
    model = agree(pooled(root="sqrt"), X)
    lengths = np.array([8, 5, 2])
    got = run_oracle(model, X, lengths).outputs["out"]
    for n, length in enumerate(lengths):
        alone = run_oracle(model, {"x": X["x"][n : n + 1, :length]}).outputs["out"]
        np.testing.assert_allclose(got[n], alone[0], atol=1e-9)


def spelled(build: Any) -> onnx.ModelProto:
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    off = g.node("Sub", [y, g.node("ReduceMean", [y], axes=[1])])
    g.node("Identity", [build(g, y, off)], ["out"])
    g.output("out")
    return g.model()


def test_what_steps_differ_from_their_mean_is_computed() -> None:
    """As the mean of the cepstrum is taken away."""
    agree(spelled(lambda g, y, off: g.node("Tanh", [off])), X)
    agree(spelled(lambda g, y, off: off), X)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda g, y, off: g.node("ReduceMean", [g.node("Mul", [off, off])], axes=[2]), "over the axes [2]; only time"),
        (lambda g, y, off: g.node("Div", [g.node("ReduceSum", [g.node("Mul", [off, off]), g.const(np.array([1]))]),
         g.const(np.float32(3))]), "but not by the number of steps"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Any, says: str) -> None:
    refused_with(UnsupportedError, spelled(build), says)
