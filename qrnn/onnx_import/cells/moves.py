"""The rules of operators that move elements, and of the arithmetic of shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.onnx_import.cells.elements import WHAT, Known, Value
from qrnn.onnx_import.cells.evaluate import DYNAMIC, MOST_ELEMENTS, Call, NotFollowed, Result, rule
from qrnn.onnx_import.values import Array

FLOATS = (1, 10, 11, 16)
"""The element types of ONNX that are floating-point numbers."""


def _array(value: Known | Value) -> Array:
    return value.array if isinstance(value, Known) else value.ids


def _like(value: Known | Value, array: Array, batch: int | None) -> Result:
    """Return moved elements as a value of the same kind."""
    if isinstance(value, Value) and array.size > MOST_ELEMENTS:
        raise NotFollowed
    return Known(array, batch) if isinstance(value, Known) else Value(np.ascontiguousarray(array), batch)


def _axis(call: Call, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise NotFollowed
    return axis % rank


def _sizes(call: Call, value: Known | Value) -> list[int]:
    """Return a value's shape as the graph sees it, with the size of a batch."""
    batch = call.evaluation.batch_size
    return [batch if k == value.batch else int(d) for k, d in enumerate(_array(value).shape)]


@rule("Identity", "Dropout")
def same(call: Call) -> Sequence[Result]:
    """Give the operand on; Dropout drops nothing once a network is trained."""
    return [call.operand()]


@rule("Cast", "CastLike")
def cast(call: Call) -> Sequence[Result]:
    """Give floating-point numbers on; convert constants."""
    value, to = call.operand(), call.attributes.get("to", 1)
    if isinstance(value, Known):
        call.elements.budget.value(WHAT, value.array.size)
    if to in FLOATS:
        return [Known(value.array.astype(np.float64), value.batch) if isinstance(value, Known) else value]
    if isinstance(value, Value) or to not in (6, 7, 9):
        raise NotFollowed
    return [Known(value.array.astype(bool if to == 9 else np.int64), value.batch)]


@rule("Constant")
def constant(call: Call) -> Sequence[Result]:
    """Return the constant."""
    [(name, value)] = call.attributes.items()
    if name == "value":
        return [Known(value)]
    if name in ("value_int", "value_ints"):
        return [Known(np.array(value, np.int64))]
    if name in ("value_float", "value_floats"):
        return [Known(np.array(value, np.float64))]
    raise NotFollowed


@rule("Transpose")
def transpose(call: Call) -> Sequence[Result]:
    """Exchange axes."""
    value = call.operand()
    array = _array(value)
    perm = [int(p) for p in call.attributes.get("perm", range(array.ndim)[::-1])]
    batch = None if value.batch is None else perm.index(value.batch)
    return [_like(value, array.transpose(perm), batch)]


@rule("Unsqueeze")
def unsqueeze(call: Call) -> Sequence[Result]:
    """Insert axes of size 1."""
    value = call.operand()
    rank = _array(value).ndim
    axes = call.ints(1, "axes")
    if axes is None:
        raise NotFollowed
    new = sorted(_axis(call, a, rank + len(axes)) for a in axes)
    old = [k for k in range(rank + len(new)) if k not in new]
    batch = None if value.batch is None else old[value.batch]
    return [_like(value, np.expand_dims(_array(value), tuple(new)), batch)]


@rule("Squeeze")
def squeeze(call: Call) -> Sequence[Result]:
    """Remove axes of size 1."""
    value = call.operand()
    sizes = _sizes(call, value)
    axes = call.ints(1, "axes")
    gone = [k for k, d in enumerate(sizes) if d == 1] if axes is None else [_axis(call, a, len(sizes)) for a in axes]
    if any(sizes[k] != 1 for k in gone):
        raise NotFollowed
    kept = [k for k in range(len(sizes)) if k not in gone]
    batch = kept.index(value.batch) if value.batch in kept else None
    return [_like(value, np.squeeze(_array(value), tuple(gone)), batch)]


