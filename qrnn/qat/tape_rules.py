"""The derivatives of NumPy's operations, for `qrnn.qat.tape`.

An element-wise function has its derivative by each operand. A function that only moves elements is applied to their numbers once more,
which says where each element of the gradient goes. Where a maximum has several places, the first gets the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qrnn.model.parts import FloatArray, IndexArray
from qrnn.qat.tape import Pull, Tape, Traced, value_of


def _power(a: Any, b: Any, y: Any) -> tuple[Any, Any]:
    with np.errstate(all="ignore"):
        by_a = np.where(b == 0.0, 0.0, b * np.power(a, b - 1.0))
        return by_a, y * np.log(np.where(a > 0.0, a, 1.0))


def _root(y: Any) -> Any:
    return np.divide(0.5, y, out=np.zeros_like(y), where=y > 0.0)


def _quotient(a: Any, b: Any, y: Any) -> tuple[Any, Any]:
    with np.errstate(all="ignore"):
        return 1.0 / b, -y / b


_ELEMENTWISE: dict[Any, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda a, b, y: (1.0, 1.0),
    np.subtract: lambda a, b, y: (1.0, -1.0),
    np.multiply: lambda a, b, y: (b, a),
    np.true_divide: _quotient,
    np.power: _power,
    np.negative: lambda a, y: (-1.0,),
    np.positive: lambda a, y: (1.0,),
    np.exp: lambda a, y: (y,),
    np.exp2: lambda a, y: (y * math.log(2.0),),
    np.expm1: lambda a, y: (y + 1.0,),
    np.log: lambda a, y: (1.0 / a,),
    np.log2: lambda a, y: (1.0 / (a * math.log(2.0)),),
    np.log10: lambda a, y: (1.0 / (a * math.log(10.0)),),
    np.log1p: lambda a, y: (1.0 / (1.0 + a),),
    np.logaddexp: lambda a, b, y: (np.exp(a - y), np.exp(b - y)),
    np.tanh: lambda a, y: (1.0 - y * y,),
    np.sinh: lambda a, y: (np.cosh(a),),
    np.cosh: lambda a, y: (np.sinh(a),),
    np.sin: lambda a, y: (np.cos(a),),
    np.cos: lambda a, y: (-np.sin(a),),
    np.tan: lambda a, y: (1.0 + y * y,),
    np.arctan: lambda a, y: (1.0 / (1.0 + a * a),),
    np.sqrt: lambda a, y: (_root(y),),
    np.square: lambda a, y: (2.0 * a,),
    np.reciprocal: lambda a, y: (-y * y,),
    np.absolute: lambda a, y: (np.sign(a),),
    np.maximum: lambda a, b, y: (np.greater_equal(a, b), np.less(a, b)),
    np.minimum: lambda a, b, y: (np.less_equal(a, b), np.greater(a, b)),
}
"""The derivatives by each operand, of the operands and the result."""

_CONSTANT = frozenset(
    {np.sign, np.floor, np.ceil, np.rint, np.trunc, np.floor_divide, np.equal, np.not_equal, np.less, np.less_equal, np.greater,
     np.greater_equal, np.isnan, np.isinf, np.isfinite, np.signbit, np.logical_and, np.logical_or, np.logical_not, np.heaviside}
)  # fmt: skip
"""Functions whose derivative is 0 wherever they have one; their results are plain arrays."""

_ERF = 2.0 / math.sqrt(math.pi)


def apply_ufunc(tape: Tape, ufunc: Any, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what a universal function gives for arrays of which some are traced."""
    values = [value_of(x) for x in inputs]
    if method == "accumulate" and ufunc in (np.maximum, np.minimum):
        return _accumulated(ufunc, inputs[0], options.get("axis", 0))
    if method != "__call__" or set(options) - {"out", "dtype"}:
        raise NotImplementedError(f"numpy.{ufunc.__name__}.{method} with {', '.join(options) or 'nothing'}")
    if "out" in options:  # y += x, of a traced y
        made = apply_ufunc(tape, ufunc, method, inputs, {})
        (out,) = options["out"]
        out.value, out.place = made.value, made.place
        return out
    if ufunc in _CONSTANT:
        return ufunc(*values)
    if ufunc is np.matmul:
        return _product(tape, inputs[0], inputs[1])
    if ufunc.__name__.startswith("erf"):  # `qrnn.model.activation.erf`
        a = values[0]
        return _elementwise(tape, inputs, np.asarray(ufunc(a), np.float64), (_ERF * np.exp(-a * a),))
    if ufunc not in _ELEMENTWISE:
        raise NotImplementedError(f"numpy.{ufunc.__name__}")
    y = ufunc(*values)
    return _elementwise(tape, inputs, y, _ELEMENTWISE[ufunc](*values, y))


