"""Where the windows of Conv and pools lie: which of their axes is time, which are axes within a step, and how they are padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qrnn.errors import QrnnError
from qrnn.model.parts import IndexArray
from qrnn.model.window import EACH, LARGEST_WINDOW, Window
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.values import BATCH, MERGED, TIME, Features, Padding, Tensor


class Geometry(NamedTuple):
    """The windows of a node over ``value`` [N, C, …]: ``time_axis`` is an axis of it, None where there is none.

    The windows of ``band`` move over the axis ``band_axes``; where these are several, as one, each window reads one element. Those of ``line``
    move over the axes ``line_axes`` in the same way. At each place of ``apart_axes`` windows of both move by themselves: to the layer, these
    places are channels.
    """

    value: Features
    time: Window
    line: Window
    band: Window
    time_axis: int | None
    line_axes: tuple[int, ...]
    band_axes: tuple[int, ...]
    apart_axes: tuple[int, ...]
    beyond: tuple[int, int] = (0, 0)
    """How many windows over time read nothing but padding, before the first step and after the last one; ``time`` leaves them out."""

    @property
    def channels(self) -> int:
        """Return the number of channels, C."""
        return int(self.value.ids.shape[1])

    @property
    def bands(self) -> int:
        """Return the number of bands of a line."""
        return math.prod(self._sizes(self.band_axes))

    @property
    def lines(self) -> int:
        """Return the number of lines of a step."""
        return math.prod(self._sizes(self.line_axes))

    @property
    def places(self) -> int:
        """Return the number of places of a step of the output."""
        return self.line.count(self.lines) * self.band.count(self.bands)

    @property
    def apart(self) -> int:
        """Return the number of places with windows of their own."""
        return math.prod(self._sizes(self.apart_axes))

    @property
    def weight_order(self) -> list[int]:
        """Return the axes of a kernel [O, C, …] in the order in which a layer has them: time, lines, bands, and those of one tap."""
        inner = [*(() if self.time_axis is None else (self.time_axis,)), *self.line_axes, *self.band_axes]
        return [0, 1, *inner, *(axis for axis in range(2, self.value.ids.ndim) if axis not in inner)]

    def _sizes(self, axes: tuple[int, ...]) -> list[int]:
        return [self.value.ids.shape[axis] for axis in axes]

    @property
    def _order(self) -> list[int]:
        """Return the axes in the order in which a layer has its features: lines, bands, then places apart and channels of each."""
        inner = [*self.line_axes, *self.band_axes, *self.apart_axes, 1]
        return [axis for axis in range(self.value.ids.ndim) if axis not in inner] + inner

    def operand(self, node: Node, build: Builder) -> Tensor:
        """Return a tensor whose features are those of ``value``, with the channels of a band one after the other."""
        by_band = Features(self.value.ids.transpose(self._order), (None,) * self.value.ids.ndim)
        tensor, indices = build.operand(node, by_band)
        if not tensor.has_time:
            raise node.refuse(f"reads '{tensor.name}', which has no time axis; run this part outside the model")
        if np.array_equal(indices, np.arange(tensor.features)):
            return tensor
        return build.gathered(node, indices + tensor.start)[0]

    def result(self, output: Tensor, channels: int) -> Features:
        """Return the features of a tensor of places · apart · ``channels`` features, in the order of the node's output."""
        lines = [self.line.count(size) for size in self._sizes(self.line_axes)]
        bands = [self.band.count(self.bands)] if len(self.band_axes) == 1 else self._sizes(self.band_axes)
        inner = [*lines, *bands, *self._sizes(self.apart_axes), channels]
        ids: IndexArray = output.ids.reshape([1] * (self.value.ids.ndim - len(inner)) + inner)
        return Features(np.ascontiguousarray(ids.transpose(np.argsort(self._order))), self.value.axes)


