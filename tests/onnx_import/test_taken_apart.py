"""Normalizations as graphs spell them by single operators, over a step, groups of it, and time: ONNX Runtime's values, and one layer each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.group_norm import GroupNorm
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.moment import Moment
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.model.kinds.spread import Spread
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with

H = 12
X = {"x": data(3, 9, 4)}
NORMS = (LayerNorm, GroupNorm, SequenceNorm, RunningNorm)
Build = Callable[[Graph, str, Any], str]


def graph(
    build: Build, axes: Any, shape: tuple[int, ...] = (0, 0, H), perm: tuple[int, ...] | None = None, opset: int = 17
) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → y [N, T, 12], reshaped and transposed → ``build`` over axes → out."""
    g = Graph(opset=opset)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, H)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    if len(shape) > 3:
        y = g.node("Reshape", [y, g.const(np.array(shape))])
    if perm is not None:
        y = g.node("Transpose", [y], perm=list(perm))
    g.node("Identity", [build(g, y, list(axes))], ["out"])
    g.output("out", len(shape))
    return g.model()


def mean(g: Graph, x: str, axes: Any, op: str = "ReduceMean", **more: Any) -> str:
    if g.opset >= 18 or (op == "ReduceSum" and g.opset >= 13):
        return str(g.node(op, [x, g.const(np.array(axes))], **more))
    return str(g.node(op, [x], axes=axes, **more))


def number(g: Graph, value: float) -> str:
    return str(g.const(np.float32(value)))


# --- how the parts are spelled ---


def square_pow(g: Graph, d: str) -> str:
    return str(g.node("Pow", [d, number(g, 2.0)]))


def square_mul(g: Graph, d: str) -> str:
    return str(g.node("Mul", [d, d]))


def variance_two_pass(g: Graph, x: str, axes: Any, square: Any, d: str) -> str:
    return mean(g, square(g, d), axes)


def variance_of_squares(g: Graph, x: str, axes: Any, square: Any, d: str) -> str:
    """E[x²] - E[x]², no less than 0, as Keras writes it."""
    m = mean(g, x, axes)
    return str(g.node("Relu", [g.node("Sub", [mean(g, square(g, x), axes), square(g, m)])]))


def root_sqrt(g: Graph, v: str, e: float) -> str:
    return str(g.node("Sqrt", [g.node("Add", [v, number(g, e)])]))


def root_pow(g: Graph, v: str, e: float) -> str:
    return str(g.node("Pow", [g.node("Add", [number(g, e), v]), number(g, 0.5)]))


def root_bounded(g: Graph, v: str, e: float) -> str:
    return str(g.node("Sqrt", [g.node("Max", [v, number(g, e)])]))


def root_and_epsilon(g: Graph, v: str, e: float) -> str:
    return str(g.node("Add", [g.node("Sqrt", [v]), number(g, e)]))


def root_clipped(g: Graph, v: str, e: float) -> str:
    return str(g.node("Clip", [g.node("Sqrt", [v]), number(g, e)]))


def divide(g: Graph, d: str, r: str) -> str:
    return str(g.node("Div", [d, r]))


def times_reciprocal(g: Graph, d: str, r: str) -> str:
    return str(g.node("Mul", [d, g.node("Reciprocal", [r])]))


def times_one_over(g: Graph, d: str, r: str) -> str:
    return str(g.node("Mul", [g.node("Div", [number(g, 1.0), r]), d]))


def times_power(g: Graph, d: str, r: str) -> str:
    return str(g.node("Mul", [d, g.node("Pow", [r, number(g, -1.0)])]))


SQUARES = (square_pow, square_mul)
VARIANCES = (variance_two_pass, variance_of_squares)
ROOTS = (root_sqrt, root_pow, root_bounded, root_and_epsilon, root_clipped)
QUOTIENTS = (divide, times_reciprocal, times_one_over, times_power)


