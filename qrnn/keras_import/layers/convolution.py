"""Convolutions over time, over bands, or over both: channels are moved to the axis where ONNX has them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.keras_import.activations import activate
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Value


def channels_first(graph: Graph, x: Value, last: bool) -> Value:
    """Return a value with its channels behind the batch."""
    return graph.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)]) if last else x


def channels_last(graph: Graph, y: Value, last: bool) -> Value:
    """Return a value with its channels where the layer has them."""
    return graph.transpose(y, [0, *range(2, y.rank), 1]) if last else y


def channels_are_last(settings: Settings) -> bool:
    """Return whether the layer has channels on the last axis."""
    return bool(
        settings.choice("data_format", ("channels_last", "channels_first", None), "channels_last") != "channels_first"
    )


@dataclass(frozen=True)
class Windows:
    """How windows move along the axes of a layer."""

    kernel: list[int]
    strides: list[int]
    dilation: list[int]
    padding: str

    @classmethod
    def of(cls, call: Call, axes: int, key: str = "kernel_size") -> Windows:
        """Return the windows that a layer's settings describe."""
        settings = call.settings
        kernel = settings.sizes(key, axes, None)
        strides = settings.take("strides", 1)
        known = ("valid", "same", "causal") if axes == 1 and key == "kernel_size" else ("valid", "same")
        padding = settings.choice("padding", known, "valid")
        own = Settings(settings.where, {"strides": kernel if strides is None else strides})
        return cls(kernel, own.sizes("strides", axes), settings.sizes("dilation_rate", axes), padding)

    def attributes(self, settings: Settings, sizes: Sequence[int | None]) -> dict[str, Any]:
        """Return the attributes of ONNX's operator for axes of these sizes."""
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True)]
        found: dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.strides}
        if any(d != 1 for d in self.dilation):
            found["dilations"] = self.dilation
        if self.padding == "causal":
            found["pads"] = [reach[0], 0]
        elif self.padding == "same":
            pads = [self._pad(settings, *axis) for axis in zip(sizes, reach, self.strides, strict=True)]
            found["pads"] = [pad // 2 for pad in pads] + [pad - pad // 2 for pad in pads]
        return found

    @staticmethod
    def _pad(settings: Settings, size: int | None, reach: int, stride: int) -> int:
        """Return how much 'same' pads an axis at both ends together."""
        if stride == 1:
            return reach
        if size is None:
            settings.refuse(
                f"padding='same' with a stride of {stride} pads by the number of steps, which is open; declare it in keras.Input, or take "
                "'causal' or 'valid'"
            )
        return max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)

    def shape(self, sizes: Sequence[int | None]) -> list[int | None]:
        """Return the sizes behind the windows."""
        found: list[int | None] = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel, self.strides, self.dilation, strict=True):
            reach = (kernel - 1) * dilation if self.padding == "valid" else 0
            found.append(None if size is None else (size - reach - 1) // stride + 1)
        return found


def _read(call: Call, axes: int) -> tuple[Value, bool, int]:
    """Return what a convolution reads, whether its channels are last, and how many they are."""
    call.only()
    x, last = call.x, channels_are_last(call.settings)
    if x.rank != axes + 2:
        call.settings.damaged(f"it reads {x.text()}, expected {axes + 2} axes")
    channels = x.shape[-1 if last else 1]
    if channels is None:
        call.settings.refuse(f"it reads {x.text()}, whose number of channels is open; give the input a fixed one")
    return x, last, channels


def convolve(
    graph: Graph, call: Call, x: Value, last: bool, windows: Windows, kernel: Any, bias: Any, group: int
) -> Value:
    """Write one convolution; ``kernel`` is [output, input / group, *windows], and ``bias`` may be None."""
    graph.mixes_steps(x)
    first = channels_first(graph, x, last)
    operands = [graph.constant(kernel, "kernel"), *([] if bias is None else [graph.constant(bias, "bias")])]
    shape = (None, int(kernel.shape[0]), *windows.shape(first.shape[2:]))
    y = graph.apply(
        "Conv", first, *operands, shape=shape, group=group, **windows.attributes(call.settings, first.shape[2:])
    )
    return channels_last(graph, y, last)


def _onnx_kernel(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a kernel [*windows, input, output] in ONNX's order."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


@layer("Conv1D", "Convolution1D", "Conv2D", "Convolution2D")
def conv(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a convolution over one or two axes."""
    axes = 2 if "2D" in call.layer.kind else 1
    x, last, channels = _read(call, axes)
    settings = call.settings
    filters, groups, bias = settings.size("filters"), settings.size("groups", 1), settings.flag("use_bias", True)
    windows = Windows.of(call, axes)
    if channels % groups or filters % groups:
        settings.damaged(f"groups={groups} does not divide {channels} channels and {filters} filters")
    wanted = [("kernel", (*windows.kernel, channels // groups, filters)), *([("bias", (filters,))] if bias else [])]
    kernel, *biases = call.weights.take(call.layer.where, wanted)
    y = convolve(graph, call, x, last, windows, _onnx_kernel(kernel), biases[0] if biases else None, groups)
    return [activate(graph, y, settings)]


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a convolution of each channel by itself."""
    axes = 2 if "2D" in call.layer.kind else 1
    x, last, channels = _read(call, axes)
    settings = call.settings
    many, bias = settings.size("depth_multiplier", 1), settings.flag("use_bias", True)
    for key in ("filters", "groups"):
        settings.take(key)
    windows = Windows.of(call, axes)
    name = "depthwise_kernel" if graph.keras_version[:1] == "2" else "kernel"
    wanted = [(name, (*windows.kernel, channels, many)), *([("bias", (channels * many,))] if bias else [])]
    kernel, *biases = call.weights.take(call.layer.where, wanted)
    y = convolve(graph, call, x, last, windows, _by_channel(kernel), biases[0] if biases else None, channels)
    return [activate(graph, y, settings)]


def _by_channel(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a depthwise kernel [*windows, channels, multiplier] as ONNX's [channels · multiplier, 1, *windows]."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(moved.shape[0] * moved.shape[1], 1, *moved.shape[2:])


@layer("SeparableConv1D", "SeparableConvolution1D", "SeparableConv2D", "SeparableConvolution2D")
def separable(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a convolution of each channel by itself, and one of a single tap that joins the channels."""
    axes = 2 if "2D" in call.layer.kind else 1
    x, last, channels = _read(call, axes)
    settings = call.settings
    filters, many = settings.size("filters"), settings.size("depth_multiplier", 1)
    bias = settings.flag("use_bias", True)
    settings.choice("groups", (1,), 1)
    windows = Windows.of(call, axes)
    wanted = [
        ("depthwise_kernel", (*windows.kernel, channels, many)),
        ("pointwise_kernel", (*[1] * axes, channels * many, filters)),
        *([("bias", (filters,))] if bias else []),
    ]
    deep, point, *biases = call.weights.take(call.layer.where, wanted)
    between = convolve(graph, call, x, last, windows, _by_channel(deep), None, channels)
    single = Windows([1] * axes, [1] * axes, [1] * axes, "valid")
    y = convolve(graph, call, between, last, single, _onnx_kernel(point), biases[0] if biases else None, 1)
    return [activate(graph, y, settings)]


@layer("Conv1DTranspose", "Convolution1DTranspose", "Conv2DTranspose", "Convolution2DTranspose")
def transposed(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a transposed convolution, cut as Keras cuts it: 'same' gives strides times as many steps."""
    axes = 2 if "2D" in call.layer.kind else 1
    x, last, channels = _read(call, axes)
    settings = call.settings
    filters, bias = settings.size("filters"), settings.flag("use_bias", True)
    settings.choice("groups", (1,), 1)
    if settings.take("output_padding") is not None:
        settings.refuse("output_padding is not supported; leave it out")
    windows = Windows.of(call, axes)
    if windows.padding == "causal":
        settings.refuse("padding='causal' is not supported; expected 'valid' or 'same'")
    wanted = [("kernel", (*windows.kernel, filters, channels)), *([("bias", (filters,))] if bias else [])]
    kernel, *biases = call.weights.take(call.layer.where, wanted)
    reach = [(k - 1) * d + 1 for k, d in zip(windows.kernel, windows.dilation, strict=True)]
    extra = [max(r - s, 0) if windows.padding == "same" else 0 for r, s in zip(reach, windows.strides, strict=True)]
    more = [max(s - r, 0) for r, s in zip(reach, windows.strides, strict=True)]
    graph.mixes_steps(x)
    first = channels_first(graph, x, last)
    sizes = [
        None if size is None else (size - 1) * s + r - e + m
        for size, s, r, e, m in zip(first.shape[2:], windows.strides, reach, extra, more, strict=True)
    ]
    attributes: dict[str, Any] = {
        "kernel_shape": windows.kernel,
        "strides": windows.strides,
        "dilations": windows.dilation,
        "pads": [e // 2 for e in extra] + [e - e // 2 for e in extra],
    }
    if any(more):
        attributes["output_padding"] = more
    operands = [graph.constant(np.moveaxis(kernel, (-1, -2), (0, 1)), "kernel")]
    operands += [graph.constant(biases[0], "bias")] if biases else []
    y = graph.apply("ConvTranspose", first, *operands, shape=(None, filters, *sizes), **attributes)
    return [activate(graph, channels_last(graph, y, last), settings)]
