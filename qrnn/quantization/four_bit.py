"""Weights of four bits: w = q · s, q in -8…7, with an integer scale s for each row and group of columns.

Every s is tried, and of both signs: q reaches one step further on one side, and the sign of s says on which. On trained weights that is
worth 0.9 dB against q in -7…7 with s in 1…18. A search over the rows' own scales would add less than 0.05 dB.
"""

from __future__ import annotations

import numpy as np

from qrnn.model.float_model import FloatArray
from qrnn.model.parts import SCALE_COLUMNS, SCALE_LIMIT, Int8Array

LARGEST_WEIGHT = 8 * (SCALE_LIMIT - 1)
"""What the largest weight of a row stands at, one step below the end: its group, too, may choose among scales."""

_ROWS_AT_ONCE = 64
"""Of so many rows the arrays of the search stay in a cache."""

_SCALES = [sign * size for size in range(1, SCALE_LIMIT + 1) for sign in (1, -1)]
"""In the order of preference among equally good ones."""


def four_bit_rows(rows: FloatArray) -> tuple[Int8Array, Int8Array]:
    """q [R, K] and scales [R, ⌈K / 32⌉] for rows [R, K] in units of one: of each group the least sum of squared errors there is.

    A group's error is at most that of the scale ⌈max|w| / 7⌉ (where that is at most 15), which is half of it for each weight.
    """
    R, K = rows.shape
    groups = -(-K // SCALE_COLUMNS)
    q, scale = np.zeros((R, groups * SCALE_COLUMNS), np.int8), np.ones((R, groups), np.int8)
    padded = np.zeros((R, groups * SCALE_COLUMNS))
    padded[:, :K] = rows
    for start in range(0, R, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        block = padded[part].reshape(-1, groups, SCALE_COLUMNS)
        scale[part] = _best_scales(block)
        q[part] = _rounded(block, scale[part, :, None]).reshape(len(block), -1).astype(np.int8)
    return q[:, :K], scale


def _rounded(block: FloatArray, scale: Int8Array | int) -> FloatArray:
    """round(w / s), half up, within -8…7."""
    q: FloatArray = np.clip(np.floor(block / scale + 0.5), -8, 7)
    return q


def _best_scales(block: FloatArray) -> Int8Array:
    """[R, G] for weights [R, G, 32]; 1 for groups of zeros."""
    best = np.ones(block.shape[:2], np.int8)
    least = np.full(block.shape[:2], np.inf)
    for scale in _SCALES:
        error = _rounded(block, scale) * scale - block
        squares = np.einsum("rgk,rgk->rg", error, error)
        better = squares < least
        best[better], least = scale, np.minimum(least, squares)
    return best
