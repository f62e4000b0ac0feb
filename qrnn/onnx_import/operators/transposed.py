"""ConvTranspose: a Conv of as many channels more as there are phases, whose output elements lie between each other."""

from __future__ import annotations

import math

import numpy as np

from qrnn.errors import ModelFileError, QrnnError
from qrnn.model.transposed import Transposed, phase_bias, phase_weights, phases
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.convolution import conv
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.unstacking import unstacked
from qrnn.onnx_import.values import TIME, Features


@operator("ConvTranspose")
def conv_transpose(node: Node, build: Builder) -> Features:
    """Import ConvTranspose over time and over one or two axes within a step; X [N, C, …], W [C, O / group, …], B [O]."""
    weight, value = node.weights(1, "W"), node.features(0, "X")
    if weight.ndim < 3 or 0 in weight.shape:
        raise node.damaged(
            f"W '{node.input_names[1]}' has shape {list(weight.shape)}, expected [C, O / group, …] with no empty axis"
        )
    kernel = tuple(weight.shape[2:])
    if (given := node.take("kernel_shape")) is not None and tuple(given) != kernel:
        raise node.damaged(f"kernel_shape={list(given)}, but W has the kernel {list(kernel)}")
    groups = int(node.take("group", 1))
    if groups < 1 or len(weight) % groups:
        raise node.damaged(f"W {list(weight.shape)} does not fit group={groups}")
    channels = groups * weight.shape[1]
    bias = node.weights(2, "B") if node.has_input(2) else np.zeros(channels)
    if bias.shape != (channels,):
        raise node.damaged(f"B '{node.input_names[2]}' has shape {list(bias.shape)}, expected [{channels}]")
    if value.ids.ndim != weight.ndim:
        raise node.damaged(f"its kernel {list(kernel)} does not fit its input {value.describe()}")
    sizes = [size if symbol is None else None for size, symbol in zip(value.ids.shape[2:], value.axes[2:], strict=True)]
    axes = axes_of(node, kernel, sizes)
    if empty := [
        k
        for k, (axis, size) in enumerate(zip(axes, sizes, strict=True), 2)
        if size is not None and axis.count(size) < 1
    ]:
        raise node.damaged(f"its pads leave nothing of axis {empty[0]}")
    try:
        windows = [axis.window for axis in axes]
    except ModelFileError as error:
        raise node.refuse(f"reads inputs too far from each other: {error}") from error
    node.reserve(phases(axes) * weight.size // math.prod(kernel) * math.prod(window.taps for window in windows))
    attributes = {
        "pads": [window.before for window in windows] + [window.after for window in windows],
        "dilations": [window.dilation for window in windows],
        "group": groups,
    }
    made = phase_weights(weight, axes, groups), phase_bias(bias, axes, groups)
    names = [node.input_names[0], node.input_names[1], node.input_names[1]]
    found = conv(node.as_operator("Conv", [value, *made], names, attributes), build)
    return _interleaved(node, build, found, axes, groups, sizes)


def _interleaved(
    node: Node, build: Builder, value: Features, axes: list[Transposed], groups: int, sizes: list[int | None]
) -> Features:
    """Return the output of a convolution of all phases with its elements between each other along each axis, without those that are cut off."""
    if phases(axes) == 1:
        return value
    strides, (batch, rows, *places) = [axis.stride for axis in axes], value.ids.shape
    rank, time = len(axes), next((k for k, symbol in enumerate(value.axes[2:]) if symbol is TIME), None)
    ids = value.ids.reshape(batch, groups, *strides, -1, *places)
    order, shape = [0, 1, 2 + rank], [batch, rows // phases(axes)]
    for k, (stride, size) in enumerate(zip(strides, places, strict=True)):
        order += [3 + rank + k] if k == time else [3 + rank + k, 2 + k]
        shape.append(size if k == time else size * stride)
    if time is not None:  # its phases are steps of their own
        order.insert(0, 2 + time)
    ids = ids.transpose(order).reshape(-1, *shape)
    kept = (slice(None) if size is None else slice(axis.count(size)) for axis, size in zip(axes, sizes, strict=True))
    ids = np.ascontiguousarray(ids[(slice(None), slice(None), slice(None), *kept)])
    steps = [Features(phase, value.axes) for phase in ids]
    return steps[0] if time is None or len(steps) == 1 else unstacked(node, build, steps, axes[time].cut)


def axes_of(node: Node, kernel: tuple[int, ...], sizes: list[int | None]) -> list[Transposed]:
    """Return how a ConvTranspose moves over each axis behind the channels, whose ``sizes`` are None for time."""
    rank = len(kernel)
    strides, dilations = _listed(node, "strides", rank, 1), _listed(node, "dilations", rank, 1)
    more, pads = _listed(node, "output_padding", rank, 0), _listed(node, "pads", 2 * rank, 0)
    auto = str(node.take("auto_pad", "NOTSET"))
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.damaged(f"auto_pad={auto!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    wanted = node.take("output_shape")
    if wanted is not None and len(wanted) != rank:
        raise node.damaged(f"output_shape lists {len(wanted)} numbers, expected {rank}")
    found = []
    for k, (taps, stride, dilation, size) in enumerate(zip(kernel, strides, dilations, sizes, strict=True)):
        if taps > LARGEST_WINDOW:
            raise node.refuse(
                f"its kernel {list(kernel)} has an axis of {taps} taps; 1 to {LARGEST_WINDOW} are supported"
            )
        if more[k] >= max(stride, dilation):
            raise node.damaged(
                f"output_padding={more}, expected less than the stride or the dilation of axis {k + 2}, {max(stride, dilation)}"
            )
        before, after = (0, 0) if auto == "VALID" else (pads[k], pads[k + rank])
        if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
            if wanted is not None and size is None:
                raise node.refuse(
                    f"output_shape={list(wanted)} fixes how many steps come out; re-export with pads and output_padding"
                )
            whole = (taps - 1) * dilation + 1 + more[k] - stride  # more than ``stride`` for each input
            total = whole if wanted is None or size is None else whole + stride * size - int(wanted[k])
            if total < 0 and wanted is not None:
                more[k], total = more[k] - total, 0
            if (
                total < 0
            ):  # elements without a tap, behind the others, which the standard has and ONNX Runtime leaves out
                raise node.refuse(
                    f"auto_pad={auto} asks for {-total} elements of axis {k + 2} that no tap reaches; re-export with pads and "
                    "output_padding"
                )
            less = total // 2
            before, after = (less, total - less) if auto == "SAME_UPPER" else (total - less, less)
        found.append(Transposed(taps, stride, dilation, before, after, more[k]))
    return found


def _listed(node: Node, name: str, length: int, least: int) -> list[int]:
    """Return an attribute that lists ``length`` numbers, ``least`` where it is left out."""
    values = [int(v) for v in node.take(name, [least] * length)]
    if len(values) != length:
        raise node.damaged(f"{name} lists {len(values)} numbers, expected {length}")
    if bad := [v for v in values if not least <= v <= LARGEST_WINDOW]:
        raise node.refuse(f"{name} holds {bad[0]}; {least} to {LARGEST_WINDOW} are supported")
    return values


@axis_rule("ConvTranspose")
def conv_transpose_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the batch, and the axes behind the channels, of which some have another size; the channels are new."""
    value, weight = node.input(0), node.input(1)
    roles.mark(weight, "weight", node.name)
    batch, _, *given = value.axes
    known = isinstance(weight, np.ndarray) and weight.ndim > 2
    channels = roles.made(int(weight.shape[1]) * int(node.take("group", 1)) if known else None, node.name)
    try:
        axes = axes_of(node, tuple(weight.shape[2:]) if known else (), [axis.size for axis in given])
    except (QrnnError, ValueError):  # the second pass says what is wrong with the node
        return AxisTensor((batch, channels, *given))
    return AxisTensor((batch, channels, *(_moved(*pair, node, roles) for pair in zip(given, axes, strict=True))))


def _moved(axis: Axis, window: Transposed, node: Node, roles: Roles) -> Axis:
    """Return the axis of the output along ``axis``, of the same role; ``axis`` itself where its size is unknown or stays."""
    if axis.size is None or (size := window.count(axis.size)) == axis.size:
        return axis
    made = roles.made(size, node.name)
    roles.same(made, axis, node.name)
    return made
