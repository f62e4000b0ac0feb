"""Weights of four bits: w = q · s, with q in -8…7 and an integer scale s for each row and group of columns.

Every s is tried with both signs: q reaches one step further on one side, and the sign of s says on which. On trained weights that is worth
0.9 dB against q in -7…7 with s in 1…18. A search over the rows' own scales would add less than 0.05 dB.
"""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.model.parts import SCALE_COLUMNS, SCALE_LIMIT, FloatArray, Int8Array
from qrnn.quantization.recent import Recent

LARGEST_WEIGHT = 8 * (SCALE_LIMIT - 1)
"""The largest weight of a row in units, one step below the end, so that its group, too, may choose among scales."""

_ROWS_AT_ONCE = 64
"""Rows that are searched at a time, few enough that the arrays stay in a cache."""

ENDS = {1: (-8, 7), -1: (-7, 8)}
"""The least and the largest w / |s| by the sign of the scale; it is -q for a negative one."""


def four_bit_rows(rows: FloatArray) -> tuple[Int8Array, Int8Array]:
    """Return q [R, K] and scales [R, ⌈K / 32⌉] for rows [R, K] in units of one.

    Each group has the least sum of squared errors that any q and s give. A group's error is at most that of the scale ⌈max|w| / 7⌉ (where
    that is at most 15), which is half of the scale for each weight.
    """
    return _FOUND.of(rows)


def _four_bit_rows(rows: FloatArray, _: int) -> tuple[Int8Array, Int8Array]:
    R, K = rows.shape
    groups = -(-K // SCALE_COLUMNS)
    q, scale = np.zeros((R, groups * SCALE_COLUMNS), np.int8), np.ones((R, groups), np.int8)
    padded = np.zeros((R, groups * SCALE_COLUMNS))
    padded[:, :K] = rows
    for start in range(0, R, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        block = padded[part].reshape(-1, groups, SCALE_COLUMNS)
        scale[part] = best = _best_scales(block)
        sign = np.sign(best)[:, :, None]
        nearest = round_half_up(block * (1 / np.abs(best.astype(np.float64)))[:, :, None])
        q[part] = np.clip(sign * nearest, -8, 7).reshape(len(block), -1).astype(np.int8)
    return q[:, :K], scale


_FOUND = Recent(_four_bit_rows)


def _best_scales(block: FloatArray) -> Int8Array:
    """Return the best scales [R, G] for weights [R, G, 32].

    Among equally good ones it takes the smallest, then the positive one, and so 1 for groups of zeros.
    """
    best = np.ones(block.shape[:2], np.int8)
    least = np.full(block.shape[:2], np.inf)
    error = np.empty_like(block)
    for size in range(1, SCALE_LIMIT + 1):
        nearest = round_half_up(block * (1 / size))
        for sign, (low, high) in ENDS.items():
            np.minimum(np.maximum(nearest, low, out=error), high, out=error)
            np.subtract(np.multiply(error, size, out=error), block, out=error)
            squares = np.einsum("rgk,rgk->rg", error, error)
            best[squares < least] = sign * size
            np.minimum(least, squares, out=least)
    return best