def _elementwise(tape: Tape, inputs: Sequence[Any], y: FloatArray, slopes: Sequence[Any]) -> Traced:
    def pull(slope: Any, shape: tuple[int, ...]) -> Pull:
        return lambda gradient: _summed_to(gradient * slope, shape)

    return tape.node(
        y, [(x, pull(slope, x.shape)) for x, slope in zip(inputs, slopes, strict=True) if isinstance(x, Traced)]
    )


def _summed_to(gradient: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the gradient of an array of ``shape`` from that of what it was broadcast to."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + k for k, size in enumerate(shape) if size == 1 and gradient.shape[lead + k] != 1
    )
    return np.asarray(gradient.sum(axis=axes).reshape(shape))


def _product(tape: Tape, left: Any, right: Any) -> Traced:
    """Return a matrix product; one axis alone stands for a row on the left and a column on the right."""
    a, b = value_of(left), value_of(right)
    A, B = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)

    def whole(gradient: FloatArray) -> FloatArray:
        gradient = gradient[..., None] if b.ndim == 1 else gradient
        return np.asarray(gradient[..., None, :] if a.ndim == 1 else gradient)

    def by_left(gradient: FloatArray) -> FloatArray:
        return _summed_to(whole(gradient) @ np.swapaxes(B, -1, -2), A.shape).reshape(a.shape)

    def by_right(gradient: FloatArray) -> FloatArray:
        g = whole(gradient)
        if B.ndim == 2 and A.ndim > 2:  # one product over all rows
            rows: FloatArray = A.reshape(-1, A.shape[-1]).T @ g.reshape(-1, g.shape[-1])
            return rows.reshape(b.shape)
        return _summed_to(np.swapaxes(A, -1, -2) @ g, B.shape).reshape(b.shape)

    pulls = [(x, pull) for x, pull in ((left, by_left), (right, by_right)) if isinstance(x, Traced)]
    return tape.node(a @ b, pulls)


# --- functions that move elements -----------------------------------------------------------------------------------------------------


def _moved(x: Traced, move: Callable[[Any], Any]) -> Traced:
    """Return move(x), where ``move`` only moves, leaves out and repeats elements, or puts zeros beside them."""
    numbers: IndexArray = move(np.arange(1, x.size + 1).reshape(x.shape))

    def pull(gradient: FloatArray) -> FloatArray:
        sums = np.bincount(
            numbers.ravel(), weights=np.broadcast_to(gradient, numbers.shape).ravel(), minlength=x.size + 1
        )
        return np.asarray(sums[1:].reshape(x.shape), np.float64)

    return x.tape.node(move(x.value), ((x, pull),))


