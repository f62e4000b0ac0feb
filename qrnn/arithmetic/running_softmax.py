"""A mean over time whose weights are a softmax of scores, in integers, step by step (docs/arithmetic.md, section 5).

y_t = Σ e^(s_τ) · v_τ / Σ e^(s_τ) over τ = 0 … t. A score s becomes e^s = m · 2^e with a whole number e and a mantissa m of 24 bits. The sums
are kept in units of 2^E, with E the largest e so far, so that a larger one rescales them by a shift. Numerators have the units of m · v, and
the denominator those of m · 2^15. Each sum is two numbers, ``high`` and ``low``, as those of `qrnn.arithmetic.reductions` are, and split by
the same functions.
"""

from collections.abc import Sequence

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round
from qrnn.arithmetic.octaves import leading_bit
from qrnn.arithmetic.reductions import divide_sum

LOG2_E = 96817625
"""log2(e) with 26 fraction bits."""

PLACE_BITS = 20
"""The fraction bits of a score times log2(e)."""

POWER_BITS = 23
"""A mantissa lies in [2^23, 2^24]."""

LOWEST_EXPONENT = -(1 << 16)
"""The exponent before the first step, which no score is below: |s · log2(e)| < 2^16 for every int16."""

LARGEST_PLACE = (1 << 36) - 1
"""The largest magnitude of the place of a score that is a sum of products: its exponent is within ±2^16."""

MOST_WEIGHTED = 1 << 22
"""The most steps of a weighted sum: each adds at most 2^39."""

WEIGHTED_MAX = 1 << 61
"""The largest magnitude of a weighted sum."""


def power_place(score: int, in_frac: int) -> int:
    """Return score · log2(e) with 20 fraction bits, rounded half up, for an int16 with ``in_frac`` fraction bits, 0 … 15."""
    return shift_right_round(score * LOG2_E, in_frac + 6)


def score_place(product: int, multiplier: int, shift: int) -> int:
    """Return product · multiplier / 2^shift, rounded half up, within ±(2^36 - 1): the place of a score that is a sum of products.

    The multiplier holds the score's scale, log2(e) and 2^20; product · multiplier is within ±2^62, and shift 0 … 62.
    """
    return saturate(shift_right_round(product * multiplier, shift), -LARGEST_PLACE, LARGEST_PLACE)


def power_exponent(place: int) -> int:
    """Return the e of a power m · 2^(e - 23), the floor of a place: it lies within ±2^16, and within ±47274 of an int16's `power_place`."""
    return place >> PLACE_BITS


def power_mantissa(place: int, table: Sequence[int]) -> int:
    """Return the m of a power, 2^23 · 2^f with f the fraction of a `power_place`: in [2^23, 2^24].

    ``table`` has 129 entries, 2^23 · 2^(k / 128), between which the value is linear; it is rounded once.
    """
    part = place & 8191
    k = (place >> 13) & 127
    return table[k] + shift_right_round((table[k + 1] - table[k]) * part, 13)


def joined_sum(high: int, low: int) -> int:
    """Return high · 2^31 + low, the sum whose parts are ``high`` within ±2^30 and ``low`` 0 … 2^31 - 1."""
    return high * 2147483648 + low


def weighted_sum(total: int, rise: int, term: int, below: int) -> int:
    """Return round(total / 2^rise) + round(term / 2^below), halves up: a `joined_sum` in new units, and one term more, within ±2^39.

    ``rise`` and ``below`` are at least 0, and more than 62 counts as 62. The result is saturated to ±2^61, which no sum of `MOST_WEIGHTED`
    terms passes.
    """
    kept = shift_right_round(total, saturate(rise, 0, 62))
    return saturate(kept + shift_right_round(term, saturate(below, 0, 62)), -WEIGHTED_MAX, WEIGHTED_MAX)


def weighted_mean(total: int, weight: int, up: int, down: int) -> int:
    """Return total · 2^15 / weight · 2^(up - down) for a numerator and a denominator, two weighted sums, rounded to int16: a step's mean.

    The weight is at least 2^38, as the step with the largest exponent makes it; less counts as 2^38. Both lose the bits by which it has more
    than 31, and the quotient is rounded once, half up, and saturated. ``up`` and ``down`` 0 … 15, one of them 0.
    """
    weight = choose(weight < 274877906944, 274877906944, weight)
    upper = weight >> 31
    by16 = choose(upper < 65536, 0, 16)
    shift = by16 + leading_bit(upper >> by16) + 1
    numerator = saturate(total >> shift, -2147483647, 2147483647)
    return divide_sum(numerator * 32768, (weight >> shift) << down, up)
