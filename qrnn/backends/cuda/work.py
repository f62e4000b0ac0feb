"""Launches go to a stream, and a run's arrays come from buffers; both are set here.

They belong to the thread's present context and not to arguments, since every function that launches or allocates would otherwise pass them
on. Without `on`, work goes to the legacy default stream and every array is new.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda


class Buffers:
    """The arrays of a run that is repeated with the same shapes.

    The first run allocates them. Each later run, which begins with `rewind`, asks for the same shapes in the same order and gets the same
    arrays, with what the run before left in them.
    """

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._next = self._end = (
            0  # of this run: the array that is handed out next, and the first that has not been handed out
        )

    def rewind(self) -> None:
        """Begin a run."""
        self._next = self._end = 0

    def pieces(self, total: int, size: int) -> Iterator[tuple[int, int]]:
        """Iterate over pieces that share their arrays; see the function `pieces`."""
        place = self._next
        for begin in range(0, total, size):
            self._next = place
            yield begin, min(begin + size, total)
        self._next = self._end

    def take(self, shape: tuple[int, ...], dtype: Any) -> tuple[Any, bool]:
        """Return the run's next array, and whether it is new."""
        new = self._next == len(self._arrays)
        if new:
            self._arrays.append(cuda.device_array(shape, dtype))
        array = self._arrays[self._next]
        self._next += 1
        self._end = max(self._end, self._next)
        size = math.prod(shape)
        fits = array.dtype == np.dtype(dtype) and size <= array.size
        assert fits, f"a run asks for {np.dtype(dtype)}{shape} where it had {array.dtype}{tuple(array.shape)} before"
        if tuple(array.shape) != shape:  # what is left over of pieces
            array = array.reshape(array.size)[:size].reshape(shape)
        return array, new


@dataclass(frozen=True)
class _Work:
    stream: Any = 0
    buffers: Buffers | None = None


_PLAIN = _Work()
_WORK: ContextVar[_Work] = ContextVar("qrnn_cuda_work", default=_PLAIN)


@contextmanager
def on(stream: Any, buffers: Buffers) -> Iterator[None]:
    """Let launches go to ``stream`` (one of Numba's, or 0) within this context, and arrays come from ``buffers``, which are rewound."""
    buffers.rewind()
    token = _WORK.set(_Work(stream, buffers))
    try:
        yield
    finally:
        _WORK.reset(token)


def pieces(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Iterate over (begin, end) of pieces of at most ``size``.

    A run that is repeated has the same arrays for each piece, so that none may outlive its piece.
    """
    buffers = _WORK.get().buffers
    return (Buffers() if buffers is None else buffers).pieces(total, size)


def stream() -> Any:
    """Return the stream that launches go to now."""
    return _WORK.get().stream


def new_array(shape: tuple[int, ...] | int, dtype: Any) -> tuple[Any, bool]:
    """Return an array on the device, and whether it is new: in a run that is repeated it may hold what the run before left in it."""
    buffers = _WORK.get().buffers
    whole = (shape,) if isinstance(shape, int) else shape
    return (cuda.device_array(whole, dtype), True) if buffers is None else buffers.take(whole, dtype)


def device_array(shape: tuple[int, ...] | int, dtype: Any) -> Any:
    """Return an array on the device whose values are not set."""
    return new_array(shape, dtype)[0]


def rows(x: Any) -> Any:
    """Return [..., F] as [M, F]."""
    return x.reshape(x.size // x.shape[len(x.shape) - 1], x.shape[len(x.shape) - 1])


def flat(x: Any) -> Any:
    """Return an array as one axis."""
    return x.reshape(x.size)
