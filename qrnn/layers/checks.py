"""Checks of what a user hands to `qrnn.layers`; each message names the layer, the value found and the value expected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation
from qrnn.model.parts import FloatArray
from qrnn.model.window import Window

_BY_NAME = (*(kind for kind, parameters in ACTIVATION_PARAMETERS.items() if not parameters), "hard_sigmoid")
"""Functions that can be given by name; of those with parameters only ONNX's HardSigmoid has a customary pair, 0.2 and 0.5."""


def place(kind: str, name: str | None) -> str:
    """Return how messages call a layer, and refuse a name that cannot be one."""
    if name is None:
        return kind
    if not isinstance(name, str) or not name:
        raise DataError(f"{kind}: name is {name!r}, expected a text that is not empty")
    return f"{kind} {name!r}"


def real_array(where: str, what: str, value: Any) -> FloatArray:
    """Return a read-only float64 copy of ``value``; DataError unless it is an array of finite real numbers."""
    try:
        given = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths; a tensor that keeps gradients
        raise DataError(f"{where}: {what} is not an array ({str(error).splitlines()[0]})") from None
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(f"{where}: {what} is a masked array, whose mask would be lost; give filled(value)")
    if given.dtype.kind not in "iuf":  # NumPy counts timedelta64 among its integers
        raise DataError(f"{where}: {what} has type {given.dtype}, expected real numbers")
    with np.errstate(over="ignore"):  # of a type wider than float64; refused as infinity
        array = np.array(given, dtype=np.float64)
    if not np.isfinite(array).all():
        position = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise DataError(f"{where}: {what} is {array[tuple(position)]} at {position}, expected finite numbers")
    array.setflags(write=False)
    return array


def shaped(where: str, what: str, value: Any, shape: tuple[int, ...], meaning: str) -> FloatArray:
    """Return `real_array` of exactly ``shape``; messages give the expected shape as ``meaning``, such as ``[4·H, I]``."""
    array = real_array(where, what, value)
    if array.shape != shape:
        raise DataError(f"{where}: {what} has shape {list(array.shape)}, expected {meaning} = {list(shape)}")
    return array


def shaped_or_zeros(where: str, what: str, value: Any, shape: tuple[int, ...], meaning: str) -> FloatArray:
    """Return `shaped`, or zeros for None."""
    return shaped(where, what, np.zeros(shape) if value is None else value, shape, meaning)


def places_of(where: str, band: Window, bands: int, line: Window, lines: int) -> int:
    """Return the number of places of windows over the bands and lines of a step; refuse windows that do not fit."""
    for what, window, size in (("bands", band, bands), ("lines", line, lines)):
        if window.count(size) < 1:
            raise DataError(f"{where}: a window of {window.span} {what} does not fit into {size} {what}")
    return line.count(lines) * band.count(bands)


def matrix(where: str, what: str, value: Any, meaning: str) -> FloatArray:
    """Return `real_array` of two axes, neither of size 0."""
    array = real_array(where, what, value)
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{where}: {what} has shape {list(array.shape)}, expected {meaning}")
    return array


def count(where: str, what: str, value: Any) -> int:
    """Return ``value`` as a whole number of at least 1; DataError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise DataError(f"{where}: {what}={value!r}, expected a whole number of at least 1")
    return int(value)


def function(where: str, what: str, value: Any) -> Activation:
    """Return an `Activation`, given as one or by name; DataError for an unknown name or one that needs parameters."""
    if isinstance(value, str) and value in _BY_NAME:
        return Activation(value)
    if not isinstance(value, Activation) or value.kind not in ACTIVATION_PARAMETERS:
        raise DataError(
            f"{where}: {what}={value!r}, expected one of {', '.join(_BY_NAME)}, or an Activation with its parameters"
        )
    for name in ACTIVATION_PARAMETERS[value.kind]:
        if not math.isfinite(getattr(value, name)):
            raise DataError(f"{where}: {what}={value}: {name} is not finite")
    return value


def clip_limit(where: str, value: Any) -> float | None:
    """Return a finite positive clip limit, or None for None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DataError(f"{where}: clip={value!r}, expected a number above 0")
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: clip={value}, expected a finite number above 0")
    return float(value)
