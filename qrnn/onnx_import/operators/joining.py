"""Concat and Split, which join values along an axis and divide them again."""

from __future__ import annotations

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine
from qrnn.onnx_import.operators.structural import keep_axes
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import without_repeats
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.steps import as_steps, split_steps
from qrnn.onnx_import.values import AXIS_NAMES, TIME, Array, Features, Padding, Value

SOURCE_ELEMENTS = 16
"""The name of a graph input in a set counts as this many numbers, in memory and work."""


@operator("Concat")
def concat(node: Node, build: Builder) -> Value:
    """Import Concat along a feature axis."""
    values = [node.input(k) for k in range(len(node.inputs))]
    axis = int(node.take("axis", 0))
    if not any(isinstance(v, Features) for v in values):
        node.reserve(sum(count(v.shape) for v in values))
        return np.concatenate(values, axis=node.axis(axis, values[0].ndim))
    parts = [_operand(node, build, k) for k in range(len(values))]
    axis = node.axis(axis, parts[0].ids.ndim)
    if len(parts) == 2 and (cached := _behind_cache(node, build, axis, *parts)) is not None:
        return cached
    if build.one_step and len({part.axes for part in parts}) > 1:  # the time axis of one step may be an axis of size 1
        parts = [Features(part.ids, tuple(None if s is TIME else s for s in part.axes)) for part in parts]
    parts = _over_time(node, build, axis, parts)
    parts, offsets = _without_constants(node, build, parts)
    first = parts[0]
    for name, part in zip(node.input_names, parts, strict=True):
        if part.axes != first.axes:
            raise node.refuse(
                f"joins '{node.input_names[0]}' {first.describe()} and '{name}' {part.describe()}, whose batch and time axes differ; "
                "run this part outside the model"
            )
    symbol = first.axes[axis]
    if symbol is not None and len(parts) > 1:
        raise node.refuse(f"concatenates along the {AXIS_NAMES[symbol]} axis; run this part outside the model")
    node.reserve_features(sum(count(part.ids.shape) for part in parts))
    joined = Features(np.concatenate([part.ids for part in parts], axis=axis), first.axes)
    return affine(node, build, joined, np.ones(1), np.concatenate(offsets, axis=axis)) if offsets else joined


def _without_constants(node: Node, build: Builder, parts: list[Features]) -> tuple[list[Features], list[FloatArray]]:
    """Return the operands of Concat with zeros for constants that are the same for every sequence, and what is to be added to each.

    Nothing is added where no operand is such a constant, or all are.
    """
    values = [_constants_of(build, part) for part in parts]
    if all(array is None for array in values) or all(array is not None for array in values):
        return parts, []
    node.reserve_features(sum(count(part.ids.shape) for part in parts))
    offsets = [np.zeros(part.ids.shape) if array is None else array for part, array in zip(parts, values, strict=True)]
    zeros = [
        part if array is None else Features(np.full(part.ids.shape, build.zero, dtype=np.int64), part.axes)
        for part, array in zip(parts, values, strict=True)
    ]
    return zeros, offsets


def _constants_of(build: Builder, value: Features) -> FloatArray | None:
    """Return the numbers of features that are constants of the graph, such as a learned vector at every step; None for others."""
    numbers = np.zeros(value.ids.size)
    for part in build.book.parts(value.ids):
        if part.tensor.kind != "constant" or part.tensor.values is None:
            return None
        numbers[part.positions] = part.tensor.values[part.indices]
    return numbers.reshape(value.ids.shape)


def _over_time(node: Node, build: Builder, axis: int, parts: list[Features]) -> list[Features]:
    """Return the operands of Concat, of which some may hold a vector as often as the others have steps, with time for all."""
    timed = next((part for part in parts if TIME in part.axes), None)
    if timed is None or build.one_step:
        return parts
    place = timed.axes.index(TIME)
    if place == axis or any(part.ids.ndim != timed.ids.ndim for part in parts):
        return parts
    rule = build.length_rule(timed)
    return [part if TIME in part.axes else as_steps(node, build, part, place, rule) or part for part in parts]


def _operand(node: Node, build: Builder, k: int) -> Features:
    """Return operand ``k`` of Concat as features; constant zeros are zeros of any batch."""
    value = node.input(k)
    others = [other for other in node.inputs if isinstance(other, Features)]
    if isinstance(value, np.ndarray) and value.dtype != object and others and not value.any():
        like = others[0]
        if value.ndim == like.ids.ndim:
            value = without_repeats(node, build, value, like)
        if value.ndim == like.ids.ndim and all(
            symbol is None or size == 1 for size, symbol in zip(value.shape, like.axes, strict=True)
        ):
            node.reserve(value.size)
            return Features(np.full(value.shape, build.zero, dtype=np.int64), like.axes)
    return node.features(k, "operand")