def item(x: Traced, index: Any) -> Traced:
    """Return x[index]."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Traced) for part in parts):
        raise NotImplementedError("an index that is traced")
    if not all(isinstance(part, (int, np.integer, slice, type(None), type(Ellipsis))) for part in parts):
        return _moved(x, lambda array: array[index])

    def pull(gradient: FloatArray) -> FloatArray:
        whole = np.zeros(x.shape, x.dtype)
        whole[index] = gradient
        return whole

    return x.tape.node(x.value[index], ((x, pull),))


def with_item(x: Traced, index: Any, value: Any) -> Traced:
    """Return x with x[index] = value."""
    array = x.value.copy()
    array[index] = value_of(value)

    def kept(gradient: FloatArray) -> FloatArray:
        own = gradient.copy()
        own[index] = 0.0
        return own

    operands: list[tuple[Traced, Pull]] = [(x, kept)]
    if isinstance(value, Traced):
        operands.append((value, lambda gradient: _summed_to(gradient[index], value.shape)))
    return x.tape.node(array, operands)


def _reshape(x: Traced, shape: Any, **_: Any) -> Traced:
    return x.tape.node(x.value.reshape(shape), ((x, lambda gradient: gradient.reshape(x.shape)),))


def _transpose(x: Traced, axes: Any = None) -> Traced:
    order = tuple(range(x.ndim))[::-1] if axes is None else tuple(axes)
    back = np.argsort([axis % x.ndim for axis in order])
    return x.tape.node(x.value.transpose(order), ((x, lambda gradient: gradient.transpose(back)),))


def _swapaxes(x: Traced, first: int, second: int) -> Traced:
    return x.tape.node(x.value.swapaxes(first, second), ((x, lambda gradient: gradient.swapaxes(first, second)),))


def _moveaxis(x: Traced, source: Any, destination: Any) -> Traced:
    return x.tape.node(np.moveaxis(x.value, source, destination), ((x, lambda g: np.moveaxis(g, destination, source)),))


def _split(x: Traced, sections: Any, axis: int = 0) -> list[Traced]:
    where = np.array_split(np.arange(x.shape[axis]), sections)
    lead = (slice(None),) * (axis % x.ndim)
    return [
        item(x, (*lead, slice(int(part[0]), int(part[-1]) + 1))) if part.size else item(x, (*lead, slice(0, 0)))
        for part in where
    ]


def _concatenate(tape: Tape, arrays: Sequence[Any], axis: int = 0) -> Traced:
    arrays = tuple(arrays)
    ends = np.cumsum([x.shape[axis] for x in arrays]).tolist()
    value = np.concatenate([value_of(x) for x in arrays], axis)
    lead = (slice(None),) * (axis % value.ndim)

    def pull(end: int, size: int) -> Pull:
        return lambda gradient: gradient[(*lead, slice(end - size, end))]

    pulls = [(x, pull(end, x.shape[axis])) for x, end in zip(arrays, ends, strict=True) if isinstance(x, Traced)]
    return tape.node(value, pulls)


def _stack(tape: Tape, arrays: Sequence[Any], axis: int = 0) -> Traced:
    wide = [x.reshape(*x.shape[: axis % (x.ndim + 1)], 1, *x.shape[axis % (x.ndim + 1) :]) for x in arrays]
    return _concatenate(tape, wide, axis)


# --- sums and choices -----------------------------------------------------------------------------------------------------------------


def _spread(gradient: FloatArray, shape: tuple[int, ...], axis: Any, keepdims: bool) -> FloatArray:
    """Return what a reduction over ``axis`` gave, for every element that it read."""
    if not keepdims and axis is not None:
        gradient = np.expand_dims(gradient, axis)
    return np.broadcast_to(gradient, shape)


def _sum(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
    return x.tape.node(
        np.asarray(x.value.sum(axis=axis, keepdims=keepdims)),
        ((x, lambda gradient: _spread(gradient, x.shape, axis, keepdims)),),
    )


def _mean(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
    total: Any = _sum(x, axis, keepdims)
    return total * (total.size / x.size)  # type: ignore[no-any-return]


def _extreme(choose: Any) -> Callable[..., Traced]:
    def extreme(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
        if axis is None or isinstance(axis, tuple):
            axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in axis)
            rest = [k for k in range(x.ndim) if k not in axes]
            flat: Any = _reshape(_transpose(x, (*rest, *axes)), (*(x.shape[k] for k in rest), -1))
            found = extreme(flat, -1)
            return _reshape(found, [1 if k in axes else s for k, s in enumerate(x.shape)]) if keepdims else found
        places = np.expand_dims(choose(x.value, axis=axis), axis)
        taken = _moved(x, lambda array: np.take_along_axis(array, places, axis))
        return taken if keepdims else _reshape(taken, np.delete(taken.shape, axis).tolist())

    return extreme


def _accumulated(ufunc: Any, x: Traced, axis: int) -> Traced:
    """Return the largest or least so far along an axis."""
    so_far = ufunc.accumulate(x.value, axis=axis)
    first = np.swapaxes(x.value, 0, axis)
    best = np.swapaxes(so_far, 0, axis)
    numbers = np.arange(len(first)).reshape(-1, *(1,) * (x.ndim - 1))
    risen = np.ones(best.shape, bool)
    risen[1:] = best[1:] != best[:-1]
    places = np.swapaxes(np.maximum.accumulate(np.where(risen, numbers, 0), axis=0), 0, axis)
    return _moved(x, lambda array: np.take_along_axis(array, places, axis))


def _cumsum(x: Traced, axis: Any = None) -> Traced:
    def pull(gradient: FloatArray) -> FloatArray:
        return np.flip(np.cumsum(np.flip(gradient, axis), axis), axis)

    if axis is None:
        return _cumsum(_reshape(x, -1), 0)
    return x.tape.node(np.cumsum(x.value, axis), ((x, pull),))


def _prod(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
    y = np.asarray(x.value.prod(axis=axis, keepdims=keepdims))

    def pull(gradient: FloatArray) -> FloatArray:
        whole = _spread(gradient * y, x.shape, axis, keepdims)
        if np.all(x.value != 0.0):
            return whole / x.value
        raise NotImplementedError("the derivative of a product with a factor of 0")

    return x.tape.node(y, ((x, pull),))


def _clip(x: Any, low: Any = None, high: Any = None, **_: Any) -> Any:
    y = x
    if low is not None:
        y = np.maximum(y, low)
    return y if high is None else np.minimum(y, high)


def _where(tape: Tape, condition: Any, a: Any, b: Any) -> Traced:
    chosen = np.asarray(value_of(condition), bool)
    y = np.where(chosen, value_of(a), value_of(b))
    return _elementwise(tape, (a, b), y, (chosen, ~chosen))


def _pad(x: Traced, width: Any, mode: str = "constant", **options: Any) -> Traced:
    if mode != "constant":
        raise NotImplementedError(f"numpy.pad with mode {mode}")
    before = np.broadcast_to(width, (x.ndim, 2))[:, 0].tolist()
    inside = tuple(slice(first, first + size) for first, size in zip(before, x.shape, strict=True))
    return x.tape.node(np.pad(x.value, width, **options), ((x, lambda gradient: gradient[inside]),))


def _same(x: Traced) -> Traced:
    if not x.ndim:
        raise NotImplementedError("numpy.atleast_1d of a number")
    return x


def _filled(fill: Any) -> Callable[..., Traced]:
    def like(x: Traced, *args: Any, shape: Any = None, **options: Any) -> Traced:
        return x.tape.node(fill(x.value, *args, shape=shape, **options), ())

    return like


_OF_TAPE: dict[Any, Callable[..., Any]] = {np.concatenate: _concatenate, np.stack: _stack, np.where: _where}
"""Functions whose traced arrays may lie anywhere among the arguments."""

_OF_FIRST: dict[Any, Callable[..., Any]] = {
    np.reshape: _reshape,
    np.transpose: _transpose,
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.split: _split,
    np.sum: _sum,
    np.mean: _mean,
    np.max: _extreme(np.argmax),
    np.amax: _extreme(np.argmax),
    np.min: _extreme(np.argmin),
    np.amin: _extreme(np.argmin),
    np.prod: _prod,
    np.cumsum: _cumsum,
    np.clip: _clip,
    np.pad: _pad,
    np.atleast_1d: _same,
    np.zeros_like: _filled(np.zeros_like),
    np.ones_like: _filled(np.ones_like),
    np.full_like: _filled(np.full_like),
}
"""Functions of one traced array, the first argument."""

_MOVING = frozenset(
    {np.repeat, np.tile, np.take_along_axis, np.take, np.squeeze, np.expand_dims, np.flip, np.roll, np.broadcast_to,
     np.resize, np.ravel, np.copy}
)  # fmt: skip

_PLAIN = frozenset({np.argmax, np.argmin, np.shape, np.ndim, np.size, np.any, np.all, np.nonzero, np.flatnonzero})
"""Functions whose results are no real numbers."""


def apply_function(tape: Tape, function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what a function of NumPy gives for arguments of which some are traced."""
    if function in _OF_TAPE:
        return _OF_TAPE[function](tape, *args, **options)
    if function in _PLAIN:
        return function(*(value_of(x) for x in args), **options)
    if args and isinstance(args[0], Traced) and function in _OF_FIRST:
        return _OF_FIRST[function](*args, **options)
    if args and isinstance(args[0], Traced) and function in _MOVING:
        return _moved(args[0], lambda array: function(array, *args[1:], **options))
    raise NotImplementedError(f"numpy.{function.__name__}")


class _NumPy:
    """The rules of this module, as a tape asks for them."""

    ufunc = staticmethod(apply_ufunc)
    function = staticmethod(apply_function)
    item = staticmethod(item)
    with_item = staticmethod(with_item)


def new_tape() -> Tape:
    """Return an empty tape."""
    return Tape(_NumPy())