def spelled(square: Any, variance: Any, root: Any, quotient: Any, epsilon: float = 0.05) -> Build:
    def build(g: Graph, x: str, axes: Any) -> str:
        d = g.node("Sub", [x, mean(g, x, axes)])
        return str(quotient(g, d, root(g, variance(g, x, axes, square, d), epsilon)))

    return build


def batch_normalization(g: Graph, x: str, axes: Any) -> str:
    """X · inv + (beta - mean · inv) with inv = rsqrt(variance + epsilon) · gamma, as tf.nn.batch_normalization computes it."""
    m = mean(g, x, axes)
    v = mean(g, g.node("Mul", [d := g.node("Sub", [x, m]), d]), axes)
    inv = g.node("Reciprocal", [g.node("Sqrt", [g.node("Add", [v, number(g, 0.01)])])])
    inv = g.node("Mul", [inv, g.random(H)])
    return str(g.node("Add", [g.node("Mul", [x, inv]), g.node("Sub", [g.random(H), g.node("Mul", [m, inv])])]))


def keras_3(g: Graph, x: str, axes: Any) -> str:
    """X · inv + (-mean · inv + beta), with the variance as E[x²] - E[x]²."""
    m = mean(g, x, axes)
    v = g.node("Sub", [mean(g, g.node("Mul", [x, x]), axes), g.node("Mul", [m, m])])
    inv = g.node("Mul", [g.node("Pow", [g.node("Add", [v, number(g, 0.01)]), number(g, -0.5)]), g.random(H)])
    shift = g.node("Add", [g.node("Mul", [g.node("Neg", [m]), inv]), g.random(H)])
    return str(g.node("Add", [g.node("Mul", [x, inv]), shift]))


def root_mean_square(g: Graph, x: str, axes: Any) -> str:
    v = g.node("Add", [mean(g, g.node("Pow", [x, number(g, 2.0)]), axes), number(g, 1e-3)])
    return str(g.node("Mul", [g.node("Mul", [x, g.node("Reciprocal", [g.node("Sqrt", [v])])]), g.random(H)]))


def unit(g: Graph, x: str, axes: Any) -> str:
    """X / max(‖x‖, epsilon), as torch.nn.functional.normalize does."""
    norm = mean(g, x, axes, "ReduceL2", keepdims=1)
    return str(g.node("Div", [x, g.node("Clip", [norm, number(g, 1e-3)])]))


def unit_of_squares(g: Graph, x: str, axes: Any) -> str:
    """X · rsqrt(max(Σ x², epsilon)), as Keras's UnitNormalization does."""
    total = mean(g, g.node("Mul", [x, x]), axes, "ReduceSum")
    return str(g.node("Mul", [x, g.node("Reciprocal", [g.node("Sqrt", [g.node("Max", [total, number(g, 1e-3)])])])]))


def unit_by_the_least(g: Graph, x: str, axes: Any) -> str:
    """X · min(rsqrt(Σ x²), 1 / epsilon), as it does in other versions."""
    total = mean(g, g.node("Mul", [x, x]), axes, "ReduceSum")
    root = g.node("Reciprocal", [g.node("Sqrt", [total])])
    return str(g.node("Mul", [x, g.node("Min", [root, number(g, 1.2)])]))


def sum_square(g: Graph, x: str, axes: Any) -> str:
    total = mean(g, x, axes, "ReduceSumSquare")
    return str(g.node("Div", [x, g.node("Sqrt", [g.node("Add", [total, number(g, 1e-3)])])]))


def sample(g: Graph, x: str, axes: Any) -> str:
    """(x - mean) / (std + epsilon) with the divisor n - 1 and gain and bias, as networks before nn.LayerNorm write it."""
    d = g.node("Sub", [x, mean(g, x, axes)])
    n = float(H)
    v = g.node("Div", [g.node("Mul", [mean(g, g.node("Mul", [d, d]), axes), number(g, n)]), number(g, n - 1.0)])
    return str(
        g.node(
            "Add",
            [
                g.node("Mul", [g.random(H), g.node("Div", [d, g.node("Add", [g.node("Sqrt", [v]), number(g, 1e-3)])])]),
                g.random(H),
            ],
        )
    )


