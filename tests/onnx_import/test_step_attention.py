"""Attention over the steps of a sequence as graphs spell it: against ONNX Runtime, drawn and as exporters write it; what is refused."""

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
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.attention import Attention
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, refused_with, runtime

FEATURES = 6


def graph(
    build: Callable[[Graph, str], str], opset: int = 17, steps: int | str = "t", lengths: bool = False
) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → [N, T, 6] → ``build`` → [N, T, …] → out."""
    g = Graph(opset)
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[1, 0, 2])
    own = g.node("Cast", [g.input("lengths", ["n"], onnx.TensorProto.INT64)], to=6) if lengths else ""
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, FEATURES, lengths=own)[0], [1])
    g.node("Identity", [build(g, g.node("Transpose", [y], perm=[1, 0, 2]))], ["out"])
    g.output("out", 3)
    return g.model()


def ints(g: Graph, *values: int) -> str:
    return str(g.const(np.array(values, np.int64)))


def number(g: Graph, value: float) -> str:
    return str(g.const(np.float32(value)))


def moved(g: Graph, value: str, *perm: int) -> str:
    return str(g.node("Transpose", [value], perm=list(perm)))


def projected(g: Graph, y: str, features: int = FEATURES) -> str:
    return str(g.node("MatMul", [y, g.const(g.rng.normal(size=(FEATURES, features)).astype(np.float32))]))


def steps_of(g: Graph, y: str) -> str:
    return str(g.node("Gather", [g.node("Shape", [y]), g.const(np.array(1))], axis=0))


def earlier(g: Graph, y: str, how: str, window: int, steps: int) -> str:
    """A mask that holds where a step reads another one: up to itself, and the last ``window`` ones where that is not 0."""
    if how == "constant":
        lag = np.arange(steps)[:, None] - np.arange(steps)
        return str(g.const((lag >= 0) & (lag < (window or steps))))
    t = steps_of(g, y)
    if how == "range":
        r = g.node("Range", [g.const(np.array(0)), t, g.const(np.array(1))])
        lag = g.node("Sub", [g.axes_op("Unsqueeze", r, [1]), g.axes_op("Unsqueeze", r, [0])])
        mask = g.node("GreaterOrEqual", [lag, g.const(np.array(0))])
        return str(g.node("And", [mask, g.node("Less", [lag, g.const(np.array(window))])]) if window else mask)
    one = g.axes_op("Unsqueeze", t, [0])
    if how == "buffer":
        mask = g.const(np.tril(np.ones((64, 64), np.float32)))
        sliced = g.node("Slice", [mask, ints(g, 0, 0), g.node("Concat", [one, one], axis=0), ints(g, 0, 1)])
    else:
        value = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
        sliced = g.node("ConstantOfShape", [g.node("Concat", [one, one], axis=0)], value=value)
        sliced = g.node("Trilu", [sliced], upper=0)
    if window:
        sliced = g.node("Trilu", [sliced, g.const(np.array(1 - window))], upper=1)
    return str(g.node("Greater", [sliced, number(g, 0.5)]))


def masked(g: Graph, scores: str, mask: str, how: str) -> str:
    """The scores where the mask holds."""
    if how == "where":
        return str(g.node("Where", [mask, scores, number(g, -np.inf)]))
    if how == "fill":
        return str(g.node("Where", [g.node("Not", [mask]), number(g, -1e9), scores]))
    away = g.node("Sub", [number(g, 1.0), g.node("Cast", [mask], to=1)])
    if how == "sub":
        return str(g.node("Sub", [scores, g.node("Mul", [away, number(g, 1e9)])]))
    return str(g.node("Add", [scores, g.node("Mul", [away, number(g, -10000.0)])]))


def scaled(g: Graph, value: str, how: str, scale: float) -> str:
    return str(
        g.node("Mul", [value, number(g, scale)]) if how == "mul" else g.node("Div", [value, number(g, 1.0 / scale)])
    )


def drawn(g: Graph, y: str, draw: Callable[[st.SearchStrategy[Any]], Any], steps: int) -> str:
    """Attention of drawn spellings: one or several heads, MatMul or Einsum, scales and masks in any place."""
    heads = draw(st.sampled_from([1, 2, 3]))
    size, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    q, k, v = projected(g, y, heads * size), projected(g, y, heads * size), projected(g, y, heads * width)
    place, how = draw(st.sampled_from(["queries", "keys", "scores"])), draw(st.sampled_from(["mul", "div"]))
    scale = draw(st.sampled_from([0.3, 1.0, 2.5]))
    if place == "queries":
        q = scaled(g, q, how, scale)
    elif place == "keys":
        k = scaled(g, k, how, scale)
    spelling = draw(st.sampled_from(["matmul", "einsum", "merged"]))
    window = draw(st.sampled_from([0, 2]))
    mask = draw(st.sampled_from(["none", "constant", "range", "buffer", "trilu"]))
    into = draw(st.sampled_from(["where", "fill", "add", "sub"]))

    def weights(scores: str, axis: int = -1) -> str:
        scores = scaled(g, scores, how, scale) if place == "scores" else scores
        if mask != "none":
            scores = masked(g, scores, earlier(g, y, mask, window, steps), into)
        return str(g.node("Softmax", [scores], axis=axis))

    def split(value: str, each: int) -> str:
        return str(g.node("Reshape", [value, ints(g, 0, 0, heads, each)]))

    if spelling == "einsum":
        q, k, v = split(q, size), split(k, size), split(v, width)
        w = weights(g.node("Einsum", [k, q], equation="aecd,abcd->acbe"))
        context = g.node("Einsum", [w, v], equation="acbe,aecd->abcd")
        return str(g.node("Reshape", [context, ints(g, 0, 0, heads * width)]))
    q, k, v = (moved(g, split(x, each), 0, 2, 1, 3) for x, each in ((q, size), (k, size), (v, width)))
    if spelling == "merged":  # [N·H, T, D]
        t = g.axes_op("Unsqueeze", steps_of(g, y), [0])
        q, k = (g.node("Reshape", [x, g.node("Concat", [ints(g, -1), t, ints(g, size)], axis=0)]) for x in (q, k))
        v = g.node("Reshape", [v, g.node("Concat", [ints(g, -1), t, ints(g, width)], axis=0)])
        context = g.node("MatMul", [weights(g.node("MatMul", [q, moved(g, k, 0, 2, 1)])), v])
        batch = g.node("Gather", [g.node("Shape", [y]), g.const(np.array(0))], axis=0)
        back = g.node("Concat", [g.axes_op("Unsqueeze", batch, [0]), ints(g, heads), t, ints(g, width)], axis=0)
        context = g.node("Reshape", [context, back])
    elif mask == "none" and draw(st.booleans()):  # transposed
        w = weights(g.node("MatMul", [k, moved(g, q, 0, 1, 3, 2)]), 2)
        context = moved(g, g.node("MatMul", [moved(g, v, 0, 1, 3, 2), w]), 0, 1, 3, 2)
    else:
        context = g.node("MatMul", [weights(g.node("MatMul", [q, moved(g, k, 0, 1, 3, 2)])), v])
    return str(g.node("Reshape", [moved(g, context, 0, 2, 1, 3), ints(g, 0, 0, heads * width)]))


def layer_of(model: FloatModel) -> Attention:
    (layer,) = (layer for layer in model.layers if isinstance(layer, Attention))
    return layer


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(pick=st.data())
def test_spellings(pick: st.DataObject) -> None:
    steps = pick.draw(st.sampled_from([5, 8]))
    fixed = pick.draw(st.booleans())
    seed = pick.draw(st.integers(0, 2**16))

    def build(g: Graph, y: str) -> str:
        g.rng = np.random.default_rng(seed)
        return drawn(g, y, pick.draw, steps)

    proto = graph(build, 17, steps if fixed else "t")
    layer = layer_of(agree(proto, {"x": data(2, steps, 4)}))
    assert layer.heads in (1, 2, 3)


def simple(g: Graph, y: str, mask: Callable[[Graph, str, str], str] = lambda g, y, s: s) -> str:
    """Attention of one head of a sequence's own steps."""
    scores = mask(g, y, g.node("MatMul", [projected(g, y), moved(g, y, 0, 2, 1)]))
    return str(g.node("MatMul", [g.node("Softmax", [scores], axis=-1), y]))


