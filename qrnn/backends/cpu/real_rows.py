"""Rows of real numbers to integers: the boundary's `to_integers`, of most values without its division.

x / scale is approximated by a product with 1 / scale, in the numbers that x has. Where the approximation + 1/2 lies farther from a whole number
than its error, its floor is that of the quotient; a stretch of values with another is converted again, by `to_integers` itself. For values of
float32 and scales that are powers of two, the product is the quotient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.memory import elements
from qrnn.model.boundary import to_integers
from qrnn.model.user_values import FLOAT32_MAX

STRETCH = 256
"""Values that are converted again together."""


@jit
def _nearly(x: Any, factor: Any, offset: Any, numbers: Any, out: Any) -> bool:
    """Write out[k] = clamp(floor(x[k] · factor[k] + 1/2) - offset[k], ±limit), and return whether all values are sure.

    A value is sure within ``sure`` < 1/2 of the middle between two whole numbers; infinities, NaN and what is too large to have a fraction are
    not. factor and offset both [1] or both [F]; numbers (limit, 1/2, sure); all of the type that is computed in.
    """
    limit, half, sure = numbers[0], numbers[1], numbers[2]
    unsure = False
    for k in range(x.shape[0]):
        u = x[k] * (factor[0] if factor.shape[0] == 1 else factor[k]) + half
        v = np.floor(u)
        unsure |= not abs(u - v - half) < sure
        v -= offset[0] if factor.shape[0] == 1 else offset[k]
        low = v if v > -limit else -limit
        out[k] = np.int16(low if low < limit else limit)
    return not unsure


@jit
def _by_power_of_two(x: Any, factor: Any, offset: Any, limit: Any, half: Any, out: Any) -> bool:
    """Write `to_integers` of float32 values, whose products with ``factor`` are exact, and return whether all products are finite.

    A product less its floor is exact too, but for tiny ones below 0, where it is rounded to 1: both are at least 1/2. Where the difference to
    the offset is rounded, it lies beyond the limit. All numbers are float32.
    """
    strange = False
    for k in range(x.shape[0]):
        t = x[k] * (factor[0] if factor.shape[0] == 1 else factor[k])
        v = np.floor(t)
        part = t - v
        strange |= not part <= half + half
        v += half + half if part >= half else half - half
        v -= offset[0] if factor.shape[0] == 1 else offset[k]
        low = v if v > -limit else -limit
        out[k] = np.int16(low if low < limit else limit)
    return not strange


@jit
def _exactly(x: Any, scale: Any, offset: Any, limit: int, out: Any) -> int:
    """Write `to_integers` of x, and return how many values are not finite or not of float32's range."""
    bad = 0
    for k in range(x.shape[0]):
        bad += not abs(x[k]) <= FLOAT32_MAX
        j = 0 if scale.shape[0] == 1 else k
        out[k] = np.int16(to_integers(x[k], scale[j], limit, offset[j]))
    return bad


@jit
def quantize_rows(scaling: Any, limit: int, x: Any, out: Any, m0: int, m1: int) -> int:
    """Quantize rows m0 … m1 - 1 of x [M, F] float64 or float32 → out [M, F] int16.

    Return how many values are not of float32's range. ``scaling`` is what `qrnn.backends.cpu.scales.scaling` returns.
    """
    scale, offset, factor, near_offset, numbers = scaling
    # ``sure`` is 1 where products are exact. The type of arrays then decides what is compiled.
    exact = numbers[2] == 1 and factor.itemsize == 4
    F = x.shape[1]
    flat, flat_out = elements(x, m0 * F, m1 * F), elements(out, m0 * F, m1 * F)
    step = STRETCH if scale.shape[0] == 1 else F
    bad = 0
    for first in range(0, flat.shape[0], step):
        part, to = flat[first : first + step], flat_out[first : first + step]
        if exact:
            done = _by_power_of_two(part, factor, near_offset, numbers[0], numbers[1], to)
        else:
            done = _nearly(part, factor, near_offset, numbers, to)
        if not done:
            bad += _exactly(part, scale, offset, limit, to)
    return bad
