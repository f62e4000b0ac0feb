"""The layers of normalizations: over all features of a step, over groups of them, and over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.arithmetic.norms import NORM_FEATURES
from qrnn.model.kinds.group_norm import GroupNorm
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.merging import refuse_merged
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import BATCH, TIME, Features, Tensor


@dataclass(frozen=True)
class Divisor:
    """What values are divided by: max(sqrt(variance + epsilon) + outside, least), or without ``centred`` of the mean of the squares.

    With ``sample`` the variance is the estimate from a sample over time.
    """

    centred: bool = True
    epsilon: float = 0.0
    outside: float = 0.0
    least: float = 0.0
    sample: bool = False


def normalized(
    node: Node,
    build: Builder,
    value: Features,
    axes: list[int],
    gain: FloatArray,
    bias: FloatArray,
    divisor: Divisor,
) -> Features:
    """Return gain · (value - mean) / divisor + bias over ``axes``; gain and bias broadcast to the value, with size 1 along batch and time."""
    check_axes(node, value, axes)
    node.reserve(3 * value.ids.size)
    inner = [axis for axis in axes if value.axes[axis] is None]
    places = np.moveaxis(
        np.arange(value.ids.size).reshape(value.ids.shape), inner, range(value.ids.ndim - len(inner), value.ids.ndim)
    )
    groups = int(np.prod([size for axis, size in enumerate(value.ids.shape) if axis not in inner]))
    own = [np.broadcast_to(what, value.ids.shape).reshape(-1) for what in (gain, bias)]
    timed = any(value.axes[axis] is TIME for axis in axes)
    over_time = timed and not build.one_step  # one step is a sequence of its own
    if over_time and (fill := build.fill_of(value)) is not None:
        raise node.refuse(
            f"normalizes {value.describe()} over time, of which a mask set the steps behind each sequence to {fill:g}, which the graph counts; "
            "here each sequence's own steps count, re-export without the mask"
        )
    ids = of_groups(node, build, value.ids.reshape(-1), places.reshape(groups, -1), own[0], own[1], divisor, over_time)
    return Features(ids.reshape(value.ids.shape), value.axes)


def check_axes(node: Node, value: Features, axes: list[int]) -> None:
    """Refuse a normalization over the batch axis, or over one that batch and time are merged to."""
    for axis in axes:
        refuse_merged(node, value, axis, "normalizes over")
        if value.axes[axis] is BATCH:
            raise node.refuse(
                f"normalizes {value.describe()} over the batch axis {axis}; only features and time can be, re-export with axes of these"
            )


def of_groups(
    node: Node,
    build: Builder,
    flat: IndexArray,
    places: IndexArray,
    gain: FloatArray,
    bias: FloatArray,
    divisor: Divisor,
    over_time: bool,
) -> IndexArray:
    """Return the ids of gain · (x - mean) / divisor + bias of the features ``flat`` [n], in their order.

    ``places`` [K, R] has the places in it of each group; each place is in one of them.
    """
    if not (np.isfinite(gain).all() and np.isfinite(bias).all()):
        raise node.damaged("its constants make NaN or infinity; check the trained weights")
    tensor, count, inner, indices = grouped(node, build, flat[places])
    if over_time and not tensor.has_time:
        raise node.refuse(
            f"normalizes '{tensor.name}' over time, which has no time axis; run this part outside the model"
        )
    order = np.empty(flat.size, np.int64)  # the place of each feature of the tensor
    order[indices] = places.reshape(-1)
    output = build.result(node, flat.size, tensor.has_time)
    names, d = (node.name, tensor.name, output.name), divisor
    g, b, sizes, bounds = gain[order], bias[order], (count, inner), (d.outside, d.least)
    if over_time and build.window is None:
        build.layers.append(SequenceNorm(*names, g, b, d.epsilon, *sizes, d.centred, *bounds, d.sample))
    elif over_time:
        steps = build.window or 0
        build.layers.append(RunningNorm(*names, g, b, d.epsilon, *sizes, d.centred, *bounds, d.sample, steps))
        span = f"the last {steps} steps" if steps else "all steps so far"
        build.notes.append(
            f"{node.where}: normalizes over {span} at each step, since a window was asked for, where the graph does over whole sequences"
        )
    elif count == flat.size and count <= NORM_FEATURES and d.outside == d.least == 0.0:
        build.layers.append(LayerNorm(*names, g, b, d.epsilon, d.centred))
    else:
        build.layers.append(GroupNorm(*names, g, b, d.epsilon, *sizes, d.centred, *bounds))
    found = np.empty(flat.size, np.int64)
    found[places.reshape(-1)] = indices + output.start
    return found


def grouped(node: Node, build: Builder, rows: IndexArray) -> tuple[Tensor, int, int, IndexArray]:
    """Return a tensor [outer, R, inner] of whose groups of R features each row of ids [K, R] is one: R, inner, and where each id is in it.

    It is a tensor that there is, where its order allows it.
    """
    number, count = rows.shape
    tensor, indices = build.operand(node, Features(rows, (None, None)))
    if indices.size == tensor.features and np.array_equal(np.sort(indices), np.arange(indices.size)):
        node.reserve(2 * indices.size)
        row_of = np.empty(indices.size, np.int64)
        row_of[indices] = np.repeat(np.arange(number), count)
        same = np.flatnonzero(row_of == row_of[0])
        inner = int(same[1]) if count > 1 else 1
        if number % inner == 0:
            layout = row_of.reshape(-1, count, inner)
            if (layout == layout[:, :1]).all():
                return tensor, count, inner, indices
    tensor = build.gathered(node, indices + tensor.start)[0]
    return tensor, count, 1, np.arange(indices.size)
