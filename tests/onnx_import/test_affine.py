"""Mul, Sub, Div, Neg and Add of constants: they fold into the layers of weights around them, and so cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import qrnn
from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent

from .builders import Graph
from .running import agree, data, refused_with

Build = Callable[[Graph, str], str]
MEAN, STD = np.array([3.0, -200.0, 0.0, 0.5], np.float32), np.array([2.0, 30.0, 0.1, 1.0], np.float32)


def before(build: Build) -> onnx.ModelProto:
    """X [N, T, 4] → ``build`` → GRU → out."""
    g = Graph(opset=17)
    y = g.node("Transpose", [build(g, g.input("x", ["n", "t", 4]))], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, 4, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def normalized(g: Graph, x: str) -> str:
    """(x - mean) / std."""
    return str(g.node("Div", [g.node("Sub", [x, g.const(MEAN)]), g.const(STD)]))


RAW = {"x": data(3, 20, 4) * STD + MEAN}


@pytest.mark.parametrize(
    "build",
    [
        normalized,
        lambda g, x: g.node("Mul", [g.const(np.float32(0.25)), g.node("Add", [x, g.const(-MEAN)])]),
        lambda g, x: g.node("Neg", [g.node("Sub", [g.const(MEAN), x])]),
        lambda g, x: g.node("Mul", [normalized(g, x), g.const(np.array([[[1.0, -2.0, 3.0, 0.5]]], np.float32))]),
    ],
)
def test_constants_before_a_recurrent_layer_fold_into_it(build: Build) -> None:
    model = agree(before(build), RAW)
    assert [type(layer) for layer in model.layers] == [Recurrent]


def test_raw_units_are_as_accurate_as_normalized_ones() -> None:
    """The scale and the offset of each raw feature are chosen, and the constants of the graph are part of the weights."""
    model = agree(before(normalized), RAW)
    report = qrnn.compare(model, qrnn.quantize(model, RAW), RAW)
    assert report.outputs["out"].about_mean_db >= min(45.0, report.floor["out"].about_mean_db - 1.5)


def test_constants_behind_a_layer_of_weights_fold_into_it() -> None:
    """Also where a graph output and another layer read the result."""
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 4])
    y = g.node("MatMul", [x, g.random(4, 3)])
    y = g.node("Div", [g.node("Mul", [y, g.random(3)]), g.const(np.float32(-4))], ["scaled"])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [y], perm=[1, 0, 2]), 3, 5)[0]], ["out"])
    g.output("scaled")
    g.output("out", 4)
    model = agree(g.model(), {"x": data(2, 5, 4)})
    assert [type(layer) for layer in model.layers] == [Dense, Dense, Recurrent]


def test_constants_between_layers_that_take_none_are_a_layer_of_their_own() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Tanh", [g.node("Mul", [g.node("Relu", [y]), g.random(5)])])
    g.node("Identity", [y], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(2, 5, 4)})
    assert [type(layer) for layer in model.layers] == [Recurrent, Pointwise, Affine, Pointwise]


def test_a_reader_without_a_matrix_beside_one_with() -> None:
    """The recurrent layer takes the constants into its weights; the residual reads the written tensor."""

    def build(g: Graph, x: str) -> str:
        y = normalized(g, x)
        return str(g.node("Add", [g.node("MatMul", [y, g.random(4, 4)]), y]))

    model = agree(before(build), RAW)
    assert [type(layer) for layer in model.layers] == [Dense, Dense, Add, Recurrent]


def test_before_a_convolution_with_padding_only_scales_fold() -> None:
    """A zero that pads is zero behind the constants too."""

    def build(g: Graph, x: str, op: str) -> str:
        y = g.node("Transpose", [g.node(op, [x, g.const(STD)])], perm=[0, 2, 1])
        y = g.node("Conv", [y, g.random(4, 4, 3)], pads=[1, 1])
        return str(g.node("Transpose", [y], perm=[0, 2, 1]))

    for op, kinds in (("Div", [Conv, Recurrent]), ("Sub", [Dense, Conv, Recurrent])):
        model = agree(before(lambda g, x, op=op: build(g, x, op)), RAW)  # type: ignore[misc]
        assert [type(layer) for layer in model.layers] == kinds


def test_a_scale_of_zero_keeps_the_layer() -> None:
    def build(g: Graph, x: str) -> str:
        return str(g.node("Mul", [x, g.const(np.array([1, 0, 2, 0], np.float32))]))

    assert [type(layer) for layer in agree(before(build), RAW).layers] == [Dense, Recurrent]


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (
            lambda g, x: g.node("Div", [x, g.const(np.array([1, 0, 1, 1], np.float32))]),
            ModelFileError,
            "divides by zero",
        ),
        (
            lambda g, x: g.node("Div", [g.random(2, 5, 4), x]),
            UnsupportedError,
            "only one value per feature is supported",
        ),
        (
            lambda g, x: g.node("Mul", [x, g.random(2, 5, 4)]),
            UnsupportedError,
            "only one value per feature is supported",
        ),
    ],
)
def test_what_is_refused(build: Any, error: type[QrnnError], says: str) -> None:
    refused_with(error, before(build), says)
