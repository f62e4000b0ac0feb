"""Elementwise operators of features and of constants, alone and as graphs spell them out, against ONNX Runtime and in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.combine import Combine
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.function import Function
from qrnn.model.kinds.log_power import LogPower
from qrnn.model.kinds.log_softmax import LogSoftmax
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.multiply import Multiply
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.prelu import PRelu
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, refused_with

Build = Callable[[Graph, str], str]
WIDE = Scheme(activations=16, input="16")


def f32(value: Any) -> Any:
    return np.asarray(value, np.float32)


def body(build: Build, opset: int = 17, features: int = 6, spread: float = 4.0, offset: float = 0.0) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → MatMul, Add of ``offset`` → [N, T, features] → ``build`` → out."""
    g = Graph(opset=opset)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    weight = spread * np.random.default_rng(1).uniform(-1, 1, (6, features))
    y = g.node("Add", [g.node("MatMul", [y, g.const(f32(weight))]), g.const(f32(np.full(features, offset)))])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out")
    return g.model()


def checked(proto: onnx.ModelProto, least_db: float) -> FloatModel:
    """The oracle equals ONNX Runtime, integers are near, and every backend has the reference's bits."""
    x = {"x": data(3, 20, 4)}
    model = agree(proto, x)
    quantized = quantize(model, x, WIDE)
    want = Session(quantized, "reference").run(x).outputs["out"]
    for backend in available_backends():
        np.testing.assert_array_equal(Session(quantized, backend).run(x).outputs["out"], want)
    assert sqnr_db(run_oracle(model, x).outputs["out"], want) > least_db
    return model


def last(model: FloatModel, n: int = 1) -> list[type]:
    """The kinds of the last layers, and that there are no others but the GRU and its dense layer."""
    assert len(model.layers) == 2 + n
    return [type(layer) for layer in model.layers[2:]]


def erf_gelu(order: int) -> Build:
    def build(g: Graph, x: str) -> str:
        one, half = g.const(f32(1.0)), g.const(f32([0.5]))
        e = g.node("Erf", [g.node("Div", [g.node("Dropout", [x]), g.const(f32([[[np.sqrt(2)]]]))])])
        e = g.node("Add", [one, e] if order else [e, one])
        if order == 2:  # 0.5 · (1 + erf) first
            return str(g.node("Mul", [g.node("Identity", [g.node("Mul", [half, e])]), x]))
        product = g.node("Mul", [e, x] if order else [x, e])
        return str(g.node("Mul", [g.node("Cast", [product], to=1), half]))

    return build


def tanh_gelu(integer: bool) -> Build:
    def build(g: Graph, x: str) -> str:
        three = g.const(np.array(3, np.int64)) if integer else g.const(f32([3.0]))
        inner = g.node("Add", [x, g.node("Mul", [g.const(f32(0.044715)), g.node("Pow", [x, three])])])
        inner = g.node("Mul", [inner, g.const(f32(np.sqrt(2 / np.pi)))])
        outer = g.node("Add", [g.node("Tanh", [inner]), g.const(f32(1.0))])
        return str(g.node("Mul", [g.node("Mul", [g.const(f32(0.5)), x]), outer]))

    return build


def softplus(g: Graph, x: str) -> str:
    return str(g.node("Log", [g.node("Add", [g.const(f32(1.0)), g.node("Exp", [x])])]))


def one_plus_exp(g: Graph, x: str) -> str:
    """1 + e^-x."""
    return str(g.node("Add", [g.node("Exp", [g.node("Neg", [x])]), g.const(f32(1.0))]))


def clipped_swish(g: Graph, x: str) -> str:
    clipped = g.node("Clip", [g.node("Add", [x, g.const(f32(3))]), g.const(f32(0)), g.const(f32(6))])
    return str(g.node("Div", [g.node("Mul", [x, clipped]), g.const(f32(6))]))


SPELLED: dict[str, list[Build]] = {
    "gelu": [erf_gelu(0), erf_gelu(1), erf_gelu(2)],
    "gelu_tanh": [tanh_gelu(True), tanh_gelu(False)],
    "swish": [
        lambda g, x: g.node("Mul", [x, g.node("Sigmoid", [x])]),
        lambda g, x: g.node("Mul", [g.node("Cast", [g.node("Sigmoid", [x])], to=1), x]),
        lambda g, x: g.node("Div", [x, one_plus_exp(g, x)]),
    ],
    "mish": [
        lambda g, x: g.node("Mul", [x, g.node("Tanh", [g.node("Softplus", [x])])]),
        lambda g, x: g.node("Mul", [g.node("Tanh", [softplus(g, x)]), x]),
    ],
    "softplus": [softplus],
    "sigmoid": [lambda g, x: g.node("Reciprocal", [one_plus_exp(g, x)])],
    "hard_swish": [
        clipped_swish,
        lambda g, x: g.node("Mul", [x, g.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)]),
    ],
    "leaky_relu": [lambda g, x: g.node("Abs", [x])],
}


