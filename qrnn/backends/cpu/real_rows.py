"""Rows of real numbers to integers: the boundary's `to_integers`, of most values without its division.

x / scale is approximated by a product with 1 / scale, in the numbers that x has. Where the approximation + 1/2 lies farther from a whole number
than its error, its floor is that of the quotient; a stretch of values with another is converted again, by `to_integers` itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu.jit import jit
from qrnn.model.batch import FLOAT32_MAX
from qrnn.model.boundary import to_integers
from qrnn.model.parts import FloatArray

STRETCH = 256
"""Values that are converted again together."""

NARROW = 127
"""The largest limit with which products of float32 decide nearly always: the error grows with the limit."""


@jit
def _nearly(x: Any, factor: Any, limit: Any, half: Any, sure: Any, out: Any) -> bool:
    """out[k] = clamp(floor(x[k] · factor[k] + 1/2), ±limit); whether all values are sure: within ``sure`` < 1/2 of the middle between two
    whole numbers. factor [1] or [F]; all numbers are of one type.

    Infinities, NaN and what is too large to have a fraction are not sure.
    """
    unsure = False
    for k in range(x.shape[0]):
        u = x[k] * (factor[0] if factor.shape[0] == 1 else factor[k]) + half
        v = np.floor(u)
        unsure |= not abs(u - v - half) < sure
        low = v if v > -limit else -limit
        out[k] = np.int16(low if low < limit else limit)
    return not unsure


@jit
def _exactly(x: Any, scale: Any, limit: int, out: Any) -> int:
    """`to_integers`; how many values are not finite or not of float32's range."""
    bad = 0
    for k in range(x.shape[0]):
        bad += not abs(x[k]) <= FLOAT32_MAX
        out[k] = np.int16(to_integers(x[k], scale[0] if scale.shape[0] == 1 else scale[k], limit))
    return bad


def scaling(scales: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.float32]]:
    """What `quantize_rows` takes first: scales [1] or [F], and their reciprocals in float64 and in float32."""
    reciprocal = 1.0 / scales
    with np.errstate(over="ignore", under="ignore"):  # no product with such a reciprocal is sure
        return scales, reciprocal, reciprocal.astype(np.float32)


@jit
def quantize_rows(scaling: Any, limit: int, x: Any, out: Any, m0: int, m1: int) -> int:
    """Rows m0 … m1 - 1: x [M, F] float64 or float32 → out [M, F] int16. How many values are not of float32's range.

    In float64, of unit roundoff e, reciprocal, product, quotient and the two sums with 1/2 round once each: as long as all are below limit + 2,
    the floors' arguments differ by less than 6·e·(limit + 2). In float32 the quotient's side still rounds in float64: 4·e·(limit + 2) of its e
    is enough. Both are less than 1/16, and of larger arguments a like part of themselves: those are clamped on both sides.
    """
    scale, factor, factor32 = scaling
    F = x.shape[1]
    narrow = limit <= NARROW and x.itemsize == 4
    sure = 0.5 - (limit + 2) * (2.0**-22 if narrow else 2.0**-50)
    flat, flat_out = x[m0], out[m0]
    if m1 - m0 != 1:
        flat, flat_out = x[m0:m1].reshape(-1), out[m0:m1].reshape(-1)
    step = STRETCH if scale.shape[0] == 1 else F
    bad = 0
    for first in range(0, flat.shape[0], step):
        part, to = flat[first : first + step], flat_out[first : first + step]
        if narrow:
            done = _nearly(part, factor32, np.float32(limit), np.float32(0.5), np.float32(sure), to)
        else:
            done = _nearly(part, factor, float(limit), 0.5, sure, to)
        if not done:
            bad += _exactly(part, scale, limit, to)
    return bad
