"""Attention pooling over time as graphs spell it: against ONNX Runtime, drawn and as exporters write it; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with, runtime

Build = Callable[[Graph, str], str]


def scores(g: Graph, y: str, heads: int = 1, features: int = 5) -> str:
    """U · tanh(W · y + b), for y whose last axis are its features."""
    hidden = g.node("Tanh", [g.node("Add", [g.node("MatMul", [y, g.random(features, 6)]), g.random(6)])])
    return str(g.node("MatMul", [hidden, g.const(4 * g.rng.normal(size=(6, heads)).astype(np.float32))]))


def pooled(build: Build, features: int = 5, opset: int = 17, rank: int = 2) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → [N, T, 5] → ``build`` → [N, …] → Gemm, where it is [N, F] → out."""
    g = Graph(opset)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, 5)[0], [1])
    value = build(g, g.node("Transpose", [y], perm=[1, 0, 2]))
    if rank == 2:
        g.node("Gemm", [value, g.random(features, 3), g.random(3)], ["out"])
    else:
        g.node("Identity", [value], ["out"])
    g.output("out", rank)
    return g.model()


def total(g: Graph, value: str, axis: int, keep: int = 0) -> str:
    if g.opset < 13:
        return str(g.node("ReduceSum", [value], axes=[axis], keepdims=keep))
    return str(g.node("ReduceSum", [value, g.const(np.array([axis]))], keepdims=keep))


def moved(g: Graph, value: str, *perm: int) -> str:
    return str(g.node("Transpose", [value], perm=list(perm)))


def softmax(g: Graph, value: str, axis: int) -> str:
    return str(g.node("Softmax", [value], axis=axis, name="softmax"))


def squeezed_weights(g: Graph, y: str) -> str:
    """softmax(scores.squeeze(-1), 1).unsqueeze(-1) * y, summed."""
    weights = softmax(g, g.axes_op("Squeeze", scores(g, y), [2]), 1)
    return total(g, g.node("Mul", [g.axes_op("Unsqueeze", weights, [2]), y]), 1)


def batched_product(g: Graph, y: str) -> str:
    """torch.bmm(weights.unsqueeze(1), y).squeeze(1)."""
    weights = softmax(g, g.axes_op("Squeeze", scores(g, y), [2]), 1)
    return g.axes_op("Squeeze", g.node("MatMul", [g.axes_op("Unsqueeze", weights, [1]), y]), [1])


def other_product(g: Graph, y: str) -> str:
    """y.transpose(1, 2) @ weights, [N, 5, 1]."""
    return g.axes_op("Squeeze", g.node("MatMul", [moved(g, y, 0, 2, 1), softmax(g, scores(g, y), 1)]), [2])


def time_first(g: Graph, y: str) -> str:
    first = moved(g, y, 1, 0, 2)
    return total(g, g.node("Mul", [first, softmax(g, scores(g, first), 0)]), 0)


def channels_first(g: Graph, y: str) -> str:
    """Scores [N, 1, T] and values [N, 5, T], a softmax over the last axis, and a sum that keeps its axis."""
    weights = softmax(g, moved(g, scores(g, y), 0, 2, 1), -1)
    kept = total(g, g.node("Mul", [weights, moved(g, y, 0, 2, 1)]), -1, 1)
    return g.axes_op("Squeeze", kept, [2])


def by_feature(g: Graph, y: str) -> str:
    """A score for each feature, as attentive statistics have."""
    return total(g, g.node("Mul", [softmax(g, scores(g, y, 5), 1), y]), 1)


def flattened_heads(g: Graph, y: str) -> str:
    """Two heads that weigh all values: softmax(scores)ᵀ @ y, [N, 2, 5], flattened."""
    weights = moved(g, softmax(g, scores(g, y, 2), 1), 0, 2, 1)
    return str(g.node("Reshape", [g.node("MatMul", [weights, y]), g.const(np.array([0, 10]))]))


def own_values(g: Graph, y: str) -> str:
    """Two heads with three values each: values [N, T, 2, 3] times weights [N, T, 2, 1], summed over time."""
    values = g.node("MatMul", [y, g.random(5, 6)])
    values = g.node("Reshape", [values, g.const(np.array([0, 0, 2, 3]))])
    weights = g.axes_op("Unsqueeze", softmax(g, scores(g, y, 2), 1), [3])
    return str(g.node("Reshape", [total(g, g.node("Mul", [weights, values]), 1), g.const(np.array([0, 6]))]))


