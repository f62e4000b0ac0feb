"""Attention within a step, over its bands or heads: products of two computed matrices, and softmax over an inner axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.group_softmax import GroupSoftmax
from qrnn.model.kinds.matmul import MatMul
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with
from .test_attention import moved, pooled, softmax


def bands(g: Graph, y: str, *shape: int) -> str:
    """[N, T, *shape] of the features of a dense layer."""
    wide = g.node("MatMul", [y, g.random(5, int(np.prod(shape)))])
    return str(g.node("Reshape", [wide, g.const(np.array([0, 0, *shape]))]))


def last(g: Graph, value: str) -> str:
    return str(g.node("Gather", [value, g.const(np.array(-1))], axis=1))


def attention(g: Graph, y: str, heads: int, count: int, size: int) -> str:
    """softmax(q · kᵀ / √size) · v over ``count`` bands in ``heads`` heads, [N, T, heads, count, size]."""
    q, k, v = (bands(g, y, heads, count, size) for _ in range(3))
    scores = g.node("MatMul", [q, moved(g, k, 0, 1, 2, 4, 3)])
    weights = softmax(g, g.node("Div", [scores, g.const(np.float32(size**0.5 / 9))]), -1)
    return str(g.node("MatMul", [weights, v]))


@pytest.mark.parametrize(("heads", "count", "size"), [(1, 4, 3), (2, 3, 2), (3, 2, 1)])
def test_attention_within_a_step(heads: int, count: int, size: int) -> None:
    def build(g: Graph, y: str) -> str:
        made = attention(g, y, heads, count, size)
        return last(g, g.node("Reshape", [made, g.const(np.array([0, 0, heads * count * size]))]))

    feeds = {"x": data(3, 9, 4)}
    model = agree(pooled(build, heads * count * size), feeds)
    kinds = [type(layer) for layer in model.layers]
    assert (kinds.count(MatMul), kinds.count(GroupSoftmax)) == (2, 1 if heads * count > 1 else 0)
    made = quantize(model, feeds, SHORTS)
    real = oracle(model, feeds)["out"]
    assert sqnr_db(real, Session(made, "reference").run(feeds).outputs["out"]) > 30
    np.testing.assert_array_equal(
        Session(made, "cpu").run(feeds).outputs["out"], Session(made, "reference").run(feeds).outputs["out"]
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_drawn_products_and_softmaxes(drawn: st.DataObject) -> None:
    """Matrices of any sizes, repeated along leading axes, and a softmax over any inner axis."""
    groups, rows, inner, columns = (drawn.draw(st.integers(1, 3)) for _ in range(4))
    ones, axis = drawn.draw(st.booleans()), drawn.draw(st.integers(2, 4))

    def build(g: Graph, y: str) -> str:
        a, b = bands(g, y, 1 if ones else groups, rows, inner), bands(g, y, groups, inner, columns)
        made = softmax(g, g.node("MatMul", [a, b]), axis)
        return last(g, g.node("Reshape", [made, g.const(np.array([0, 0, groups * rows * columns]))]))

    agree(pooled(build, groups * rows * columns), {"x": data(2, 5, 4, seed=drawn.draw(st.integers(0, 99)))})


def beside_a_sequence_s(g: Graph, y: str) -> str:
    """A matrix of each step times one of the last step."""
    column = g.node("Reshape", [last(g, y), g.const(np.array([0, 1, 5, 1]))])
    return str(g.node("MatMul", [bands(g, y, 2, 5), column]))


REFUSED: dict[str, tuple[Any, str]] = {
    "log softmax of a part": (
        lambda g, y: g.node("LogSoftmax", [bands(g, y, 2, 3)], axis=-1),
        "leaves other feature axes",
    ),
    "a matrix of a sequence": (beside_a_sequence_s, "one with a time axis and one without"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    build, says = REFUSED[name]
    refused_with(UnsupportedError, pooled(build, rank=4), says)