def _behind_cache(node: Node, build: Builder, axis: int, first: Features, second: Features) -> Features | None:
    """Return new steps behind the past ones of a cache, in a graph of several steps per call; None for operands that are not these."""
    if build.one_step or axis >= second.ids.ndim or second.axes[axis] is not TIME:
        return None
    parts = build.book.parts(first.ids)
    if not parts or any(part.tensor.kind != "cache" for part in parts):
        return None
    wanted = tuple(None if k == axis else symbol for k, symbol in enumerate(second.axes))
    sizes = [size for k, size in enumerate(first.ids.shape) if k != axis]
    if first.axes != wanted or sizes != [size for k, size in enumerate(second.ids.shape) if k != axis]:
        raise node.refuse(
            f"joins a cache {first.describe()} and new steps {second.describe()}, whose other axes differ"
        )
    edges = [(0, 0)] * second.ids.ndim
    edges[axis] = first.ids.shape[axis], 0
    return build.padded(node, Padding(second, tuple(edges), first.ids))


@axis_rule("Concat")
def concat_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the operands, which are the same except the joined one; that one is new."""
    values = [v for v in node.inputs if isinstance(v, AxisTensor)]
    axis = node.axis(int(node.take("axis", 0)), values[0].rank)
    for other in values[1:]:
        for k in range(values[0].rank):
            if k != axis:
                roles.same(values[0].axes[k], other.axes[k], node.name)
    sizes = [v.axes[axis].size if isinstance(v, AxisTensor) else _size(v, axis) for v in node.inputs]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    joined: Axis = roles.made(total, node.name) if len(node.inputs) > 1 else values[0].axes[axis]
    for v in values:
        part_of(v.axes[axis], joined, node, roles)
    if any(v.sources & roles.caches for v in values):  # past steps and new ones: the axis is that of the new ones
        for v in values:
            if not v.sources & roles.caches:
                roles.same(joined, v.axes[axis], node.name)
    axes = tuple(joined if k == axis else a for k, a in enumerate(values[0].axes))
    node.reserve(SOURCE_ELEMENTS * sum(len(v.sources) for v in values))
    return AxisTensor(axes, frozenset().union(*(v.sources for v in values)))


def _size(value: object, axis: int) -> int | None:
    """Return the size of an axis of a constant; None for what is expanded to the batch, which the first pass does not know."""
    return int(value.shape[axis]) if isinstance(value, np.ndarray) else None


def _pieces(node: Node, size: int) -> list[int]:
    """Return the sizes of the outputs of Split: an attribute before opset 13, an input since, equal parts when neither."""
    count = len(node.output_names)
    given = node.ints(1, "split") if node.has_input(1) else node.take("split")
    node.take("num_outputs")
    if given is None:
        piece = -(-size // count)
        given = [piece] * (count - 1) + [size - piece * (count - 1)]
    sizes = [int(s) for s in given]
    if sum(sizes) != size or min(sizes, default=0) < 0 or len(sizes) != count:
        raise node.damaged(f"split={sizes} does not divide an axis of size {size} into {count} outputs")
    return sizes


@operator("Split")
def split(node: Node, build: Builder) -> tuple[Value, ...]:
    """Import Split along a feature axis."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    axis = node.axis(int(node.take("axis", 0)), ids.ndim)
    sizes = build.sizes(value).get(TIME, set()) if isinstance(value, Features) and value.axes[axis] is TIME else set()
    if isinstance(value, Features) and len(sizes) == 1 and not build.one_step:
        return split_steps(node, build, value, _pieces(node, next(iter(sizes))))
    if isinstance(value, Features) and value.axes[axis] is not None:
        raise node.refuse(f"splits the {value.axes[axis]} axis (batch N or time T); run this part outside the model")
    bounds = np.cumsum(_pieces(node, ids.shape[axis]))[:-1]
    pieces = np.split(ids, bounds, axis=axis)
    return tuple(Features(p, value.axes) if isinstance(value, Features) else p for p in pieces)


@axis_rule("Split")
def split_axes(node: Node, roles: Roles) -> tuple[AxisTensor, ...]:
    """Carry the axes to every output; the split one is new."""
    value = keep_axes(node, roles)
    axis = node.axis(int(node.take("axis", 0)), value.rank)
    size = value.axes[axis].size
    sizes: list[int | None] = [None] * len(node.output_names) if size is None else list(_pieces(node, size))
    found = []
    if size is None and (given := node.ints(1, "split") if node.has_input(1) else node.take("split")):
        roles.taken(value.axes[axis], sum(given))
    for s in sizes:
        piece = roles.made(s, node.name)
        part_of(value.axes[axis], piece, node, roles)
        found.append(AxisTensor(tuple(piece if k == axis else a for k, a in enumerate(value.axes)), value.sources))
    return tuple(found)


def part_of(axis: Axis, made: Axis, node: Node, roles: Roles) -> None:
    """Say that an axis that a node makes of another one is batch or time where that is: where its size is unknown."""
    if axis.size is None:
        roles.same(made, axis, node.name)