WHOLE = (batch_normalization, keras_3, root_mean_square, unit, unit_of_squares, unit_by_the_least, sum_square, sample)


def norms(model: FloatModel) -> list[str]:
    return [type(layer).__name__ for layer in model.layers if isinstance(layer, (*NORMS, Moment, Spread))]


def only_norm(model: FloatModel) -> Any:
    """The one layer that computes statistics in a model, which is a normalization."""
    (layer,) = (layer for layer in model.layers if isinstance(layer, (*NORMS, Moment, Spread)))
    return layer


@pytest.mark.parametrize("build", WHOLE, ids=lambda b: str(b.__name__))
def test_whole_spellings_over_a_step(build: Build) -> None:
    model = agree(graph(build, [-1]), X)
    layer = only_norm(model)
    assert isinstance(layer, LayerNorm | GroupNorm)
    assert [type(layer).__name__ for layer in model.layers] == ["Recurrent", type(layer).__name__]
    quantized = quantize(model, X, Scheme(activations=16, input="16"))
    assert sqnr_db(oracle(model, X)["out"], Session(quantized, "reference").run(X).outputs["out"]) > 42


LAYOUTS = (
    ((0, 0, H), None, [-1], LayerNorm),
    ((0, 0, 3, 4), None, [-1], GroupNorm),
    ((0, 0, 3, 4), None, [2], GroupNorm),
    ((0, 0, 3, 4), None, [2, 3], LayerNorm),
    ((0, 0, 3, 4), (0, 2, 1, 3), [1], GroupNorm),
    ((0, 0, 2, 3, 2), None, [2, 4], GroupNorm),
    ((0, 0, H), None, [1], SequenceNorm),
    ((0, 0, H), (0, 2, 1), [2], SequenceNorm),
    ((0, 0, H), None, [1, 2], SequenceNorm),
    ((0, 0, 3, 4), (0, 2, 1, 3), [2, 3], SequenceNorm),
    ((0, 0, 3, 4), None, [1, 2], SequenceNorm),
)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_drawn_spellings(draw: st.DataObject) -> None:
    """Each part in each of its spellings, over the axes of each layout, at opsets before and after axes became an input."""
    shape, perm, axes, kind = draw.draw(st.sampled_from(LAYOUTS))
    parts = [draw.draw(st.sampled_from(options)) for options in (SQUARES, VARIANCES, ROOTS, QUOTIENTS)]
    build = spelled(*parts, epsilon=draw.draw(st.sampled_from([1e-5, 0.05, 0.3])))
    model = agree(graph(build, axes, shape, perm, draw.draw(st.sampled_from([13, 17, 18]))), X)
    layer = only_norm(model)
    assert isinstance(layer, kind if parts[2] in (root_sqrt, root_pow) or kind is SequenceNorm else GroupNorm)


@pytest.mark.parametrize("build", [batch_normalization, keras_3], ids=lambda b: str(b.__name__))
def test_a_window_makes_it_stream(build: Build) -> None:
    """Over time, a running normalization stands for it; without, a stream is refused by name."""
    proto = graph(build, [1])
    model = agree(proto, X)
    assert isinstance(only_norm(model), SequenceNorm)
    made = quantize(model, X, SHORTS)
    with pytest.raises(Exception, match="gives at every step what only the end of a sequence tells"):
        Session(made, "reference").stream()
    for window in (3, 0):
        running = import_model(proto, "test", window=window)
        layer = only_norm(running)
        assert isinstance(layer, RunningNorm)
        assert layer.steps == window
        assert any("normalizes over" in note for note in running.notes)
        Session(quantize(running, X, SHORTS), "reference").stream()


