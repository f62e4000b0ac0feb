"""Conv, BatchNormalization and MaxPool over time and within a step, against ONNX Runtime and in integers; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.max_pool import MaxPool
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with

Build = Callable[[Graph, str], str]


def over_time(build: Build, channels: int, features: int = 4) -> onnx.ModelProto:
    """X [N, T, 4] as [N, 4, T] → ``build`` → [N, C, T'] → GRU → out."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", features])], perm=[0, 2, 1])
    y = g.node("Transpose", [build(g, x)], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, channels, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def over_bands(build: Build, channels: int, bands: int, time_last: bool = False) -> onnx.ModelProto:
    """X [N, T, 6] as [N, 1, T, 6], or [N, 1, 6, T] → ``build`` → [N, C, T', B] → GRU → out."""
    g = Graph(opset=17)
    x = g.axes_op("Unsqueeze", g.input("x", ["n", "t", 6]), [1])
    x = g.node("Transpose", [x], perm=[0, 1, 3, 2]) if time_last else x
    y = build(g, x)
    y = g.node("Transpose", [y], perm=[3, 0, 1, 2] if time_last else [2, 0, 1, 3])
    y = g.node("Reshape", [y, g.const(np.array([0, 0, channels * bands]))])
    g.node("Identity", [g.recurrent("GRU", y, channels * bands, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def conv(g: Graph, x: str, shape: list[int], bias: bool = True, **attributes: Any) -> Any:
    return g.node("Conv", [x, g.random(*shape), *([g.random(shape[0])] if bias else [])], **attributes)


def norm(g: Graph, x: str, channels: int, **attributes: Any) -> Any:
    values = [g.random(channels) for _ in range(3)]
    return g.node(
        "BatchNormalization", [x, *values, g.const(np.linspace(0.5, 2, channels, dtype=np.float32))], **attributes
    )


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ([3, 4, 1], {}),
        ([3, 4, 3], {"pads": [2, 0]}),
        ([3, 4, 3], {"pads": [1, 1], "strides": [2]}),
        ([3, 4, 3], {"dilations": [2]}),
        ([4, 1, 3], {"group": 4, "pads": [0, 2]}),
        ([6, 2, 2], {"group": 2, "strides": [3]}),
        ([3, 4, 4], {"auto_pad": "SAME_UPPER"}),
        ([3, 4, 4], {"auto_pad": "SAME_LOWER", "kernel_shape": [4]}),
        ([3, 4, 2], {"auto_pad": "VALID", "strides": [2]}),
    ],
)
def test_conv_over_time(shape: list[int], attributes: dict[str, Any]) -> None:
    x = {"x": data(3, 11, 4)}
    model = agree(over_time(lambda g, x: str(conv(g, x, shape, **attributes)), shape[0]), x)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [Conv, Recurrent]
    made = quantize(model, x, Scheme(activations=16, input="16"))
    assert sqnr_db(oracle(model, x)["out"], Session(made, "reference").run(x).outputs["out"]) > 40


@pytest.mark.parametrize("time_last", [False, True])
@pytest.mark.parametrize(
    ("shape", "bands", "attributes"),
    [
        ([3, 1, 3, 3], 6, {"pads": [1, 1, 1, 1]}),
        ([3, 1, 1, 2], 3, {"strides": [1, 2]}),
        ([2, 1, 3, 3], 3, {"pads": [2, 1, 0, 1], "strides": [1, 2], "dilations": [1, 1]}),
        ([2, 1, 2, 3], 3, {"auto_pad": "SAME_UPPER", "strides": [1, 2]}),
        ([2, 1, 2, 4], 6, {"auto_pad": "SAME_LOWER"}),
    ],
)
def test_conv_over_bands(shape: list[int], bands: int, attributes: dict[str, Any], time_last: bool) -> None:
    if time_last:
        shape = [*shape[:2], shape[3], shape[2]]
        attributes = {k: v[::-1] if k != "auto_pad" else v for k, v in attributes.items()}
        if "pads" in attributes:
            before, after = attributes["pads"][2:], attributes["pads"][:2]
            attributes["pads"] = [*before, *after]
    graph = over_bands(lambda g, x: str(conv(g, x, shape, **attributes)), shape[0], bands, time_last)
    assert isinstance(agree(graph, {"x": data(3, 7, 6)}).layers[0], Conv)


def stack(g: Graph, x: str) -> str:
    """Conv, BatchNormalization, Relu and MaxPool, twice."""
    y = g.node("Relu", [norm(g, conv(g, x, [3, 1, 3, 3], pads=[1, 1, 1, 1]), 3)])
    y = g.node("MaxPool", [y], kernel_shape=[1, 2], strides=[1, 2])
    y = g.node("Relu", [norm(g, conv(g, y, [4, 3, 3, 3], bias=False, pads=[1, 1, 1, 1]), 4, epsilon=0.1)])
    return str(g.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 1], pads=[0, 1, 1, 0]))


def test_a_stack_of_layers_needs_no_copies() -> None:
    x = {"x": data(3, 9, 6)}
    model = agree(over_bands(stack, 4, 3), x)
    assert [type(layer) for layer in model.layers] == [Conv, Pointwise, MaxPool, Conv, Pointwise, MaxPool, Recurrent]
    made = quantize(model, x, Scheme(activations=16, input="16"))
    assert sqnr_db(oracle(model, x)["out"], Session(made, "reference").run(x).outputs["out"]) > 35


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2], "strides": [2]},
        {"kernel_shape": [3], "pads": [1, 1]},
        {"kernel_shape": [2], "dilations": [3]},
        {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
        {"kernel_shape": [2], "strides": [2], "auto_pad": "VALID", "storage_order": 0},
    ],
)
@pytest.mark.parametrize("steps", [8, 9, 10])
def test_max_pool_over_time(attributes: dict[str, Any], steps: int) -> None:
    graph = over_time(lambda g, x: str(g.node("MaxPool", [conv(g, x, [3, 4, 1])], name="pool", **attributes)), 3)
    agree(graph, {"x": data(3, steps, 4)})