@pytest.mark.parametrize(("name", "build"), [(name, build) for name, own in SPELLED.items() for build in own])
def test_spelled_out_activations_are_one_layer(name: str, build: Build) -> None:
    model = checked(body(build), 40)
    assert last(model) == [Pointwise]
    layer = model.layers[-1]
    assert isinstance(layer, Pointwise)
    assert layer.activation.kind == name


@pytest.mark.parametrize(
    ("build", "offset"),
    [
        (lambda g, x: g.node("Exp", [x]), 0.0),
        (lambda g, x: g.node("Erf", [x]), 0.0),
        (lambda g, x: g.node("Log", [x]), 12.0),
        (lambda g, x: g.node("Sqrt", [x]), 12.0),
        (lambda g, x: g.node("Reciprocal", [x]), 12.0),
        (lambda g, x: g.node("Div", [g.const(f32(-2.5)), x]), 12.0),
        (lambda g, x: g.node("Pow", [x, g.const(f32(0.3))]), 12.0),
        (lambda g, x: g.node("Pow", [x, g.const(np.array([3], np.int64))]), 0.0),
        (lambda g, x: g.node("Pow", [g.const(f32(2.0)), x]), 0.0),
        (lambda g, x: g.node("Pow", [x, g.const(f32(-0.5))]), 12.0),
        (lambda g, x: g.node("Log", [g.node("Add", [g.node("Relu", [x]), g.const(f32(1e-3))])]), 0.0),
        (lambda g, x: g.node("Log", [g.node("Max", [x, g.const(f32(0.05))])]), 0.0),
        (lambda g, x: g.node("Mul", [g.node("Log", [x]), g.const(f32(10 / np.log(10)))]), 12.0),
        (lambda g, x: g.node("Sqrt", [g.node("Add", [g.node("Mul", [x, x]), g.const(f32(0.01))])]), 0.0),
        (lambda g, x: g.node("Div", [x, g.node("Add", [g.node("Abs", [x]), g.const(f32(2.0))])]), 0.0),
        (lambda g, x: g.node("Mul", [x, g.node("Sigmoid", [g.node("Mul", [x, g.const(f32(1.702))])])]), 0.0),
        (lambda g, x: g.node("Sub", [x, g.node("Tanh", [x])]), 0.0),
    ],
)  # fmt: skip
def test_functions_of_one_number_are_one_layer(build: Build, offset: float) -> None:
    assert last(checked(body(build, offset=offset), 30)) == [Function]


def test_a_constant_for_each_feature_over_features() -> None:
    numbers = f32(np.arange(1, 7))
    model = checked(body(lambda g, x: g.node("Div", [g.const(numbers), x]), offset=12.0), 30)
    assert last(model, 2) == [Function, Affine]


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.5, 1.0), (None, 0.5), (-0.25, None)])
def test_clip(opset: int, low: float | None, high: float | None) -> None:
    """Exact in integers, as these bounds are on the grid."""

    def build(g: Graph, x: str) -> str:
        if opset < 11:
            bounds = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
            return str(g.node("Clip", [x], **bounds))
        inputs = [x, *("" if value is None else g.const(f32(value)) for value in (low, high))]
        return str(g.node("Clip", inputs if inputs[-1] else inputs[:-1]))

    proto = body(build, opset)
    x = {"x": data(3, 20, 4)}
    model = agree(proto, x)
    assert last(model) == [Function]
    quantized = quantize(model, x, WIDE)
    y = Session(quantized, "reference").run(x).outputs["out"]
    assert y.min() == (low if low is not None else y.min())
    assert y.max() == (high if high is not None else y.max())
    assert sqnr_db(run_oracle(model, x).outputs["out"], y) > 40


def test_minima_and_maxima_of_constants_are_clips() -> None:
    def build(g: Graph, x: str) -> str:
        y = g.node("Max", [g.const(f32([-1.0])), x, g.const(f32(-2.0))])
        return str(g.node("Min", [y, g.const(f32([[[1.5]]]))]))

    assert last(checked(body(build), 40)) == [Function]


def halves(g: Graph, x: str) -> tuple[str, str]:
    return g.slice(x, [0], [3], [2]), g.slice(x, [3], [6], [2])


