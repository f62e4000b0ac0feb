"""Einsum and MatMul of features and constants, by ONNX Runtime's results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.onnx_import.operators.linear import blocks
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

Build = Callable[[Graph, str], str]
SIZES = {"a": 2, "b": 3, "c": 2, "d": 3, "e": 2}
INT = np.int64


def split(build: Build, shape: list[int], rank: int) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → [N, T, *shape] → ``build`` → out."""
    g, features = Graph(), int(np.prod(shape))
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, features)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    y = g.node("Reshape", [y, g.const(np.array([0, 0, *shape], INT))])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out", rank)
    return g.model()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_equation(data_: Any) -> None:
    """Subscripts that are summed, kept, added by weights, and shared, in any order."""
    inner = data_.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    operands = data_.draw(
        st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True), min_size=1, max_size=2)
    )
    named = sorted({*inner, *(letter for text in operands for letter in text)})
    kept = data_.draw(st.lists(st.sampled_from(named), max_size=3, unique=True))
    result = data_.draw(st.permutations(["n", "t", *kept]))
    before = data_.draw(st.integers(0, len(operands)))
    texts = ["".join(text) for text in operands]
    texts.insert(before, "nt" + "".join(inner))

    def build(g: Graph, y: str) -> str:
        weights = [g.random(*(SIZES[letter] for letter in text)) for text in operands]
        weights.insert(before, y)
        return str(g.node("Einsum", weights, equation=f"{','.join(texts)}->{''.join(result)}"))

    agree(split(build, [SIZES[letter] for letter in inner], len(result)), {"x": data(2, 3, 4)})


@pytest.mark.parametrize(
    "equation", ["...i,io->...o", "ntgi,...gio->...ntgo", "oi,...i", "ntgi,i", "ntgi->ntig", "n t g i , g -> n t i"]
)
def test_ways_to_write_an_equation(equation: str) -> None:
    weights = {"...i,io->...o": (3, 4), "ntgi,...gio->...ntgo": (2, 3, 4), "oi,...i": (4, 3), "ntgi,i": (3,)}

    def build(g: Graph, y: str) -> str:
        shape = weights.get(equation, (2,))
        operands = [y] if equation.count(",") == 0 else [y, g.random(*shape)]
        return str(g.node("Einsum", operands[::-1] if equation.startswith("oi") else operands, equation=equation))

    rank = {"ntgi,i": 3, "n t g i , g -> n t i": 3}.get(equation, 4)
    agree(split(build, [2, 3], rank), {"x": data(2, 3, 4)})


def test_a_layer_for_each_group_is_a_convolution_with_groups() -> None:
    proto = split(lambda g, y: str(g.node("Einsum", [y, g.random(2, 3, 4)], equation="ntgi,gih->ntgh")), [2, 3], 4)
    (layer,) = [layer for layer in agree(proto, {"x": data(2, 3, 4)}).layers if isinstance(layer, Conv)]
    assert layer.groups == 2


def test_of_a_graph_input_it_is_dense() -> None:
    """A raw input has a scale and an offset for each feature, which the weights of a dense layer take up."""
    g = Graph()
    x = g.node("Reshape", [g.input("x", ["t", "n", 4]), g.const(np.array([0, 0, 2, 2], INT))])
    y = g.node("Einsum", [x, g.random(2, 2, 3)], equation="tngi,gio->tngo")
    g.recurrent("GRU", g.node("Reshape", [y, g.const(np.array([0, 0, 6], INT))]), 6, 5, outputs=["y", ""])
    g.output("y", 4)
    assert isinstance(agree(g.model(), {"x": data(6, 3, 4)}).layers[0], Dense)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    outer=st.integers(0, 2),
    out=st.integers(1, 3),
    turned=st.booleans(),
)
def test_products_of_more_than_two_axes(shape: list[int], outer: int, out: int, turned: bool) -> None:
    """[N, T, …, M, K] · [.., K, O], and [.., O, M] · [N, T, …, M, K]."""
    shape = [*shape, 2]

    def build(g: Graph, y: str) -> str:
        lead = [*shape[:-2][len(shape[:-2]) - outer :]] if outer else []
        if turned:
            return str(g.node("MatMul", [g.random(*lead, out, shape[-2]), y]))
        return str(g.node("MatMul", [y, g.random(*lead, shape[-1], out)]))

    agree(split(build, shape, len(shape) + 2), {"x": data(2, 3, 4)})


def test_a_vector() -> None:
    agree(split(lambda g, y: str(g.node("MatMul", [y, g.random(3)])), [2, 3], 3), {"x": data(2, 3, 4)})


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda g, y: g.node("Einsum", [y, g.random(3, 3)], equation="ntgi,ij->ntgk"), ModelFileError, "not valid"),
        (lambda g, y: g.node("Einsum", [y, g.random(3, 3)], equation="ntgi,ij->ngj"), UnsupportedError, "sums over the axis T"),
        (lambda g, y: g.node("Einsum", [y, y, y], equation="ntgi,ntgj,ntgk->ntijk"), UnsupportedError, "3 computed tensors"),
        (lambda g, y: g.node("Einsum", [y, y], equation="ntgi,ntgj->ntgij"), UnsupportedError, "one axis of its own in each"),
        (lambda g, y: g.node("Einsum", [y], equation="ntii->nti"), UnsupportedError, "diagonal"),
        (lambda g, y: g.node("Einsum", [y, g.random(5, 3)], equation="ntgi,tj->ntgij"), UnsupportedError, "along its axis T"),
        (lambda g, y: g.node("Einsum", [y, g.random(4)], equation="ntgi,i->ntg"), ModelFileError, "under one subscript"),
        (lambda g, y: g.node("Einsum", [y, g.random(3)], equation="ntgi->ntg"), ModelFileError, "has 1 operands"),
        (lambda g, y: g.node("Einsum", [y], equation="nt->nt"), ModelFileError, "does not fit operands"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, error: type[QrnnError], says: str) -> None:
    shape = [3, 3] if "diagonal" in says else [2, 3]
    refused_with(error, split(build, shape, 3), says)


def test_blocks() -> None:
    rng = np.random.default_rng(0)
    for groups, rows, columns in ((1, 3, 2), (2, 1, 3), (4, 2, 2), (3, 1, 1)):
        matrix = np.zeros((groups * rows, groups * columns))
        for k in range(groups):
            matrix[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] = rng.uniform(1, 2, (rows, columns))
        assert blocks(matrix) == groups
        matrix[0, -1] = 1
        assert blocks(matrix) == 1
