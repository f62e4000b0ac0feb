"""Means, sums, largest and least values over axes: Reduce…, GlobalAveragePool and GlobalMaxPool; over features of a step, and over time.

A reduction over time is a layer that gives at each step that of all steps so far, and its last step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.reduce import Reduce
from qrnn.model.kinds.running import Running
from qrnn.model.parts import IndexArray
from qrnn.model.reduced import Reduction
from qrnn.onnx_import.builder import LARGE_FILL, Builder
from qrnn.onnx_import.merging import refuse_merged
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.normalizing import grouped
from qrnn.onnx_import.operators.attention import pooled
from qrnn.onnx_import.reduced_features import record, statistic
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.taken_apart import moments_of, norm_of
from qrnn.onnx_import.values import BATCH, TIME, Features, Tensor, Value, is_shape

FUNCTIONS: dict[str, Reduction] = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}


@operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")
def reduce_axes(node: Node, build: Builder) -> Features:
    """Import a reduction over ``axes``, an attribute or an input; without any, over all, or over none with noop_with_empty_axes."""
    value = node.features(0, "data")
    axes, keep = _axes(node, value.ids.ndim)
    return reduced(node, build, value, axes, keep)


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node, build: Builder) -> Features:
    """Import a pool over all axes behind the channels, which keep size 1; X [N, C, …]."""
    value = node.features(0, "X")
    if value.ids.ndim < 3:
        raise node.damaged(f"reads {value.describe()}, expected [N, C, …] with an axis behind the channels")
    return reduced(node, build, value, range(2, value.ids.ndim), keep=True)


def _axes(node: Node, rank: int) -> tuple[list[int], bool]:
    """Return the axes of a reduction, counted from the front, and whether they keep size 1."""
    noop, keep = bool(node.take("noop_with_empty_axes", 0)), bool(node.take("keepdims", 1))
    attribute = node.take("axes")
    given = node.ints(1, "axes") if node.has_input(1) else [int(axis) for axis in attribute or ()]
    if not given:
        return ([] if noop else list(range(rank))), keep
    axes = [node.axis(axis, rank) for axis in given]
    if len(set(axes)) != len(axes):
        raise node.damaged(f"axes={given} name an axis twice")
    return axes, keep


def reduced(node: Node, build: Builder, value: Features, axes: Collection[int], keep: bool) -> Features:
    """Return the reduction of ``value`` over ``axes``, which then have size 1, or are gone unless they are kept."""
    for axis in axes:
        refuse_merged(node, value, axis, "reduces")
    if any(value.axes[axis] is BATCH for axis in axes):
        raise node.refuse(
            f"reduces the batch axis of {value.describe()}; only features of a step and time can be reduced, re-export with axes of these"
        )
    over_time = any(value.axes[axis] is TIME for axis in axes) and not build.one_step  # one step is its own mean
    if over_time and node.op == "ReduceSum" and (weighted := pooled(node, build, value)) is not None:
        value, over_time = weighted, False
    if over_time and (fill := build.fill_of(value)) is not None:
        _check_fill(node, value, fill)
    sizes = [1 if axis in axes else size for axis, size in enumerate(value.ids.shape)]
    inner = [axis for axis in axes if value.axes[axis] is None]
    result = value
    rows = None
    if over_time or any(value.ids.shape[axis] > 1 for axis in inner):
        rows = np.moveaxis(value.ids, inner, range(value.ids.ndim - len(inner), value.ids.ndim))
        rows = rows.reshape(int(np.prod(sizes)), -1)
        result = _reduced_rows(node, build, rows, over_time)
        result = Features(result.ids.reshape(sizes), value.axes)
    if over_time:
        result = build.last_step(node, result)
        if rows is not None and FUNCTIONS[node.op] == "mean":
            record(build, result, build.computable(node, rows).reshape(rows.shape), True, "mean")
    elif not keep:
        for axis in axes:
            build.hide_axis(node, result, axis)
    if keep:
        return result
    kept = [axis for axis in range(len(sizes)) if axis not in axes]
    return Features(result.ids.reshape([sizes[axis] for axis in kept]), tuple(result.axes[axis] for axis in kept))


def _reduced_rows(node: Node, build: Builder, rows: IndexArray, over_time: bool) -> Features:
    """Return one feature for each row of ids [K, R]; of squares it is a moment, so that no square is stored in 16 bits."""
    function = FUNCTIONS.get(node.op)
    if function is None:
        if over_time:
            raise node.refuse("computes a norm over time; only that of features of a step is supported")
        return norm_of(node, build, rows, node.op == "ReduceSumSquare")
    own = None
    if not over_time and function in ("mean", "sum") and build.terms:
        real = build.computable(node, rows).reshape(rows.shape)
        own = statistic(build, real, False, 1.0 if function == "mean" else float(rows.shape[1]))
        if not (own.mean or own.over_time):
            return moments_of(node, build, own)
    result = _layer(node, build, _groups(node, build, rows), over_time)
    if not over_time and function in ("mean", "sum"):
        record(build, result, build.computable(node, rows).reshape(rows.shape), False, function, own)
    return result


def _check_fill(node: Node, value: Features, fill: float) -> None:
    """Refuse a reduction over time of features that a mask set to ``fill`` where they pad a sequence, where that changes the result."""
    function = FUNCTIONS.get(node.op, "")
    left_out = {"mean": False, "sum": fill == 0.0, "max": fill <= -LARGE_FILL, "min": fill >= LARGE_FILL}
    if not left_out.get(function, True):
        raise node.refuse(
            f"takes the {function} over all steps of {value.describe()}, of which a mask set those behind each sequence to {fill:g}; supported "
            f"are a sum with 0, which may be divided by the lengths, and the largest and least with {LARGE_FILL:g} and more beyond all values"
        )


def mean_of_sum(node: Node, build: Builder, value: Features, divisor: Value) -> Features | None:
    """Return the mean over time where ``value`` is a sum over time, and ``divisor`` the number of its steps; None for anything else."""
    sizes = divisor.reshape(-1).tolist() if isinstance(divisor, np.ndarray) and is_shape(divisor) else []
    if len(sizes) != 1 or sizes[0] is not TIME:
        return None
    return value if build.one_step else divided_sum(node, build, value)


def divided_sum(node: Node, build: Builder, value: Features) -> Features | None:
    """Return the mean over time where ``value`` is a sum over time; None for anything else."""
    made = {layer.output: layer for layer in build.layers if isinstance(layer, (LastStep, Running))}
    node.reserve(value.ids.size)
    ids = value.ids.reshape(-1).copy()
    for part in build.book.parts(ids):
        last = made.get(part.tensor.name)
        total = made.get(last.input) if isinstance(last, LastStep) else None
        if not isinstance(total, Running) or (total.function, total.count) != ("sum", 1):
            return None
        output = build.result(node, total.features, True, part=".running")
        build.layers.append(Running(node.name, total.input, output.name, "mean", total.features))
        ids[part.positions] = part.indices + output.start
    return build.last_step(node, Features(ids.reshape(value.ids.shape), value.axes))


class _Groups(NamedTuple):
    """A tensor [outer, size, inner] of which each group of ``size`` features is reduced; ``order`` has, for each, its place in the output."""

    tensor: Tensor
    size: int
    inner: int
    order: IndexArray


def _groups(node: Node, build: Builder, rows: IndexArray) -> _Groups:
    """Return a tensor with the features of ids [K, R], of which each row is reduced: one that there is, where its order allows it."""
    tensor, count, inner, indices = grouped(node, build, rows)
    first = indices.reshape(rows.shape)[:, 0]
    return _Groups(tensor, count, inner, first // (count * inner) * inner + first % inner)


def _layer(node: Node, build: Builder, groups: _Groups, over_time: bool) -> Features:
    """Add the layer that reduces groups of features, and over time all steps so far; return its output in the order of the groups."""
    tensor, size, inner, order = groups
    if over_time and not tensor.has_time:
        raise node.refuse(f"reduces '{tensor.name}' over time, which has no time axis; run this part outside the model")
    output = build.result(node, order.size, tensor.has_time, part=".running" if over_time else "")
    kind = Running if over_time else Reduce
    build.layers.append(kind(node.name, tensor.name, output.name, FUNCTIONS[node.op], order.size, size, inner))
    return Features(order + output.start, (None,))


@axis_rule(*FUNCTIONS, "ReduceL2", "ReduceSumSquare")
def reduced_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes that are not reduced; of the others each is gone, or has size 1."""
    value: AxisTensor = node.input(0)
    if node.op.startswith("Global"):
        axes, keep = list(range(2, value.rank)), True
    else:
        axes, keep = _axes(node, value.rank)
    if not axes:
        return value
    found = [roles.made(1, node.name) if k in axes else axis for k, axis in enumerate(value.axes)]
    return AxisTensor(tuple(axis for k, axis in enumerate(found) if keep or k not in axes))