def _reshaped(call: Call, value: Known | Value, target: Sequence[int]) -> Result:
    """Reshape, where the axis of the batch must stay one of the same place among the elements."""
    array, sizes = _array(value), _sizes(call, value)
    call.elements.budget.value(WHAT, array.size)  # which are copied where they do not lie in order
    if value.batch is None:
        return _like(value, array.reshape(target), None)
    shape = list(target)
    if shape.count(-1) > 1 or min(shape, default=1) < -1:
        raise NotFollowed
    total, known = int(np.prod(sizes)), int(np.prod([d for d in shape if d != -1]))
    if -1 in shape:
        shape[shape.index(-1)] = total // known
    before = int(np.prod(sizes[: value.batch], dtype=np.int64))
    if int(np.prod(shape)) != total:
        raise NotFollowed
    for k, size in enumerate(shape):
        if size == sizes[value.batch] and int(np.prod(shape[:k], dtype=np.int64)) == before:
            return _like(value, array.reshape([1 if j == k else d for j, d in enumerate(shape)]), k)
    raise NotFollowed


@rule("Reshape")
def reshape(call: Call) -> Sequence[Result]:
    """Reshape to constant sizes, 0 for that of the operand and -1 for what is left."""
    value, target = call.operand(), call.ints(1, "shape")
    if target is None:
        raise NotFollowed
    if not call.attributes.get("allowzero", 0):
        sizes = _sizes(call, value)
        target = [sizes[k] if d == 0 else d for k, d in enumerate(target)]
    return [_reshaped(call, value, target)]


@rule("Flatten")
def flatten(call: Call) -> Sequence[Result]:
    """Join the axes before one, and those from it on."""
    value = call.operand()
    sizes = _sizes(call, value)
    axis = call.attributes.get("axis", 1)
    axis += len(sizes) if axis < 0 else 0
    return [_reshaped(call, value, [int(np.prod(sizes[:axis])), int(np.prod(sizes[axis:]))])]


@rule("Concat")
def concat(call: Call) -> Sequence[Result]:
    """Join values along one axis; constants among elements become elements."""
    values = [call.operand(k) for k in range(len(call.inputs))]
    if len(values) == 1:
        return values
    call.elements.budget.value(WHAT, sum(_array(v).size for v in values))
    rank = max(_array(v).ndim for v in values)
    axis = _axis(call, call.attributes["axis"], rank)
    batches = {v.batch for v in values} - {None}
    if len(batches) > 1 or axis in batches:
        raise NotFollowed
    batch = batches.pop() if batches else None
    call.elements.budget.value("constants of recurrent cells", sum(_array(v).size for v in values))
    if all(isinstance(v, Known) for v in values):
        return [Known(np.concatenate([_array(v) for v in values], axis), batch)]
    parts = []
    for value in values:
        array = _array(value)
        if batch is not None and value.batch is None:
            array = one_row(array, batch, call.evaluation.batch_size)
        if isinstance(value, Known):
            array = call.elements.const(array, call.home).reshape(array.shape)
        parts.append(array)
    return [Value(np.concatenate(parts, axis), batch)]


def one_row(array: Array, axis: int, batch_size: int) -> Array:
    """Return the one row of a constant that has the same row for each sequence of a batch."""
    if array.shape[axis] == 1:
        return array
    first = np.take(array, [0], axis)
    if array.shape[axis] != batch_size or (array != first).any():
        raise NotFollowed
    return first


