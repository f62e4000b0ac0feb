"""Sums and means in integers (docs/arithmetic.md, section 5).

A sum of int16 is exact in 64 bits for up to `MOST_SUMMED` of them, and a mean is one rounded division of it. A sum that a layer keeps from
step to step is two numbers, `sum_high` and `sum_low`, which fit the types of a state.
"""

from qrnn.arithmetic.fixedpoint import saturate

MOST_SUMMED = (1 << 31) - 1
"""The most numbers of a sum."""

SUM_MAX = MOST_SUMMED << 15
"""The largest magnitude of a sum, less than 2^46; its upper part fits an int16."""

LOW_BITS = 31
"""The bits of the lower part of a sum."""


def add_to_sum(high: int, low: int, x: int) -> int:
    """Return high · 2^31 + low + x within ±`SUM_MAX`: the sum whose parts are ``high`` int16 and ``low`` 0 … 2^31 - 1, and x, of ±2^46.

    A sum of at most `MOST_SUMMED` int16 lies within these bounds, so that nothing is saturated but parts that are no such sum's.
    """
    return saturate(high * 2147483648 + low + x, -SUM_MAX, SUM_MAX)


def sum_high(total: int) -> int:
    """Return the upper part of a sum, floor(total / 2^31): int16 for totals within ±`SUM_MAX`."""
    return total >> LOW_BITS


def sum_low(total: int) -> int:
    """Return the lower part of a sum, the total modulo 2^31: 0 … 2^31 - 1."""
    return total & 2147483647


def divide_sum(total: int, divisor: int, shift: int) -> int:
    """Return round(total · 2^shift / divisor), halves up, saturated to int16: floor((total · 2^(shift+1) + divisor) / (2 · divisor)).

    |total| ≤ `SUM_MAX`, shift 0 … 15, divisor 1 … 2^46: within 63 bits and a sign. Only positive numbers are divided: the floor of a negative
    quotient is the ceiling of its magnitude, with the other sign.
    """
    dividend = total * (2 << shift) + divisor
    whole = 2 * divisor
    if dividend < 0:
        quotient = 0 - (whole - 1 - dividend) // whole
    else:
        quotient = dividend // whole
    return saturate(quotient, -32768, 32767)
