"""Reverse-mode derivatives of NumPy code: equations written for arrays run on `Traced` arrays, and a `Tape` remembers what they did.

A layer's float64 equation (`qrnn.model.layer.Layer.equation`) is so the one definition of its derivative, too. NumPy's protocols
``__array_ufunc__`` and ``__array_function__`` hand every operation over to `qrnn.qat.tape_rules`, which knows its derivative. An operation
that has none raises NotImplementedError by name: a gradient is never lost silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from qrnn.model.parts import FloatArray

Pull = Callable[[FloatArray], FloatArray]
"""Makes the gradient of an operand from that of a result."""


class Rules(Protocol):
    """What traced arrays do in the operations of NumPy; see `qrnn.qat.tape_rules`."""

    def ufunc(self, tape: Tape, ufunc: Any, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """Return what a universal function gives for arrays of which some are traced."""

    def function(self, tape: Tape, function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Return what a function of NumPy gives for arguments of which some are traced."""

    def item(self, x: Traced, index: Any) -> Traced:
        """Return x[index]."""

    def with_item(self, x: Traced, index: Any, value: Any) -> Traced:
        """Return x with x[index] = value."""


class Tape:
    """The operations of one run, in their order; `backward` goes through them from the last to the first."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._pulls: list[tuple[tuple[int, Pull], ...]] = []
        self._gradients: dict[int, FloatArray] = {}

    def variable(self, value: Any) -> Traced:
        """Return an array, of float64 unless it is float32, whose gradient is wanted."""
        array = np.asarray(value)
        return self.node(array if array.dtype == np.float32 else array.astype(np.float64), ())

    def node(self, value: FloatArray, operands: Sequence[tuple[Traced, Pull]]) -> Traced:
        """Return the result of an operation, whose ``operands`` have gradients by their pulls."""
        self._pulls.append(tuple((operand.place, pull) for operand, pull in operands))
        return Traced(self, value, len(self._pulls) - 1)

    def backward(self, seeds: Sequence[tuple[Any, FloatArray]]) -> None:
        """Compute the gradient of every array from those of results; a result that is no `Traced` depends on nothing that is."""
        found: dict[int, FloatArray] = {}
        for traced, gradient in seeds:
            if isinstance(traced, Traced):
                found[traced.place] = found[traced.place] + gradient if traced.place in found else gradient
        for place in range(len(self._pulls) - 1, -1, -1):
            if place not in found or not self._pulls[place]:
                continue
            gradient = found.pop(place)
            for operand, pull in self._pulls[place]:
                own = pull(gradient)
                found[operand] = found[operand] + own if operand in found else own
        self._gradients = found

    def gradient(self, variable: Traced) -> FloatArray:
        """Return the gradient of a `variable` after `backward`, of its shape."""
        found = self._gradients.get(variable.place)
        return np.zeros_like(variable.value) if found is None else np.broadcast_to(found, variable.value.shape)


class Traced(NDArrayOperatorsMixin):
    """An array of a `Tape`, which behaves as ``value`` does in the operations that have rules."""

    __slots__ = ("place", "tape", "value")
    __hash__ = None  # type: ignore[assignment]  # == compares elements

    def __init__(self, tape: Tape, value: FloatArray, place: int) -> None:
        self.tape, self.value, self.place = tape, value, place

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the value."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """Return the number of axes of the value."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return self.value.size

    @property
    def dtype(self) -> Any:
        """Return the type of the elements."""
        return self.value.dtype

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("an equation makes a plain array of a traced one, which would lose its gradient")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self.tape.rules.ufunc(self.tape, ufunc, method, inputs, options)

    def __array_function__(self, function: Any, _types: Any, args: Any, options: Any) -> Any:
        return self.tape.rules.function(self.tape, function, args, options)

    def __getitem__(self, index: Any) -> Traced:
        return self.tape.rules.item(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        changed = self.tape.rules.with_item(self, index, value)
        self.value, self.place = changed.value, changed.place

    # The methods of arrays that equations use, each as the function of that name.

    @property
    def T(self) -> Any:  # noqa: N802  # as an array's
        """Return the transposed array."""
        return np.transpose(self)

    def transpose(self, *axes: Any) -> Any:
        """See `numpy.transpose`."""
        return np.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)

    def reshape(self, *shape: Any) -> Any:
        """See `numpy.reshape`."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def swapaxes(self, first: int, second: int) -> Any:
        """See `numpy.swapaxes`."""
        return np.swapaxes(self, first, second)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `numpy.sum`."""
        return np.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `numpy.mean`."""
        return np.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `numpy.max`."""
        return np.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `numpy.min`."""
        return np.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `numpy.prod`."""
        return np.prod(self, axis=axis, keepdims=keepdims)

    def clip(self, low: Any, high: Any) -> Any:
        """See `numpy.clip`."""
        return np.clip(self, low, high)

    def copy(self) -> Traced:
        """Return another array with the value and the gradient of this one."""
        return Traced(self.tape, self.value.copy(), self.place)

    def astype(self, _dtype: Any) -> Traced:
        """Return the array itself: gradients are of real numbers."""
        return self


def value_of(array: Any) -> Any:
    """Return the value of an array that may be traced."""
    return array.value if isinstance(array, Traced) else array


def replaced(argument: Traced, value: FloatArray, slope: Any) -> Traced:
    """Return ``value`` in the place of a function of ``argument``, with the derivative ``slope``: a straight-through estimate.

    ``slope`` is 1 for a rounding, and 0 where a value saturates.
    """
    return argument.tape.node(np.asarray(value), ((argument, lambda gradient: gradient * slope),))