@pytest.mark.parametrize(
    ("bands", "attributes"),
    [
        (3, {"strides": [1, 2], "kernel_shape": [1, 2]}),
        (2, {"ceil_mode": 1, "strides": [1, 4], "kernel_shape": [2, 3], "pads": [1, 0, 0, 0]}),
    ],
)
def test_max_pool_over_bands(bands: int, attributes: dict[str, Any]) -> None:
    graph = over_bands(
        lambda g, x: str(g.node("MaxPool", [conv(g, x, [2, 1, 1, 1])], name="pool", **attributes)), 2, bands
    )
    agree(graph, {"x": data(3, 7, 6)})


def padded(g: Graph, x: str, pads: list[int], **attributes: Any) -> Any:
    return g.node("Pad", [x, g.const(np.array(pads))], name="pad", **attributes)


@pytest.mark.parametrize("pads", [[0, 0, 2, 0, 0, 0], [0, 0, 1, 0, 0, 1]])
def test_zeros_padded_before_a_convolution_are_its_padding(pads: list[int]) -> None:
    graph = over_time(lambda g, x: str(conv(g, padded(g, x, pads), [3, 4, 3])), 3)
    assert len(agree(graph, {"x": data(3, 7, 4)}).layers) == 2


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_bands_are_padded(mode: str) -> None:
    def build(g: Graph, x: str) -> str:
        y = padded(g, x, [0, 0, 0, 1, 0, 0, 0, 1], mode=mode)
        return str(conv(g, y, [2, 1, 2, 3], pads=[1, 0, 0, 0]))

    agree(over_bands(build, 2, 6), {"x": data(3, 7, 6)})


def test_bands_are_dropped() -> None:
    build = lambda g, x: str(conv(g, padded(g, x, [0, 0, 0, -1, 0, 0, 0, -2]), [2, 1, 2, 1]))  # noqa: E731
    agree(over_bands(build, 2, 3), {"x": data(3, 7, 6)})