@rule("Split")
def split(call: Call) -> Sequence[Result]:
    """Cut a value into parts along one axis."""
    value = call.operand()
    array = _array(value)
    axis = _axis(call, call.attributes.get("axis", 0), array.ndim)
    sizes = call.ints(1, "split")
    if len(call.outputs) == 1 and sizes is None:
        return [value]
    if axis == value.batch:
        raise NotFollowed
    if sizes is None:
        part = -(-array.shape[axis] // len(call.outputs))
        sizes = [min(part, array.shape[axis] - k * part) for k in range(len(call.outputs))]
    if sum(sizes) != array.shape[axis] or min(sizes) < 0:
        raise NotFollowed
    return [_like(value, part, value.batch) for part in np.split(array, np.cumsum(sizes)[:-1], axis)]


@rule("Slice")
def slice_(call: Call) -> Sequence[Result]:
    """Take a range along axes; of the batch only all of it."""
    value = call.operand()
    array = _array(value)
    starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
    if starts is None or ends is None:
        raise NotFollowed
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(call, axis, array.ndim)
        if axis == value.batch:
            if start != 0 or step != 1 or end < call.evaluation.batch_size:
                raise NotFollowed
            continue
        index: list[slice] = [slice(None)] * array.ndim
        index[axis] = _range(start, end, step, array.shape[axis])
        array = array[tuple(index)]
    return [_like(value, array, value.batch)]


def _range(start: int, end: int, step: int, size: int) -> slice:
    """Return ONNX's range as NumPy's, which has no end before the first element but None."""
    low = -1 if step < 0 else 0
    end = max(end + size if end < 0 else end, low)
    return slice(start, None if end < 0 else end, step)


@rule("Gather")
def gather(call: Call) -> Sequence[Result]:
    """Take places along one axis."""
    value, places = call.operand(), call.numbers(1)
    array = _array(value)
    axis = _axis(call, call.attributes.get("axis", 0), array.ndim)
    if places.dtype != np.int64 or places.size * array.size > MOST_ELEMENTS * array.shape[axis]:
        raise NotFollowed
    batch = value.batch
    if axis == batch:
        if call.evaluation.batch_size != 1:
            raise NotFollowed
        batch = axis if places.shape == (1,) else None
    elif batch is not None and axis < batch:
        batch += places.ndim - 1
    return [_like(value, np.take(array, places, axis), batch)]


@rule("Shape")
def shape(call: Call) -> Sequence[Result]:
    """Return the sizes of axes."""
    sizes = _sizes(call, call.operand())
    return [Known(np.array(sizes[call.attributes.get("start", 0) : call.attributes.get("end")], np.int64))]


def _one_batch(call: Call, sizes: Sequence[int]) -> tuple[list[int], int | None]:
    """Return a shape with size 1 for the batch, and the axis of that, where the batch is dynamic."""
    axes = [k for k, d in enumerate(sizes) if d == DYNAMIC]
    if len(axes) > 1 or any(d < 0 for d in sizes):
        raise NotFollowed
    made = [1 if d == DYNAMIC else d for d in sizes]
    if np.prod([1.0, *made]) > MOST_ELEMENTS:
        raise NotFollowed
    call.elements.budget.value(WHAT, int(np.prod(made)))
    return made, axes[0] if axes else None


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Sequence[Result]:
    """Return one number many times."""
    sizes, batch = _one_batch(call, call.ints(0, "") or [])
    value = call.attributes.get("value", np.zeros(1))
    return [Known(np.full(sizes, value.reshape(-1)[0]), batch)]


@rule("Expand")
def expand(call: Call) -> Sequence[Result]:
    """Repeat along axes."""
    value = call.operand()
    array = _array(value)
    sizes, batch = _one_batch(call, call.ints(1, "") or [])
    rank = max(len(sizes), array.ndim)
    if value.batch is not None:
        own = value.batch + rank - array.ndim
        place = own - (rank - len(sizes))
        if place >= 0 and sizes[place] not in (1, call.evaluation.batch_size):
            raise NotFollowed
        if place >= 0:
            sizes[place] = 1
        batch = own
    elif batch is not None:
        batch += rank - len(sizes)
    shape = np.broadcast_shapes(array.shape, tuple(sizes))
    if np.prod([1.0, *shape]) > max(MOST_ELEMENTS, array.size):
        raise NotFollowed
    array = np.broadcast_to(array, shape)
    return [_like(value, array, batch)]