@pytest.mark.parametrize("how", ["where", "float", "added", "causal"])
def test_padding_masks(how: str) -> None:
    """A mask of the steps that pad a sequence is left out: padding takes no part."""

    def mask(g: Graph, y: str, scores: str) -> str:
        r = g.node("Range", [g.const(np.array(0)), steps_of(g, y), g.const(np.array(1))])
        own = g.axes_op("Unsqueeze", g.node("Less", [r, g.axes_op("Unsqueeze", "lengths", [1])]), [1])
        if how == "where":
            return str(g.node("Where", [own, scores, number(g, -np.inf)]))
        if how == "float":
            away = g.node("Sub", [number(g, 1.0), g.node("Cast", [own], to=1)])
            return str(g.node("Add", [scores, g.node("Mul", [away, number(g, -1e9)])]))
        if how == "added":
            return str(g.node("Add", [scores, g.node("Where", [own, number(g, 0.0), number(g, -np.inf)])]))
        both = g.node("And", [earlier(g, y, "range", 0, 0), own])
        return str(g.node("Where", [both, scores, number(g, -1e9)]))

    proto, lengths = graph(lambda g, y: simple(g, y, mask), lengths=True), np.array([7, 4, 1])
    model, x = import_model(proto, "m"), data(3, 7, 4)
    want = runtime(proto, {"x": x, "lengths": lengths})["out"]
    for n, length in enumerate(lengths):
        got = run_oracle(model, {"x": x[n : n + 1, :length]}).outputs["out"][0]
        np.testing.assert_allclose(got, want[n, :length], atol=1e-5)
    assert layer_of(model).kept == (1024 if how == "causal" else 0)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("causal", [0, 1])