def test_batch_normalization_behind_a_dense_layer() -> None:
    def build(g: Graph, x: str) -> str:
        y = g.node("MatMul", [g.node("Transpose", [x], perm=[0, 2, 1]), g.random(4, 3)])
        return str(norm(g, g.node("Transpose", [y], perm=[0, 2, 1]), 3))

    assert len(agree(over_time(build, 3), {"x": data(2, 5, 4)}).layers) == 2


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda g, x: conv(g, x, [3, 4, 3], pads=[3, 0]), UnsupportedError, "reads steps that a convolution makes of padded zeros"),
        (lambda g, x: conv(g, x, [3, 4, 3], pads=[-1, 0]), UnsupportedError, "pads holds -1; 0 to 65536"),
        (lambda g, x: conv(g, x, [3, 4, 3], pads=[1]), ModelFileError, "pads lists 1 numbers, expected 2"),
        (lambda g, x: conv(g, x, [3, 4, 3], strides=[0]), UnsupportedError, "strides holds 0; 1 to 65536"),
        (lambda g, x: conv(g, x, [3, 4, 3], strides=[2], auto_pad="SAME_UPPER"), UnsupportedError,
         "auto_pad=SAME_UPPER with stride 2 over time depends on the number of steps"),
        (lambda g, x: conv(g, x, [3, 4, 3], auto_pad="SAME"), ModelFileError, "auto_pad='SAME', expected NOTSET"),
        (lambda g, x: conv(g, x, [3, 3, 3]), ModelFileError, "W [3, 3, 3] with group=1 does not fit the 4 channels"),
        (lambda g, x: conv(g, x, [3, 1, 3], group=4), ModelFileError, "W [3, 1, 3] with group=4 does not fit"),
        (lambda g, x: conv(g, x, [3, 4, 3], kernel_shape=[2]), ModelFileError, "kernel_shape=[2], but W has the kernel [3]"),
        (lambda g, x: g.node("Conv", [x, g.random(3, 4, 3), g.random(2)], name="conv"), ModelFileError, "has shape [2], expected [3]"),
        (lambda g, x: g.node("Conv", [x, x], name="conv"), UnsupportedError, "weights as graph inputs are not supported"),
        (lambda g, x: g.node("Relu", [padded(g, x, [0, 0, 1, 0, 0, 1])]), UnsupportedError, "reads zeros that are padded"),
        (lambda g, x: g.node("MaxPool", [padded(g, x, [0, 0, 1, 0, 0, 1])], kernel_shape=[2]), UnsupportedError, "read zeros padded"),
        (lambda g, x: conv(g, padded(g, x, [0, 0, 3, 0, 0, 0]), [3, 4, 3]), UnsupportedError, "makes of padded zeros"),
        (lambda g, x: conv(g, x, [3, 4, 3], pads=[0, 3], strides=[2]), UnsupportedError, "pads axis 2 by 0 and 3, and its kernel spans 3"),
        (lambda g, x: conv(g, padded(g, x, [0, 0, -1, 0, 0, 0]), [3, 4, 3]), UnsupportedError, "along batch or time"),
        (lambda g, x: conv(g, padded(g, x, [0, 0, 1, 0, 0, 0], mode="edge"), [3, 4, 3]), UnsupportedError, "mode=edge over batch or time"),
        (lambda g, x: conv(g, g.node("Pad", [x, g.const(np.array([0, 0, 1, 0, 0, 0])), g.const(np.float32(1))]), [3, 4, 3]),
         UnsupportedError, "pads [N, 4, T] with 1.0; over batch or time only zeros"),
        (lambda g, x: padded(g, x, [0, 0, 1]), ModelFileError, "pads lists 3 numbers"),
        (lambda g, x: norm(g, conv(g, x, [3, 4, 3]), 3, training_mode=1), UnsupportedError, "training_mode=1"),
        (lambda g, x: norm(g, conv(g, x, [3, 4, 3]), 4), ModelFileError, "has shape [4], expected one value per channel, [3]"),
        (lambda g, x: norm(g, conv(g, x, [3, 4, 3]), 3, epsilon=-9.0), ModelFileError, "var + epsilon is not positive"),
        (lambda g, x: g.node("MaxPool", [x], ["p", "i"], name="pool", kernel_shape=[2])[0], UnsupportedError, "output 'i' (Indices)"),
        (lambda g, x: g.node("MaxPool", [x], name="pool", kernel_shape=[2, 2]), ModelFileError, "its kernel [2, 2] has 2 axes"),
        (lambda g, x: g.node("MaxPool", [x], name="pool", kernel_shape=[0]), UnsupportedError, "has an axis of 0 taps"),
        (lambda g, x: g.node("MaxPool", [x], name="pool", kernel_shape=[1], strides=[2], ceil_mode=1), UnsupportedError,
         "only windows that reach the input"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, error: type[QrnnError], says: str) -> None:
    refused_with(error, over_time(build, 3), says)
