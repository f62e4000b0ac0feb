"""Comparisons and Where of features, by ONNX Runtime's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from schemes import SHORTS

from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.activation import Activation
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.running.session import Session
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
X = {"x": data(3, 7, 4)}


def behind(build: Any) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → y [N, T, 5] → ``build(g, y)`` → out."""
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out")
    return g.model()


def number(g: Graph, value: float) -> str:
    return g.const(np.float32(value))


def test_softplus_with_a_threshold_is_softplus() -> None:
    """PyTorch's newer exporter writes it so."""

    def build(g: Graph, y: str) -> str:
        y = g.node("Mul", [y, number(g, 30)])
        return str(g.node("Where", [g.node("Greater", [y, number(g, 20)]), y, g.node("Softplus", [y])]))

    model = agree(behind(build), X)
    assert [layer.activation for layer in model.layers if isinstance(layer, Pointwise)] == [Activation("softplus")]


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_choice_by_a_comparison_with_a_constant(op: str, turned: bool) -> None:
    """A function of one number in two pieces; where both sides are equal, it differs."""

    def build(g: Graph, y: str) -> str:
        operands = [y, number(g, 0.0625)]
        holds = g.node(op, operands[::-1] if turned else operands)
        return str(g.node("Where", [holds, g.node("Tanh", [y]), g.node("Mul", [y, number(g, -0.5)])]))

    agree(behind(build), X)


def test_the_integers_of_a_function_in_two_pieces() -> None:
    def build(g: Graph, y: str) -> str:
        falls = g.node("Mul", [y, number(g, -0.5)])
        return str(g.node("Where", [g.node("Less", [y, number(g, 0.0)]), falls, g.node("Mul", [y, y])]))

    model = agree(behind(build), X)
    want = run_oracle(model, X).outputs["out"]
    got = Session(quantize(model, X, SHORTS), "reference").run(X).outputs["out"]
    assert np.abs(want - got).max() < 0.02 * np.ptp(want)


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("fill", ["features", "constants", "one"])
def test_a_choice_of_other_features_by_a_comparison(op: str, fill: str) -> None:
    def build(g: Graph, y: str) -> str:
        other = g.node("MatMul", [y, g.random(5, 5)])
        holds = g.node(op, [y, g.random(5)])
        if fill == "features":
            return str(g.node("Where", [holds, other, y]))
        return str(
            g.node(
                "Where", [g.node("Not", [holds]), g.random(5), other] if fill == "one" else [holds, other, g.random(5)]
            )
        )

    agree(behind(build), X)


def test_a_comparison_of_two_tensors() -> None:
    def build(g: Graph, y: str) -> str:
        other = g.node("MatMul", [y, g.random(5, 5)])
        return str(g.node("Where", [g.node("Greater", [y, other]), y, other]))

    agree(behind(build), X)


def test_a_comparison_as_a_number() -> None:
    def build(g: Graph, y: str) -> str:
        holds = g.node("Cast", [g.node("Greater", [y, number(g, 0.0)])], to=onnx.TensorProto.FLOAT)
        return str(g.node("Mul", [holds, number(g, 2)]))

    agree(behind(build), X)


def test_a_choice_by_constants() -> None:
    """A choice between features and constants is a factor and an offset; one between features moves them."""

    def build(g: Graph, y: str) -> str:
        keep = g.const(np.array([True, False, True, True, False]))
        y = g.node("Where", [keep, y, g.random(5)])
        y = g.node("Where", [g.node("Not", [keep]), number(g, -2), y])
        return str(g.node("Where", [keep, g.node("Tanh", [y]), y]))

    agree(behind(build), X)


def test_choices_that_cannot_be_read_are_refused() -> None:
    g = Graph()
    x = g.input("x", ["t", "n", 4])
    y = g.recurrent("GRU", x, 4, 5)[0]
    last = g.node("Gather", [g.axes_op("Squeeze", y, [1]), g.const(np.array(-1))], axis=0)
    holds = g.node("Greater", [last, number(g, 0)])
    g.node("Where", [holds, x, g.axes_op("Squeeze", y, [1])], ["out"], name="pick")
    g.output("out")
    refused_with(UnsupportedError, g.model(), "'pick'")


def test_where_is_no_reason_to_keep_dead_layers() -> None:
    def build(g: Graph, y: str) -> str:
        return str(g.node("Where", [g.node("Less", [y, number(g, 0)]), g.node("Mul", [y, number(g, 0.1)]), y]))

    model = agree(behind(build), X)
    assert isinstance(model.layers[0], Recurrent)
    assert len(model.layers) == 2