def test_the_operator(rank: int, causal: int) -> None:
    """ONNX's Attention, with heads of keys and values that several heads of queries share."""

    def build(g: Graph, y: str) -> str:
        q, k, v = projected(g, y, 8), projected(g, y, 4), projected(g, y, 6)
        if rank == 3:
            return str(g.node("Attention", [q, k, v], q_num_heads=4, kv_num_heads=2, is_causal=causal, scale=0.4))
        q, k, v = (
            moved(g, g.node("Reshape", [x, ints(g, 0, 0, h, -1)]), 0, 2, 1, 3) for x, h in ((q, 4), (k, 2), (v, 2))
        )
        y = moved(g, g.node("Attention", [q, k, v], is_causal=causal, scale=0.4), 0, 2, 1, 3)
        return str(g.node("Reshape", [y, ints(g, 0, 0, -1)]))

    layer = layer_of(agree(graph(build, 23), {"x": data(2, 7, 4)}))
    assert (layer.heads, layer.key_heads, layer.size, layer.width, layer.scale) == (4, 2, 2, 3, pytest.approx(0.4))
    assert (layer.kept, layer.windowed) == (1024 if causal else 0, False)


def test_a_vector_of_each_sequence() -> None:
    """Products of a sequence's steps and its last one are scores of an attention pooling."""

    def build(g: Graph, y: str) -> str:
        last = g.node("Slice", [y, ints(g, -1), ints(g, (1 << 63) - 1), ints(g, 1)])
        w = g.node("Softmax", [g.node("MatMul", [last, moved(g, y, 0, 2, 1)])], axis=-1)
        return str(g.node("MatMul", [w, y]))

    model = agree(graph(build), {"x": data(3, 7, 4)})
    assert sum(isinstance(layer, AttentionPool) for layer in model.layers) == 1


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("queries", [1, 3])
def test_learned_queries(heads: int, queries: int) -> None:
    """Constants that are expanded to the batch, and projected, are weights of the scores of an attention pooling."""

    def build(g: Graph, y: str) -> str:
        batch = g.axes_op("Unsqueeze", g.node("Gather", [g.node("Shape", [y]), g.const(np.array(0))], axis=0), [0])
        wide = g.node("Concat", [batch, ints(g, queries, FEATURES)], axis=0)
        q = g.node("Add", [projected(g, g.node("Expand", [g.random(1, queries, FEATURES), wide])), g.random(FEATURES)])
        q = g.node("Mul", [q, number(g, 3.0)])
        k = projected(g, y)
        if heads == 1:
            return str(g.node("MatMul", [g.node("Softmax", [g.node("MatMul", [q, moved(g, k, 0, 2, 1)])], axis=-1), y]))
        q, k, v = (moved(g, g.node("Reshape", [x, ints(g, 0, 0, 2, 3)]), 0, 2, 1, 3) for x in (q, k, y))
        w = g.node("Softmax", [g.node("MatMul", [q, moved(g, k, 0, 1, 3, 2)])], axis=-1)
        return str(g.node("Reshape", [moved(g, g.node("MatMul", [w, v]), 0, 2, 1, 3), ints(g, 0, 0, FEATURES)]))

    model = agree(graph(build), {"x": data(3, 7, 4)})
    assert sum(isinstance(layer, AttentionPool) for layer in model.layers) == 1