def with_query(g: Graph, y: str) -> str:
    """Heads [N, 2, 1, T] @ [N, 2, T, 3]: a learned query of one step for each head, as multi-head attention pooling has."""
    keys = g.node("MatMul", [y, g.const(g.rng.normal(size=(5, 2)).astype(np.float32))])
    weights = softmax(g, g.axes_op("Unsqueeze", moved(g, keys, 0, 2, 1), [2]), -1)
    values = g.node("Reshape", [g.node("MatMul", [y, g.random(5, 6)]), g.const(np.array([0, 0, 2, 3]))])
    product = g.node("MatMul", [weights, moved(g, values, 0, 2, 1, 3)])
    return str(g.node("Reshape", [product, g.const(np.array([0, 6]))]))


def scaled(g: Graph, y: str) -> str:
    """Scores that are divided, as by the root of their size."""
    own = g.node("Div", [scores(g, y), g.const(np.float32(2.5))])
    return total(g, g.node("Mul", [y, softmax(g, own, 1)]), 1)


SPELLINGS: dict[str, tuple[Build, int]] = {
    "(softmax(s, 1) * y).sum(1)": (lambda g, y: total(g, g.node("Mul", [softmax(g, scores(g, y), 1), y]), 1), 5),
    "(y * softmax(s, 1)).sum(1)": (lambda g, y: total(g, g.node("Mul", [y, softmax(g, scores(g, y), -2)]), -2), 5),
    "squeezed weights": (squeezed_weights, 5),
    "bmm(w, y)": (batched_product, 5),
    "y.mT @ w": (other_product, 5),
    "time first": (time_first, 5),
    "channels first": (channels_first, 5),
    "a score for each feature": (by_feature, 5),
    "heads that share values": (flattened_heads, 10),
    "heads with values of their own": (own_values, 6),
    "a learned query": (with_query, 6),
    "scaled scores": (scaled, 5),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_as_exporters_write_it(name: str) -> None:
    build, features = SPELLINGS[name]
    feeds = {"x": data(3, 9, 4)}
    model = agree(pooled(build, features), feeds)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(AttentionPool) == kinds.count(LastStep) == 1
    made = quantize(model, feeds, SHORTS)
    real = oracle(model, feeds)["out"]
    assert sqnr_db(real, Session(made, "reference").run(feeds).outputs["out"]) > 30
    np.testing.assert_array_equal(
        Session(made, "cpu").run(feeds).outputs["out"], Session(made, "reference").run(feeds).outputs["out"]
    )


def test_no_layer_more_than_the_graph_has() -> None:
    model = agree(pooled(*SPELLINGS["(softmax(s, 1) * y).sum(1)"]), {"x": data(2, 5, 4)})
    assert [type(layer) for layer in model.layers] == [
        Recurrent,
        Dense,
        Pointwise,
        Dense,
        AttentionPool,
        LastStep,
        Dense,
    ]


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_opsets(opset: int) -> None:
    """Before opset 13 a softmax runs over all axes from its own on: over time and one score."""
    agree(pooled(SPELLINGS["(softmax(s, 1) * y).sum(1)"][0], opset=opset), {"x": data(2, 5, 4)})


def test_a_part_of_the_scores() -> None:
    """Other features of the layer that makes the scores have no state."""

    def build(g: Graph, y: str) -> str:
        both = scores(g, y, 4)
        weights = softmax(g, g.slice(both, [2], [4], [2]), 1)
        values = g.node("Slice", [both, *(g.const(np.array(v)) for v in ([0], [2], [2]))])
        return total(g, g.node("Mul", [weights, values]), 1)

    model = agree(pooled(build, 2), {"x": data(2, 6, 4)})
    (pool,) = (layer for layer in model.layers if isinstance(layer, AttentionPool))
    assert model.tensors[pool.left].features == 2


def test_behind_a_stride() -> None:
    """Where a convolution makes fewer steps, both go over these."""
    g = Graph(17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = moved(g, g.node("Conv", [x, g.random(5, 4, 3)], strides=[2], kernel_shape=[3]), 0, 2, 1)
    g.node("Identity", [g.recurrent("GRU", moved(g, y, 1, 0, 2), 5, 5)[0]], ["steps"])
    g.node("Identity", [batched_product(g, y)], ["out"])
    g.output("out", 2)
    g.output("steps", 4)
    model = agree(g.model(), {"x": data(2, 9, 4)})
    assert [type(layer) for layer in model.layers].count(Conv) == 1


def test_a_sequence_alone_equals_onnx_runtime_in_a_ragged_batch() -> None:
    """Padding takes no part, so that each sequence has what ONNX Runtime gives it alone."""
    proto = pooled(*SPELLINGS["bmm(w, y)"])
    model, x = import_model(proto, "test"), data(2, 9, 4)
    made = quantize(model, {"x": x}, SHORTS)
    ragged = Session(made).run({"x": x}, np.array([9, 4])).outputs["out"]
    alone = Session(made).run({"x": x[1:, :4]}).outputs["out"]
    np.testing.assert_array_equal(ragged[1:], alone)
    agree(proto, {"x": x[1:, :4]})


def test_a_graph_with_lengths_says_that_padding_takes_no_part() -> None:
    g = Graph(17)
    x, lengths = g.input("x", ["t", "n", 4]), g.input("lengths", ["n"], onnx.TensorProto.INT32)
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, 5, lengths=lengths)[0], [1])
    g.node("Identity", [batched_product(g, moved(g, y, 1, 0, 2))], ["out"])
    g.output("out", 2)
    proto = g.model()
    model = import_model(proto, "test")
    assert any("each sequence's own steps" in note for note in model.notes)
    values = data(7, 2, 4)
    got = oracle(model, {"x": values, "lengths": np.array([7, 3], np.int32)})["out"]
    for n, length in enumerate((7, 3)):
        alone = {"x": values[:length, n : n + 1], "lengths": np.array([length], np.int32)}
        np.testing.assert_allclose(got[n : n + 1], runtime(proto, alone)["out"], atol=1e-5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_drawn(drawn: st.DataObject) -> None:
    """Heads and values of any number in any layout, by Mul and ReduceSum or by MatMul."""
    heads, size, share = drawn.draw(st.integers(1, 3)), drawn.draw(st.integers(1, 3)), drawn.draw(st.booleans())
    product = drawn.draw(st.booleans())

    def build(g: Graph, y: str) -> str:
        values = g.node("MatMul", [y, g.random(5, size if share else heads * size)])
        shape = [0, 0, 1 if share else heads, size]
        values = moved(g, g.node("Reshape", [values, g.const(np.array(shape))]), 0, 2, 1, 3)  # [N, heads, T, size]
        weights = moved(g, softmax(g, scores(g, y, heads), 1), 0, 2, 1)  # [N, heads, T]
        if product:
            made = g.axes_op("Squeeze", g.node("MatMul", [g.axes_op("Unsqueeze", weights, [2]), values]), [2])
        else:
            made = total(g, g.node("Mul", [g.axes_op("Unsqueeze", weights, [3]), values]), 2)
        return str(g.node("Reshape", [made, g.const(np.array([0, heads * size]))]))

    feeds = {"x": data(2, drawn.draw(st.integers(1, 7)), 4, seed=drawn.draw(st.integers(0, 99)))}
    model = agree(pooled(build, heads * size), feeds)
    (pool,) = (layer for layer in model.layers if isinstance(layer, AttentionPool))
    assert (pool.left_index.size, model.tensors[pool.left].features) == (heads * size, heads)


def weights_as_output(g: Graph, y: str) -> str:
    return softmax(g, scores(g, y), 1)


REFUSED: dict[str, tuple[Any, int, str]] = {
    "the weights are an output": (weights_as_output, 3, "gives a softmax over time, which is known only at the end of a sequence"),
    "the product is an output": (lambda g, y: g.node("Mul", [softmax(g, scores(g, y), 1), y]), 3, "gives a softmax over time"),
    "a mean": (
        lambda g, y: g.node("ReduceMean", [g.node("Mul", [softmax(g, scores(g, y), 1), y])], axes=[1], keepdims=0), 2,
        "reads a softmax over time ('mul",
    ),
    "a sum of the weights": (lambda g, y: total(g, softmax(g, scores(g, y, 5), 1), 1), 2, "reads a softmax over time"),
    "a dense layer": (lambda g, y: g.node("MatMul", [softmax(g, scores(g, y, 5), 1), g.random(5, 5)]), 3, "reads a softmax over time"),
    "log softmax": (
        lambda g, y: total(g, g.node("LogSoftmax", [y], axis=1), 1), 2, "runs over batch or time",
    ),
    "over the batch": (lambda g, y: total(g, g.node("Mul", [y, softmax(g, scores(g, y), 0)]), 1), 2, "runs over batch or time"),
    "two softmaxes": (
        lambda g, y: total(g, g.node("Mul", [softmax(g, scores(g, y), 1), softmax(g, scores(g, y, 5), 1)]), 1), 2,
        "reads a softmax over time",
    ),
    "attention over steps": (lambda g, y: g.node("MatMul", [y, moved(g, y, 0, 2, 1)]), 3, "a number for each pair of steps"),
    "a product over time": (lambda g, y: g.node("MatMul", [moved(g, y, 0, 2, 1), y]), 3, "only those within a step"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    build, rank, says = REFUSED[name]
    refused_with(UnsupportedError, pooled(build, rank=rank), says)
