"""Find the step of rows of weights that lie on a grid already: integers within ±127 times one step for the row.

Weights that were integers before (of a quantized ONNX file, of training with fake quantization) are w_k = q_k · s, mostly with the product
rounded to float32. Rounding them anew to max|w| / 127 would cost what their integers do not. So a row keeps its step s wherever its
weights are such products.

**The tolerance.** With u = 2^-24, half a unit in the last place of float32, w_k = q_k · s · (1 + d_k) with |d_k| ≤ u. Let n = |q| of the
row's largest weight m. The step is taken for m / n, which is s · (1 + d_m), so that

    | w_k / (m / n) - q_k |  =  |q_k| · |(1 + d_k) / (1 + d_m) - 1|  ≤  |q_k| · 2u / (1 - u)  <  |q_k| · 2^-23 · (1 + 2^-20)

where the last factor holds a few roundings of float64 too (weights times the scale of what they read). That is below 2^-15 for every
integer within ±127. With another n' ≤ 127 the numbers q_k · n' / n are whole or at least 1/127 away from whole ones, so that no n' passes by
the roundings of float32 alone: it passes where n / n' divides every integer of the row, and the least n that passes gives the largest step.

A row of other weights that passes is on a grid to float32's last bit, and loses nothing by it. A row of which all weights other than zero
have one magnitude is on the grids of every n.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import FloatArray

LARGEST_INTEGER = 127

_TOLERANCE = 2.0**-23 * (1 + 2.0**-20)
_FAR = int(2.0**64 * (LARGEST_INTEGER + 1) * _TOLERANCE)
"""More than the tolerance of any number, in units of 2^-64."""
_PROBES = 6
"""Columns, spread over the row, by which most integers n are ruled out before whole rows are looked at."""
_ROWS_AT_ONCE = 256


def grid_steps(weight: FloatArray, prefer: int = 1) -> FloatArray:
    """Return the step of each row of ``weight`` [R, K] whose weights are integers within ±127 times a step, and 0 for other rows, [R].

    It is the largest such step; or where the row's largest integer can be ``prefer`` as well, the step of that. Rows of zeros have 0.
    """
    steps = np.zeros(len(weight))
    order = np.arange(1, LARGEST_INTEGER + 1)
    order = np.concatenate([[prefer], order[order != prefer]])
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        steps[part] = _steps(np.abs(weight[part]), order)
    return steps


def _steps(rows: FloatArray, order: npt.NDArray[np.int64]) -> FloatArray:
    """Return the steps of rows of magnitudes, for the first number of ``order`` that the row's largest integer can be."""
    steps = np.zeros(len(rows))
    largest = rows.max(axis=1, initial=0.0)
    live = np.flatnonzero(largest > 0.0)
    probes = rows[np.ix_(live, _probed(rows.shape[1]))] if rows.size else rows
    relative = probes / largest[live, None]
    for column in range(relative.shape[1]):  # the first ones leave few rows that any number fits
        chosen = _may_be_whole(relative[:, column], order)
        relative, live = relative[chosen], live[chosen]
        if not live.size:
            return steps
    possible = np.zeros((len(rows), len(order)), bool)
    possible[live] = _is_whole(relative[:, :, None] * order).all(axis=1)
    while (left := live[possible[live].any(axis=1)]).size:
        choice = possible[left].argmax(axis=1)
        unit = largest[left] / order[choice]
        ratio = rows[left] / unit[:, None]
        found = _are_whole(ratio)
        possible[left[~found], choice[~found]] = False
        possible[left[found]] = False
        steps[left[found]] = _middle(rows[left[found]], np.rint(ratio[found]))
    return steps


@cache
def _probed(columns: int) -> npt.NDArray[np.int64]:
    """Return the columns by which rows are ruled out."""
    return np.unique(np.linspace(0, columns - 1, _PROBES).astype(np.int64))


def _may_be_whole(numbers: FloatArray, order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether any number of ``order`` may make each of ``numbers``, in 0 … 1, whole: soon, and never falsely no.

    Products of the fraction's 64 bits wrap at whole numbers, so that the distance from the nearest one is the magnitude of a signed integer.
    """
    fractions = (np.where(numbers < 1.0, numbers, 0.0) * 2.0**64).astype(np.uint64)
    distance = np.abs((order.astype(np.uint64)[:, None] * fractions).view(np.int64))
    found: npt.NDArray[np.bool_] = distance.min(axis=0) <= _FAR
    return found


def _are_whole(ratios: FloatArray) -> npt.NDArray[np.bool_]:
    """Return, along the last axis, whether all ratios are integers but for the roundings of float32."""
    return np.asarray(_is_whole(ratios).all(axis=-1))


def _is_whole(ratios: FloatArray) -> npt.NDArray[np.bool_]:
    nearest = np.rint(ratios)
    close: npt.NDArray[np.bool_] = np.abs(ratios - nearest) <= nearest * _TOLERANCE
    return close


def _middle(rows: FloatArray, integers: FloatArray) -> FloatArray:
    """Return the step of each row that is nearest to what every weight says: the middle of the least and the largest w / q."""
    used = integers > 0.0
    each = np.divide(rows, integers, out=np.zeros_like(rows), where=used)
    low, high = np.where(used, each, np.inf).min(axis=1), each.max(axis=1)
    result: FloatArray = low + (high - low) / 2
    return result