def square(g: Graph, x: str, how: int) -> str:
    exponent = [f32(2.0), np.array(2, np.int64), f32([[2.0]])][how % 3]
    return str(g.node("Mul", [x, x]) if how == 3 else g.node("Pow", [x, g.const(exponent)]))


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("how", range(4))
def test_magnitudes(how: int, epsilon: float) -> None:
    """However the squares and the root are written, in either order, with what passes values between."""

    def build(g: Graph, x: str) -> str:
        a, b = halves(g, x)
        parts = [square(g, g.node("Cast", [a], to=1), how), square(g, g.node("Identity", [b]), (how + 1) % 4)]
        total = g.node("Add", parts[:: 1 if how % 2 else -1])
        if epsilon:
            total = g.node("Add", [g.const(f32([epsilon])), total])
        total = g.node("Dropout", [total])
        return str(g.node("Sqrt", [total]) if how < 2 else g.node("Pow", [total, g.const(f32(0.5))]))

    model = checked(body(build), 45)
    assert last(model) == [Magnitude]
    layer = model.layers[-1]
    assert isinstance(layer, Magnitude)
    assert layer.root
    assert layer.left == layer.right
    assert layer.epsilon == pytest.approx(epsilon)


def test_the_power_is_one_layer_beside_the_magnitude() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    a, b = halves(g, y)
    power = g.node("Add", [square(g, a, 0), square(g, b, 3)], ["power"])
    g.node("Sqrt", [power], ["root"])
    g.output("power")
    g.output("root")
    model = agree(g.model(), {"x": data(3, 20, 4)})
    assert [type(layer) for layer in model.layers] == [Recurrent, Magnitude, Magnitude]
    assert [layer.root for layer in model.layers if isinstance(layer, Magnitude)] == [False, True]


def test_a_square_is_an_exact_product() -> None:
    assert last(checked(body(lambda g, x: square(g, x, 0)), 40)) == [Multiply]


def banded(build: Callable[[Graph, str, str], str]) -> onnx.ModelProto:
    """[N, T, 2, 3] and one number of each band, [N, T, 2, 1]."""

    def inner(g: Graph, x: str) -> str:
        y = g.node("Reshape", [x, g.const(np.array([0, 0, 2, 3]))])
        return str(g.node("Reshape", [build(g, y, g.slice(y, [1], [2], [3])), g.const(np.array([0, 0, 6]))]))

    return body(inner, offset=9.0)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("swapped", [False, True])
def test_features_are_repeated_along_inner_axes(op: str, swapped: bool) -> None:
    model = checked(banded(lambda g, x, y: g.node(op, [y, x] if swapped else [x, y])), 28)
    assert last(model) == [Combine]


@pytest.mark.parametrize("op", ["Sub", "Div"])
def test_differences_and_quotients_of_one_shape(op: str) -> None:
    def build(g: Graph, x: str) -> str:
        return str(g.node(op, list(halves(g, x))))

    assert last(checked(body(build, offset=9.0), 28)) == [Combine]


def test_a_gated_linear_unit() -> None:
    def build(g: Graph, x: str) -> str:
        a, b = g.node("Split", [x, g.const(np.array([3, 3]))], 2, axis=2)
        return str(g.node("Mul", [a, g.node("Sigmoid", [b])]))

    assert Multiply in last(checked(body(build), 40), 4)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (6,), (1, 6)])
def test_prelu(shape: tuple[int, ...]) -> None:
    slope = np.random.default_rng(3).uniform(-0.5, 1.5, shape).astype(np.float32)
    model = checked(body(lambda g, x: g.node("PRelu", [x, g.const(slope)])), 45)
    assert last(model) == [Pointwise if slope.size == 1 else PRelu]


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda g, x: g.node("Pow", [x, x]), UnsupportedError, "to the power of features"),
        (lambda g, x: g.node("Pow", [x, g.random(6)]), UnsupportedError, "differ from feature to feature"),
        (lambda g, x: g.node("Max", [x, x]), UnsupportedError, "takes the maximum of 2 computed tensors"),
        (lambda g, x: g.node("Min", [x, g.random(6)]), UnsupportedError, "differ from feature to feature"),
        (lambda g, x: g.node("PRelu", [x, g.random(2, 1, 6)]), UnsupportedError, "only one slope, or one per feature"),
        (lambda g, x: g.node("Clip", [x, g.const(f32(np.nan))]), ModelFileError, "nan"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, error: type[QrnnError], says: str) -> None:
    refused_with(error, body(build), says)


@pytest.mark.parametrize(
    "build",
    [
        lambda g, total: g.node("Log", [total]),
        lambda g, total: g.node("Mul", [g.const(f32(10 / np.log(10))), g.node("Log", [total])]),
        lambda g, total: g.node("Div", [g.node("Log", [g.node("Sqrt", [total])]), g.const(f32(np.log(10) / 20))]),
        lambda g, total: g.node("Sub", [g.const(f32(1.5)), g.node("Add", [g.node("Log", [total]), g.const(f32(2))])]),
    ],
)
def test_the_logarithm_of_a_power_is_one_layer(build: Build) -> None:
    def whole(g: Graph, x: str) -> str:
        a, b = halves(g, x)
        return build(g, g.node("Add", [g.node("Add", [square(g, a, 0), square(g, b, 3)]), g.const(f32(1e-3))]))

    assert last(checked(body(whole), 40)) == [LogPower]