@pytest.mark.parametrize("learned", [False, True])
def test_batch_and_time_as_one_axis(learned: bool) -> None:
    """Exporters of one sequence merge its batch with time, [T·1, H, D]; any batch runs, each sequence by itself."""

    def build(g: Graph, y: str) -> str:
        k = g.node("Reshape", [y, ints(g, 7, 2, 3)])
        v = moved(g, k, 1, 0, 2)
        q = g.random(2, 1, 3) if learned else v
        w = g.node("Softmax", [g.node("MatMul", [q, moved(g, k, 1, 2, 0)])], axis=-1)
        context = moved(g, g.node("MatMul", [w, v]), 1, 0, 2)
        return str(g.node("Reshape", [context, ints(g, 1, -1, 6)]))

    proto = graph(build, steps=7)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model, x = import_model(proto, "m"), data(3, 7, 4)
    got = run_oracle(model, {"x": x}).outputs["out"]
    for n in range(3):
        want = runtime(proto, {"x": x[n : n + 1]})["out"][0]
        np.testing.assert_allclose(got[n].reshape(want.shape), want, atol=1e-5)


def test_integers() -> None:
    """The quantized import is near ONNX Runtime, and streams where it is causal."""
    proto = graph(lambda g, y: simple(g, y, lambda g, y, s: masked(g, s, earlier(g, y, "trilu", 3, 0), "where")))
    model, x = import_model(proto, "m"), np.asarray(data(4, 20, 4), np.float64)
    made = quantize(model, {"x": x}, SHORTS)
    got = Session(made).run({"x": x}).outputs["out"]
    assert sqnr_db(runtime(proto, {"x": x.astype(np.float32)})["out"], got) > 30.0
    stream = Session(made).stream()
    steps = [stream.step({"x": x[:1, t]})["out"] for t in range(20)]
    np.testing.assert_array_equal(np.concatenate(steps), got[0])


def biased(g: Graph, y: str, s: str) -> str:
    return str(g.node("Add", [s, g.const(np.random.default_rng(0).normal(size=(1, 1)).astype(np.float32))]))


def both_sides(g: Graph, y: str, s: str) -> str:
    r = g.node("Range", [g.const(np.array(0)), steps_of(g, y), g.const(np.array(1))])
    lag = g.node("Abs", [g.node("Sub", [g.axes_op("Unsqueeze", r, [1]), g.axes_op("Unsqueeze", r, [0])])])
    return str(g.node("Where", [g.node("Less", [lag, g.const(np.array(3))]), s, number(g, -1e9)]))


def later(g: Graph, y: str, s: str) -> str:
    return str(g.node("Where", [g.node("Not", [earlier(g, y, "trilu", 0, 0)]), s, number(g, -1e9)]))


def positions(g: Graph, y: str) -> str:
    """The first steps of a table, as many as there are."""
    one = g.axes_op("Unsqueeze", steps_of(g, y), [0])
    return str(g.node("Slice", [g.random(64, FEATURES), ints(g, 0), one, ints(g, 0)]))


REFUSED: dict[str, tuple[Callable[[Graph, str], str], str]] = {
    "the weights": (
        lambda g, y: str(g.node("Softmax", [g.node("MatMul", [y, moved(g, y, 0, 2, 1)])], axis=-1)),
        "gives the weights of an attention over steps",
    ),
    "bias": (lambda g, y: simple(g, y, biased), "adds numbers that differ from step to step"),
    "both sides": (lambda g, y: simple(g, y, both_sides), "but not those of later steps"),
    "later steps": (lambda g, y: simple(g, y, later), "masks pairs of steps"),
    "a small fill": (
        lambda g, y: simple(g, y, lambda g, y, s: str(g.node("Where", [earlier(g, y, "trilu", 0, 0), s, number(g, -1.0)]))),
        "expected -10000 or less",
    ),
    "another softmax": (
        lambda g, y: str(
            g.node("MatMul", [g.node("Softmax", [g.node("MatMul", [y, moved(g, y, 0, 2, 1)])], axis=1), y])
        ),
        "not their softmax over the steps of the keys",
    ),
    "no softmax": (
        lambda g, y: str(g.node("MatMul", [g.node("MatMul", [y, moved(g, y, 0, 2, 1)]), y])),
        "not their softmax over the steps of the keys",
    ),
    "a function": (
        lambda g, y: simple(g, y, lambda g, y, s: str(g.node("Tanh", [s]))),
        "reads products at all pairs of steps",
    ),
    "additive": (
        lambda g, y: str(g.node("Add", [g.axes_op("Unsqueeze", y, [2]), g.axes_op("Unsqueeze", y, [1])])),
        "as additive attention over steps computes",
    ),
    "positions": (
        lambda g, y: str(g.node("Add", [y, positions(g, y)])),
        "such as positional encodings",
    ),
    "a cap": (lambda g, y: str(g.node("Attention", [y, y, y], q_num_heads=1, kv_num_heads=1, softcap=2.0)), "softcap"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    build, says = REFUSED[name]
    refused_with(UnsupportedError, graph(build, 23 if name == "a cap" else 17), says)
