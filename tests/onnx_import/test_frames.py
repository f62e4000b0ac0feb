"""Windows along both axes of an image in each step: networks of cameras, radar and sensor images before recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

import qrnn
from qrnn.backends import available_backends
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.max_pool import MaxPool
from qrnn.model.kinds.pointwise import Pointwise

from .builders import Graph
from .running import agree, data, refused_with
from .test_windows import conv, norm

SIZES = 7, 6
"""Height and width of the images."""

CHANNELS = 4


def ints(g: Graph, *values: int) -> str:
    return str(g.const(np.array(values)))


def finish(g: Graph, y: str, features: int) -> onnx.ModelProto:
    """Y [T, N, features] → GRU → out."""
    g.node("Identity", [g.recurrent("GRU", y, features, 3)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def merged(build: Any, reshape: str = "-1", pool: str = "GlobalMaxPool", opset: int = 17) -> onnx.ModelProto:
    """X [N, T, 4, 7, 6] as [N·T, 4, 7, 6] → ``build`` (a graph and a name to a name and its channels) → ``pool`` → [N, T, C] → GRU."""
    g = Graph(opset=opset)
    x = g.input("x", ["n", "t", CHANNELS, *SIZES])
    if reshape == "-1":
        y = g.node("Reshape", [x, ints(g, -1, CHANNELS, *SIZES)])
    else:  # the product of batch and time, as PyTorch writes x.reshape(n * t, …)
        shape = g.node("Shape", [x])
        n, t = (g.node("Gather", [shape, g.const(np.array(k))], axis=0) for k in (0, 1))
        both = g.axes_op("Unsqueeze", g.node("Mul", [n, t]), [0])
        y = g.node("Reshape", [x, g.node("Concat", [both, ints(g, CHANNELS, *SIZES)], axis=0)])
    y, channels = build(g, y)
    y = g.node(pool, [y])
    front = g.node("Slice", [g.node("Shape", [x]), ints(g, 0), ints(g, 2)])
    y = g.node("Reshape", [y, g.node("Concat", [front, ints(g, -1)], axis=0)])
    return finish(g, g.node("Transpose", [y], perm=[1, 0, 2]), channels)


@st.composite
def places(draw: st.DrawFn, sizes: tuple[int, int], dilated: bool) -> tuple[dict[str, Any], list[int], tuple[int, int]]:
    """Attributes of windows over images of a size, their kernel, and the size of what they give."""
    kernel, strides, dilations, before, after, left = [], [], [], [], [], []
    for size in sizes:
        taps = draw(st.integers(1, min(3, size)))
        dilation = draw(st.integers(1, 2)) if dilated and (taps - 1) * 2 < size else 1
        span, stride = (taps - 1) * dilation + 1, draw(st.integers(1, 3))
        edges = draw(st.integers(0, span // 2)), draw(st.integers(0, span // 2))
        kernel.append(taps)
        strides.append(stride)
        dilations.append(dilation)
        before.append(edges[0])
        after.append(edges[1])
        left.append((size + sum(edges) - span) // stride + 1)
    attributes: dict[str, Any] = {"strides": strides, "pads": [*before, *after]}
    attributes |= {"dilations": dilations} if dilated else {}
    narrow = any(
        taps < stride for taps, stride in zip(kernel, strides, strict=True)
    )  # ONNX Runtime then wants to pad by -1
    if not narrow and draw(st.integers(0, 3)) == 0:
        auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
        attributes = {"strides": strides, "auto_pad": auto}
        left = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    return attributes, kernel, (left[0], left[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_stacks_of_layers(drawn: st.DataObject) -> None:
    """Convolutions of every grouping, with BatchNormalization and Relu, and pools, one after the other."""

    def build(g: Graph, y: str) -> tuple[str, int]:
        channels, sizes = CHANNELS, SIZES
        for _ in range(drawn.draw(st.integers(1, 3))):
            kind = drawn.draw(st.sampled_from(["Conv", "Conv", "MaxPool", "AveragePool"]))
            attributes, kernel, sizes = drawn.draw(places(sizes, kind != "AveragePool"))
            if kind == "Conv":
                groups = drawn.draw(st.sampled_from([1, 2, channels]))
                of_group = drawn.draw(st.integers(1, 3)) if groups == channels else 2
                y = conv(g, y, [groups * of_group, channels // groups, *kernel], group=groups, **attributes)
                channels = groups * of_group
                y = g.node("Relu", [norm(g, y, channels)]) if drawn.draw(st.booleans()) else y
            else:
                if kind == "AveragePool":
                    attributes["count_include_pad"] = drawn.draw(st.integers(0, 1))
                y = g.node(kind, [y], kernel_shape=kernel, **attributes)
        return y, channels

    agree(merged(build, drawn.draw(st.sampled_from(["-1", "product"]))), {"x": data(2, 3, CHANNELS, *SIZES)})


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pools_with_a_window_past_the_end(kind: str) -> None:
    """ceil_mode=1 adds a place to an axis that strides do not fill."""
    attributes = {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}
    model = agree(merged(lambda g, y: (g.node(kind, [y], **attributes), CHANNELS)), {"x": data(2, 3, CHANNELS, *SIZES)})
    assert (model.layers[1].line_places, model.layers[1].band_places) == (4, 3)  # type: ignore[attr-defined]


def test_normalization_and_functions_become_parts_of_a_convolution() -> None:
    def build(g: Graph, y: str) -> tuple[str, int]:
        y = g.node("Relu", [norm(g, conv(g, y, [6, 4, 3, 3], pads=[1, 1, 1, 1]), 6)])
        return g.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2]), 6

    model = agree(merged(build), {"x": data(2, 3, CHANNELS, *SIZES)})
    kinds = [type(layer) for layer in model.layers]
    assert [kind for kind in kinds if kind in (Conv, Pointwise, MaxPool)] == [Conv, Pointwise, MaxPool]
    (layer,) = (layer for layer in model.layers if isinstance(layer, Conv))
    assert (layer.lines, layer.bands, layer.weight.size) == (*SIZES, 6 * 4 * 9)


@pytest.mark.parametrize("order", [(2, 3, 4), (3, 4, 2), (3, 2, 4)])
def test_convolutions_over_time_and_images(order: tuple[int, int, int]) -> None:
    """Conv of three axes, with time first, last or between both axes of the images, and a pool likewise."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 2, *SIZES])], perm=[0, 2, 1, 3, 4])
    turn, back = [0, 1, *order], [0, 1, *(2 + order.index(k) for k in (2, 3, 4))]

    def of(time: Any, high: Any, wide: Any) -> list[Any]:
        return [(time, high, wide)[axis - 2] for axis in order]

    y = conv(
        g,
        g.node("Transpose", [x], perm=turn),
        [3, 2, *of(3, 3, 2)],
        pads=[*of(2, 1, 1), *of(0, 1, 0)],
        strides=of(1, 2, 1),
    )
    y = g.node(
        "MaxPool",
        [g.node("Relu", [y])],
        kernel_shape=of(2, 2, 3),
        strides=of(1, 1, 2),
        pads=[*of(1, 0, 1), *of(0, 1, 1)],
    )
    y = g.node("ReduceMean", [g.node("Transpose", [y], perm=back)], axes=[3, 4], keepdims=0)  # [N, 3, T]
    agree(finish(g, g.node("Transpose", [y], perm=[2, 0, 1]), 3), {"x": data(2, 6, 2, *SIZES)})


