"""Operators that move values and compute nothing: they act on ids as they act on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import without_repeats
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.steps import as_steps, split_steps
from qrnn.onnx_import.values import AXIS_NAMES, TIME, Array, Features, Padding, Value, is_shape

SOURCE_ELEMENTS = 16
"""The name of a graph input in a set counts as this many numbers, in memory and work."""


def _keep(node: Node, roles: Roles) -> AxisTensor:
    """Return the axes of the first input, unchanged; this is also the rule of every elementwise operator."""
    value = node.input(0)
    assert isinstance(value, AxisTensor)
    return value


axis_rule("Identity", "Cast", "Dropout")(_keep)


@operator("Identity")
def identity(node: Node, build: Builder) -> Value:
    """Import Identity: the value passes."""
    value: Value = node.input(0)
    return value


@operator("Dropout")
def dropout(node: Node, build: Builder) -> Value:
    """Import Dropout: the value passes, as at inference, and the mask output does not exist."""
    node.take("ratio")
    node.take("seed")
    if node.has_input(2) and node.constant(2, "training_mode").any():
        raise node.refuse("training_mode=1 is not supported; re-export in evaluation mode (model.eval())")
    value: Value = node.input(0)
    return value


_TYPES = onnx.TensorProto
REAL = frozenset([_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16])
"""Types that hold computed features but for their rounding, which is that of floating point."""

WIDE = frozenset([_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.INT32, _TYPES.INT64, _TYPES.UINT32, _TYPES.UINT64])
"""Types that hold tokens, lengths and sizes, whatever they are."""


def _as_held(node: Node, to: int) -> Value:
    """Return input 0, with constants rounded as the type ``to`` rounds them.

    Refuse it where the type cannot hold it, or where that is not known before a run.
    """
    value: Value = node.input(0)
    name = _TYPES.DataType.Name(to)
    if is_shape(value) and to not in WIDE:
        raise node.refuse(f"casts sizes to {name}, which may not hold them; re-export without this cast")
    if not isinstance(value, np.ndarray) or is_shape(value) or to == _TYPES.BOOL:
        return value
    whole = name.startswith(("INT", "UINT"))
    node.reserve(value.size, scratch=2 * value.size)
    with np.errstate(all="ignore"):
        held = value.astype(onnx.helper.tensor_dtype_to_np_dtype(to)).astype(np.float64)
        fits = held == np.trunc(value) if whole else np.isfinite(held)
    if not fits.all():
        first = value[~fits].reshape(-1)[0]
        raise node.refuse(
            f"casts the constant {first} to {name}, which cannot hold it; re-export with constants folded"
        )
    return value if whole and value.dtype.kind != "f" else held  # large integers are exact only as they are


@operator("Cast")
def cast(node: Node, build: Builder) -> Value:
    """Import Cast: features keep float64 values, tokens and shapes pass, and constants are converted."""
    to = int(node.take("to", onnx.TensorProto.FLOAT))
    node.take("saturate")
    node.take("round_mode")
    kind = onnx.helper.tensor_dtype_to_np_dtype(to).kind if to != onnx.TensorProto.BFLOAT16 else "f"
    if kind not in "fiubV":
        raise node.refuse(
            f"cast to {onnx.TensorProto.DataType.Name(to)} is not supported; run this part outside the model"
        )
    value = _as_held(node, to)
    if isinstance(value, Features):
        kinds = {part.tensor.kind for part in build.book.parts(value.ids)}
        if to not in REAL and kinds - {"tokens", "lengths"}:
            raise node.refuse(
                f"casts computed features to {onnx.TensorProto.DataType.Name(to)}, which rounds them; run this part outside the model"
            )
        if to not in WIDE and kinds & {"tokens", "lengths"}:
            raise node.refuse(
                f"casts tokens or lengths to {onnx.TensorProto.DataType.Name(to)}, which may not hold them; re-export without this cast"
            )
        return value
    if is_shape(value):
        return value
    assert isinstance(value, np.ndarray)
    target = np.dtype({"f": np.float64, "V": np.float64, "b": np.bool_}.get(kind, np.int64))
    if value.dtype != target:
        node.reserve(value.size)
    return value.astype(target, copy=False)


def permutation(node: Node, rank: int) -> list[int]:
    """Return the axis order of a Transpose, checked."""
    perm = [int(p) for p in node.take("perm", list(range(rank))[::-1])]
    if sorted(perm) != list(range(rank)):
        raise node.damaged(f"perm={perm} does not order the {rank} axes of its input")
    return perm


@operator("Transpose")
def transpose(node: Node, build: Builder) -> Value:
    """Import Transpose."""
    value = node.input(0)
    if isinstance(value, Features):
        perm = permutation(node, value.ids.ndim)
        return Features(value.ids.transpose(perm), tuple(value.axes[p] for p in perm))
    array: Array = value
    return array.transpose(permutation(node, array.ndim))


@axis_rule("Transpose")
def transpose_axes(node: Node, roles: Roles) -> AxisTensor:
    """Permute the axes."""
    value = _keep(node, roles)
    return AxisTensor(tuple(value.axes[p] for p in permutation(node, value.rank)), value.sources)


def _axes(node: Node) -> list[int] | None:
    """Return the axes of Squeeze and Unsqueeze: an attribute before opset 13, an input since."""
    if node.has_input(1):
        return node.ints(1, "axes")
    axes: Sequence[int] | None = node.take("axes")
    return None if axes is None else [int(a) for a in axes]


@operator("Squeeze")
def squeeze(node: Node, build: Builder) -> Value:
    """Import Squeeze; without axes, it drops every axis of size 1, baked batch and time included."""
    value = node.input(0)
    given = _axes(node)
    if not isinstance(value, Features):
        array: Array = value
        return np.squeeze(array, None if given is None else tuple(given))
    rank = value.ids.ndim
    if given is None:  # what has size 1 in the graph itself: baked batch and time too
        axes = [
            k
            for k, size in enumerate(value.ids.shape)
            if (1 in build.baked.get(symbol, set()) if (symbol := value.axes[k]) is not None else size == 1)
        ]
    else:
        axes = [node.axis(a, rank) for a in given]
    for axis in axes:
        build.hide_axis(node, value, axis)
    return Features(np.squeeze(value.ids, tuple(axes)), tuple(s for k, s in enumerate(value.axes) if k not in axes))


@axis_rule("Squeeze")
def squeeze_axes(node: Node, roles: Roles) -> AxisTensor:
    """Drop the squeezed axes."""
    value = _keep(node, roles)
    given = _axes(node)
    drop = (
        [k for k, a in enumerate(value.axes) if a.size == 1]
        if given is None
        else [node.axis(a, value.rank) for a in given]
    )
    return AxisTensor(tuple(a for k, a in enumerate(value.axes) if k not in drop), value.sources)


def _inserted(node: Node, rank: int) -> list[int]:
    """Return the positions of the new axes in the output of Unsqueeze."""
    given = _axes(node)
    if given is None:
        raise node.damaged("has no axes")
    return sorted(node.axis(a, rank + len(given)) for a in given)


@operator("Unsqueeze")
def unsqueeze(node: Node, build: Builder) -> Value:
    """Import Unsqueeze; the new axes are feature axes."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    positions = _inserted(node, ids.ndim)
    expanded = np.expand_dims(ids, tuple(positions))
    if not isinstance(value, Features):
        return expanded
    axes = list(value.axes)
    for position in positions:
        axes.insert(position, None)
    return Features(expanded, tuple(axes))


@axis_rule("Unsqueeze")
def unsqueeze_axes(node: Node, roles: Roles) -> AxisTensor:
    """Insert new axes of size 1."""
    value = _keep(node, roles)
    axes = list(value.axes)
    for position in _inserted(node, value.rank):
        axes.insert(position, roles.made(1, node.name))
    return AxisTensor(tuple(axes), value.sources)


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
    value = _keep(node, roles)
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
