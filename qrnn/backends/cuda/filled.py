"""Arrays on the device that begin with values are made here: zeros, ones and copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qrnn.backends.cuda import elements
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.work import device_array, new_array


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an array of zeros on the device.

    In a run that is repeated, what the run before wrote is still there: a kernel that writes into it writes the same places in every run.
    """
    array, new = new_array(shape, dtype)
    if new:
        for_each(elements.fill_zero, array.size, array.reshape(array.size))
    return array


def ones(count: int) -> Any:
    """Return ``count`` ones on the device, int64."""
    array, new = new_array(count, np.int64)
    if new:
        for_each(elements.fill_one, count, array)
    return array


def copied(array: Any) -> Any:
    """Return a copy of an array."""
    out = device_array(tuple(array.shape), array.dtype)
    copy_into(array, out)
    return out


def copy_into(array: Any, out: Any) -> None:
    """Copy an array's values into another of the same shape."""
    count = array.size
    for_each(elements.copy_columns, count, array.reshape(1, count), 0, out.reshape(1, count), 0, count)


def repeated(array: Any, times: int) -> Any:
    """Return [N, *shape] as [N · times, *shape], where each of the N stands ``times`` times in turn."""
    N = array.shape[0]
    width = math.prod(array.shape[1:])
    out = device_array((N, times * width), array.dtype)
    for k in range(times):
        for_each(elements.copy_columns, N * width, array.reshape(N, width), 0, out, k * width, width)
    return out.reshape(N * times, *array.shape[1:])


def first_steps(array: Any, steps: int) -> Any:
    """Return the first ``steps`` of [N, T, *shape]: the array itself where it has no more steps, else a copy."""
    N, T = array.shape[:2]
    if steps == T:
        return array
    width = math.prod(array.shape[2:])
    out = device_array((N, steps * width), array.dtype)
    for_each(elements.copy_columns, out.size, array.reshape(N, T * width), 0, out, 0, steps * width)
    return out.reshape(N, steps, *array.shape[2:])