@pytest.mark.parametrize("bound", ["Max", "Clip"])
@pytest.mark.parametrize("root", [False, True])
def test_a_power_with_a_lower_bound(root: bool, bound: str) -> None:
    """ln(max(a² + b², 0.5)) is one layer; the root of it a magnitude and a clip."""

    def build(g: Graph, x: str) -> str:
        a, b = halves(g, x)
        total = g.node("Add", [square(g, a, 0), square(g, b, 3)])
        total = g.node(bound, [total, g.const(f32(0.5))])
        return str(g.node("Sqrt" if root else "Log", [total]))

    model = checked(body(build), 40)
    assert last(model, 2 if root else 1) == ([Magnitude, Function] if root else [LogPower])


@pytest.mark.parametrize("opset", [11, 13])
def test_log_softmax(opset: int) -> None:
    model = checked(body(lambda g, x: g.node("LogSoftmax", [x], axis=2), opset), 40)
    assert last(model) == [LogSoftmax]


@pytest.mark.parametrize("latest", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_argmax(keepdims: int, latest: int) -> None:
    """An index is a place in the value, however the tensor behind it is ordered; integers find the largest of their own."""
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2], name="rows")
    y = g.node("Gather", [y, g.const(np.array([5, 1, 1, 0, 2, 3]))], axis=2)
    g.node("ArgMax", [y], ["out"], axis=-1, keepdims=keepdims, select_last_index=latest)
    g.outputs.append(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT64, ["n", "t", *[1] * keepdims]))
    x = {"x": data(3, 20, 4)}
    model = agree(g.model(), x)
    quantized = quantize(model, x, WIDE)
    want = Session(quantized, "reference").run(x).outputs["out"]
    for backend in available_backends():
        np.testing.assert_array_equal(Session(quantized, backend).run(x).outputs["out"], want)
    assert np.mean(run_oracle(model, x).outputs["out"] == want) > 0.95


def spectrum(g: Graph, y: str, channels: int, how: int) -> str:
    """The magnitude of the two halves of the channels, axis 1, as silero's STFT has it; or of one Split."""
    if how:
        parts = g.node("Split", [y, g.const(np.array([channels, channels]))], 2, axis=1)
    else:
        whole = g.slice(y, [0], [2**63 - 1], [0])
        ends = [(0, channels), (channels, 2**63 - 1)]
        parts = [g.slice(g.slice(whole, [a], [b], [1]), [0], [2**63 - 1], [2]) for a, b in ends]
    squares = [g.node("Pow", [g.node("Cast", [part], to=1), g.const(f32(2.0))]) for part in parts]
    return str(g.node("Sqrt", [g.node("Add", squares)]))


@pytest.mark.parametrize("how", [0, 1])
@pytest.mark.parametrize("bands", [0, 3])
def test_the_magnitude_of_a_spectrum_between_convolutions(bands: int, how: int) -> None:
    """Neither the slices nor the squares are tensors of their own, with the channels of all bands in the order of the convolutions."""
    g, channels = Graph(opset=17), 5
    x = g.input("x", ["n", "t", 6 if bands else 4])
    if bands:
        y = g.node("Conv", [g.axes_op("Unsqueeze", x, [1]), g.random(2 * channels, 1, 2, 4)], pads=[1, 0, 0, 0])
        y = g.node("Conv", [spectrum(g, y, channels, how), g.random(3, channels, 1, 2)])
        y = g.node("Transpose", [y], perm=[2, 0, 1, 3])
        y = g.node("Reshape", [y, g.const(np.array([0, 0, 6]))])
    else:
        y = g.node("Conv", [g.node("Transpose", [x], perm=[0, 2, 1]), g.random(2 * channels, 4, 2)], pads=[1, 0])
        y = g.node("Conv", [spectrum(g, y, channels, how), g.random(6, channels, 1)])
        y = g.node("Transpose", [y], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, 6, 5)[0]], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(3, 9, 6 if bands else 4)})
    assert [type(layer) for layer in model.layers] == [Conv, Magnitude, Conv, Recurrent]


def test_swish_behind_a_convolution_with_batch_normalization() -> None:
    """Both uses read what the convolution writes, whose weights hold the normalization."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = g.node("Conv", [x, g.random(5, 4, 3)], pads=[2, 0])
    y = g.node("BatchNormalization", [y, *(g.random(5) for _ in range(3)), g.const(f32(np.linspace(0.5, 2, 5)))])
    y = g.node("Mul", [y, g.node("Sigmoid", [y])])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 5, 5)[0]], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(3, 9, 4)})
    assert [type(layer) for layer in model.layers] == [Conv, Pointwise, Recurrent]