def geometry(node: Node, build: Builder, kernel: tuple[int, ...], zeros: bool = True, beyond: bool = False) -> Geometry:
    """Return the windows of a node over its first input.

    ``kernel`` holds the taps of each axis behind the channels; ``zeros`` says that what a window reads outside of its input are zeros, and not
    elements that do not take part. Windows over time of nothing but padding are refused unless ``beyond`` is true.
    """
    given = node.features(0, "its input")
    padding = build.padding_of(given)
    if padding.fill is not None:
        raise node.refuse("reads steps that a convolution makes of padded zeros; only another Conv may")
    if build.one_step and zeros:
        padding = _past_steps(node, build, padding)
    value = padding.value
    if value.ids.ndim != len(kernel) + 2 or not kernel:
        raise node.damaged(
            f"its kernel {list(kernel)} has {len(kernel)} axes, its input {value.describe()} has {value.ids.ndim - 2} behind the channels"
        )
    batch = value.axes[0] in (BATCH, *MERGED) or (build.batch is None and value.axes[0] is None and len(value.ids) == 1)
    if not batch or value.axes[1] is not None:
        raise node.refuse(
            f"reads {value.describe()}; only [N, C, …] with the batch first and channels next is supported"
        )
    padding = _laid_out(node, build, padding, zeros)
    value = padding.value
    sizes = [size if symbol is None else None for size, symbol in zip(value.ids.shape[2:], value.axes[2:], strict=True)]
    past_padding: list[tuple[int, int]] | None = [] if beyond and padding.cache is None and not build.one_step else None
    windows = dict(enumerate(windows_of(node, kernel, sizes, padding.edges[2:], zeros, past_padding), 2))
    time = next((axis for axis in windows if value.axes[axis] is TIME), None)
    if time is not None and padding.cache is not None:
        windows[time] = _behind_past(node, build, windows[time], padding.edges[time][0])
    inner = [axis for axis in windows if axis != time and (value.ids.shape[axis] > 1 or not windows[axis].trivial)]
    moving = [axis for axis in inner if not windows[axis].trivial]
    if len(moving) > 2:
        raise node.refuse(
            f"has windows over the axes {moving} of {value.describe()}; two axes beside time are supported"
        )
    for axis in moving:
        if windows[axis].count(size := value.ids.shape[axis]) < 1:
            raise node.damaged(f"its window spans {windows[axis].span} elements of axis {axis}, which has {size}")
    bands = tuple(moving[-1:] or inner)
    others = tuple(axis for axis in inner if axis not in moving and axis not in bands)
    lines, apart = (tuple(moving[:-1]), others) if len(moving) > 1 else (others, ())
    line, band = (windows[moving[0]] if len(moving) > 1 else EACH), (windows[moving[-1]] if moving else EACH)
    left_out = past_padding[0] if past_padding else (0, 0)
    found = Geometry(value, windows.get(time or 0, EACH), line, band, time, lines, bands, apart, left_out)
    if time is not None and build.one_step and padding.cache is None and not found.time.trivial:
        raise node.refuse(
            f"has a window over the time axis {time} of a graph of one step per call; re-export with a dynamic time axis"
        )
    return found


def _laid_out(node: Node, build: Builder, padding: Padding, zeros: bool) -> Padding:
    """Return padding that a window of the node may have: behind the channels, where it reads ``zeros`` there; the rest becomes features."""
    value = padding.value
    kept = [edge if zeros and axis >= 2 else (0, 0) for axis, edge in enumerate(padding.edges)]
    rest = [(a - c, b - d) for (a, b), (c, d) in zip(padding.edges, kept, strict=True)]
    if not any(map(any, rest)):
        return padding
    if any(any(edge) for edge, symbol in zip(rest, value.axes, strict=True) if symbol is not None):
        raise node.refuse(
            f"reads zeros that are padded to the batch or time axis of {value.describe()}; only Conv and AveragePool read zeros "
            "padded over time"
        )
    node.reserve_features(count([size + sum(edge) for size, edge in zip(value.ids.shape, rest, strict=True)]))
    ids = np.pad(value.ids, rest, constant_values=build.zero)
    return Padding(Features(ids, value.axes), tuple(kept), padding.cache)


def _past_steps(node: Node, build: Builder, padding: Padding) -> Padding:
    """Return what holds elements of caches, in a graph of one step per call, as the padding of the present step.

    It is that where the steps of the same features follow each other along an axis behind the channels, up to the present one; otherwise the
    elements are read one by one.
    """
    value = padding.value
    flat = value.ids.reshape(-1)
    if not any(part.tensor.kind == "cache" for part in build.book.parts(flat)):
        return padding
    node.reserve(2 * flat.size)
    features, delays = (ids.reshape(value.ids.shape) for ids in build.caches.resolve(node.where, build.book, flat))
    for axis in range(2, value.ids.ndim):
        past = value.ids.shape[axis] - 1
        line = np.arange(past, -1, -1).reshape([-1 if k == axis else 1 for k in range(value.ids.ndim)])
        last = np.take(features, [past], axis=axis)
        if past and not any(padding.edges[axis]) and (delays == line).all() and (features == last).all():
            axes = [None if symbol is TIME else symbol for symbol in value.axes]
            axes[axis] = TIME
            edges = [(past, 0) if k == axis else edge for k, edge in enumerate(padding.edges)]
            return Padding(Features(last, tuple(axes)), tuple(edges), np.take(value.ids, range(past), axis=axis))
    return padding


def _behind_past(node: Node, build: Builder, window: Window, past: int) -> Window:
    """Return a window over time whose padding are the ``past`` steps of a cache; refuse one that skips or repeats steps between calls."""
    if window.before != past or window.after:
        raise node.refuse(
            f"pads time by {window.before - past} and {window.after} beside the {past} past steps of a cache, so that calls would not follow "
            "each other; run this part outside the model"
        )
    stride = 1 if build.one_step and past == window.span - 1 else window.stride  # one step a call: each gives an output
    if past < window.span - stride:
        raise node.refuse(
            f"has a window of {window.span} steps over a cache of {past} past ones, so that calls would not follow each other; re-export with "
            f"a cache of {window.span - 1}"
        )
    return Window(window.taps, stride, window.dilation, past)