def moment(what: str) -> Build:
    def build(g: Graph, x: str, axes: Any) -> str:
        d = g.node("Sub", [x, mean(g, x, axes)])
        v = mean(g, g.node("Mul", [d, d]), axes)
        found = {"variance": v, "deviation": g.node("Sqrt", [v]), "norm": mean(g, x, axes, "ReduceL2"),
                 "squares": mean(g, x, axes, "ReduceSumSquare"), "power": mean(g, g.node("Pow", [x, number(g, 2.0)]), axes)}[what]  # fmt: skip
        return str(g.node("Tanh", [found]))

    return build


@pytest.mark.parametrize("what", ["variance", "deviation", "norm", "squares", "power"])
@pytest.mark.parametrize("layout", [0, 1, 2, 3, 5])
def test_moments_of_a_step(what: str, layout: int) -> None:
    """One layer from the values, so that no square is stored in 16 bits."""
    shape, perm, axes, _ = LAYOUTS[layout]
    model = agree(graph(moment(what), axes, shape, perm), X)
    found = [type(layer).__name__ for layer in model.layers]
    assert [name for name in found if name != "Concat"] == ["Recurrent", "Moment", "Pointwise"]
    assert ("Concat" in found) == (layout == 5)  # only groups of axes apart have to be gathered


def test_a_variance_that_is_an_output_too() -> None:
    g = Graph()
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, H)[0]
    y = g.axes_op("Squeeze", y, [1])
    d = g.node("Sub", [y, mean(g, y, [-1])])
    v = mean(g, square_pow(g, d), [-1])
    g.node("Div", [d, root_sqrt(g, v, 1e-3)], ["out"])
    g.node("Sqrt", [v], ["v"])
    g.output("out")
    g.output("v")
    model = agree(g.model(), X)
    assert sorted(norms(model)) == ["LayerNorm", "Moment"]


def test_of_a_pooled_vector() -> None:
    """The mean of features of a mean over time is taken for either: here the vector is normalized."""

    def build(g: Graph, x: str, axes: Any) -> str:
        return spelled(square_mul, variance_two_pass, root_sqrt, divide)(g, mean(g, x, [1], keepdims=0), [-1])

    proto = graph(build, [])
    proto.graph.output[0].type.tensor_type.shape.dim.pop()
    model = agree(proto, X)
    assert isinstance(only_norm(model), LayerNorm)


def means_of_means(g: Graph, x: str, axes: Any) -> str:
    """As Conv-TasNet's global layer normalization: mean(1).mean(2), and the same of the squares."""
    m = mean(g, mean(g, x, [1]), [2])
    d = g.node("Sub", [x, m])
    v = mean(g, mean(g, square_pow(g, d), [1]), [2])
    scaled = g.node("Mul", [g.random(1, H, 1), d])
    root = g.node("Pow", [g.node("Add", [v, number(g, 1e-8)]), number(g, 0.5)])
    return str(g.node("Add", [g.node("Div", [scaled, root]), g.random(1, H, 1)]))


def test_means_of_means() -> None:
    layer = only_norm(agree(graph(means_of_means, [], perm=(0, 2, 1)), X))
    assert isinstance(layer, SequenceNorm)
    assert layer.count == H


def over_time_norm(g: Graph, x: str, axes: Any) -> str:
    return str(g.node("Div", [x, mean(g, x, axes, "ReduceL2")]))


@pytest.mark.parametrize(
    ("build", "axes", "says"),
    [
        (over_time_norm, [1], "computes a norm over time; only that of features of a step is supported"),
        (lambda g, y, a: g.node("LpNormalization", [y], axis=1), [], "axis=1 of [N, T, 12] is time"),
        (lambda g, y, a: g.node("LpNormalization", [y], p=1), [], "p=1 is not supported"),
        (lambda g, y, a: g.node("MeanVarianceNormalization", [y], axes=[0, 1]), [], "over the batch axis 0"),
        (lambda g, y, a: g.node("InstanceNormalization", [y, g.random(3), g.random(3)]), [], "whose second axis is not of channels"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, axes: Any, says: str) -> None:
    refused_with(UnsupportedError, graph(build, axes), says)