def test_images_with_channels_last() -> None:
    """TimeDistributed layers of Keras: images [N·T, H, W, C], turned before and after each window, and all features of a step as one axis."""
    g = Graph(opset=15)
    x = g.input("x", ["n", 5, *SIZES, 3])
    y = g.node("Transpose", [g.node("Reshape", [x, ints(g, -1, *SIZES, 3)])], perm=[0, 3, 1, 2])
    y = g.node("Transpose", [g.node("Relu", [conv(g, y, [4, 3, 3, 3], auto_pad="SAME_UPPER")])], perm=[0, 2, 3, 1])
    y = g.node("Reshape", [g.node("Reshape", [y, ints(g, -1, 5, *SIZES, 4)]), ints(g, -1, *SIZES, 4)])
    y = g.node("MaxPool", [g.node("Transpose", [y], perm=[0, 3, 1, 2])], kernel_shape=[2, 2], strides=[2, 2])
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 3, 1]), ints(g, -1, 36)])
    y = g.node("Transpose", [g.node("Reshape", [y, ints(g, -1, 5, 36)])], perm=[1, 0, 2])
    agree(finish(g, y, 36), {"x": data(2, 5, *SIZES, 3)})


@pytest.mark.parametrize("backend", available_backends())
def test_whole_sequences_chunks_and_streams(backend: str) -> None:
    """Images of a causal convolution over time, a depthwise one and a pool: ragged batches, chunks and streams have the same bits."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 2, *SIZES])], perm=[0, 2, 1, 3, 4])
    y = g.node("Relu", [conv(g, x, [4, 2, 2, 3, 3], pads=[1, 1, 1, 0, 1, 1])])
    y = g.node("MaxPool", [conv(g, y, [4, 1, 1, 3, 3], group=4)], kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[2, 0, 1, 3, 4]), ints(g, 0, 0, -1)])
    model = agree(finish(g, y, 16), {"x": data(2, 6, 2, *SIZES)})
    made = qrnn.quantize(model, {"x": data(4, 12, 2, *SIZES)}, SHORTS)
    x, lengths = 3 * data(3, 7, 2, *SIZES, seed=5), np.array([7, 4, 1])
    want, session = qrnn.Session(made, "reference").run({"x": x}, lengths).outputs["out"], qrnn.Session(made, backend)
    np.testing.assert_array_equal(session.run({"x": x}, lengths).outputs["out"], want)
    first = session.run({"x": x[:, :3]}, end=False)
    second = session.run({"x": x[:, 3:]}, state=first.state)
    np.testing.assert_array_equal(np.concatenate([first.outputs["out"], second.outputs["out"]], 1)[0], want[0])
    stream = session.stream(3)
    steps = np.stack([stream.step({"x": x[:, t]})["out"] for t in range(7)], 1)
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(steps[n, :length], want[n, :length])


def test_windows_along_three_axes_of_a_step_are_refused() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 2, 3, 4, 5])
    y = g.node("GlobalMaxPool", [conv(g, g.node("Reshape", [x, ints(g, -1, 2, 3, 4, 5)]), [5, 2, 2, 2, 2])])
    front = g.node("Slice", [g.node("Shape", [x]), ints(g, 0), ints(g, 2)])
    y = g.node("Reshape", [y, g.node("Concat", [front, ints(g, -1)], axis=0)])
    refused_with(
        UnsupportedError, finish(g, g.node("Transpose", [y], perm=[1, 0, 2]), 5),
        "windows over the axes [2, 3, 4] of [N·T, 2, 3, 4, 5]; two axes beside time are supported",
    )  # fmt: skip


@pytest.mark.parametrize(("kernel", "axis", "size"), [([8, 2], 2, 7), ([2, 7], 3, 6)])
def test_windows_larger_than_images_are_refused(kernel: list[int], axis: int, size: int) -> None:
    proto = merged(lambda g, y: (conv(g, y, [5, CHANNELS, *kernel]), 5))
    refused_with(ModelFileError, proto, f"its window spans {max(kernel)} elements of axis {axis}, which has {size}")


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_pools_whose_channels_are_steps(drawn: st.DataObject) -> None:
    """X [N, T, 5, 4]: AveragePool and MaxPool over the axes behind time, which PyTorch's adaptive pools of turned images become."""
    op, sizes = drawn.draw(st.sampled_from(["AveragePool", "MaxPool"])), (5, 4)
    attributes, kernel, left = drawn.draw(places(sizes, dilated=op == "MaxPool"))
    if op == "AveragePool":
        attributes |= {"count_include_pad": drawn.draw(st.integers(0, 1))}
    g = Graph(opset=18)
    x = g.input("x", ["n", "t", *sizes])
    y = g.node(op, [x], kernel_shape=kernel, **attributes)
    y = g.node("Reshape", [y, ints(g, 0, 0, -1)])
    proto = finish(g, g.node("Transpose", [y], perm=[1, 0, 2]), left[0] * left[1])
    agree(proto, {"x": data(2, 3, *sizes)})