def windows_of(
    node: Node,
    kernel: tuple[int, ...],
    sizes: list[int | None],
    edges: Sequence[tuple[int, int]] | None = None,
    zeros: bool = True,
    beyond: list[tuple[int, int]] | None = None,
) -> list[Window]:
    """Return the window of each axis behind the channels, whose ``sizes`` are None for time; ``edges`` are zeros that are padded already.

    ``zeros`` is as for `geometry`: elements past the padding, which ceil_mode may add to the last window, are none. Windows over time of
    nothing but padding are left out and counted in the list ``beyond``, where it is given.
    """
    edges = edges or [(0, 0)] * len(kernel)
    rank = len(kernel)
    strides, dilations = _listed(node, "strides", rank, [1] * rank), _listed(node, "dilations", rank, [1] * rank)
    pads = _listed(node, "pads", 2 * rank, [0] * 2 * rank)
    auto = str(node.take("auto_pad", "NOTSET"))
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.damaged(f"auto_pad={auto!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    ceil = bool(node.take("ceil_mode", 0))
    windows = []
    for k, (taps, stride, dilation, given, edge) in enumerate(
        zip(kernel, strides, dilations, sizes, edges, strict=True)
    ):
        size = None if given is None else given + sum(edge)
        if not 1 <= taps <= LARGEST_WINDOW:
            raise node.refuse(
                f"its kernel {list(kernel)} has an axis of {taps} taps; 1 to {LARGEST_WINDOW} are supported"
            )
        before, after = pads[k], pads[k + rank]
        span = (taps - 1) * dilation + 1
        if auto != "NOTSET":
            before, after = _same(node, auto, size, span, stride)
        padded = after
        if ceil:
            after += stride - 1
            if size is not None:  # no more than the last window needs
                after -= (size + before + after - span) % stride
            if zeros and after > padded:
                raise node.refuse(
                    f"ceil_mode=1 gives axis {k + 2} a window past its padding, whose zeros count while what is past them does not; "
                    "run this part outside the model"
                )
        before, after = before + edge[0], after + edge[1]
        if beyond is not None and given is None:
            first = max(0, -((span - 1 - before) // stride))
            last = max(0, after - span + 1) if stride == 1 else 0
            if before >= first * stride:
                before, after = before - first * stride, after - last
                beyond.append((first, last))
        if max(before, after) >= span:
            raise node.refuse(
                f"pads axis {k + 2} by {before} and {after}, and its kernel spans {span}; only windows that reach the input are supported"
            )
        windows.append(Window(taps, stride, dilation, before, after))
    return windows


def _listed(node: Node, name: str, length: int, default: list[int]) -> list[int]:
    values = [int(v) for v in node.take(name, default)]
    if len(values) != length:
        raise node.damaged(f"{name} lists {len(values)} numbers, expected {length}")
    least = 0 if name == "pads" else 1
    if bad := [v for v in values if not least <= v <= LARGEST_WINDOW]:
        raise node.refuse(f"{name} holds {bad[0]}; {least} to {LARGEST_WINDOW} are supported")
    return values


def _same(node: Node, auto: str, size: int | None, span: int, stride: int) -> tuple[int, int]:
    """Return the padding (before, after) of an axis of ``size`` elements, None for time, that ``auto_pad`` asks for."""
    if auto == "VALID":
        return 0, 0
    if size is None and stride > 1:
        raise node.refuse(
            f"auto_pad={auto} with stride {stride} over time depends on the number of steps; re-export with pads"
        )
    total = span - 1 if size is None else max(0, (-(-size // stride) - 1) * stride + span - size)
    less = total // 2
    return (less, total - less) if auto == "SAME_UPPER" else (total - less, less)


@axis_rule("Conv", "MaxPool", "AveragePool")
def window_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the batch, and the axes behind the channels, of which some have another size; the channels are new where there are weights."""
    value: AxisTensor = node.input(0)
    batch, channels, *axes = value.axes
    if node.op == "Conv":
        weight = node.input(1)
        roles.mark(weight, "weight", node.name)
        known = isinstance(weight, np.ndarray)
        channels = roles.made(int(weight.shape[0]) if known else None, node.name)
        kernel = tuple(weight.shape[2:]) if known else ()
    else:
        kernel = tuple(node.take("kernel_shape", ()))
    try:
        windows: list[Window] = windows_of(node, kernel, [axis.size for axis in axes], zeros=False)
    except (QrnnError, ValueError):  # the second pass says what is wrong with the node
        return AxisTensor((batch, channels, *axes))
    return AxisTensor((batch, channels, *(_moved(*pair, node, roles) for pair in zip(axes, windows, strict=True))))


def _moved(axis: Axis, window: Window, node: Node, roles: Roles) -> Axis:
    """Return the axis of the window's places along ``axis``, of the same role; it is ``axis`` itself where its size is unknown or stays."""
    if axis.size is None or (size := window.count(axis.size)) == axis.size:
        return axis
    made = roles.made(size, node.name)
    roles.same(made, axis, node.name)
    return made
