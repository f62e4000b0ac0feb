"""Means, variances and their roots of many int16 (docs/arithmetic.md, section 5): of all features of a group, of a sequence, or of both.

Of n numbers x with S = Σ x and Q = Σ x², both exact, two quantities are computed that do not grow with n, so that n may be 2^31 - 1:

    distance = (x - S / n) · 2^14, rounded once;  square = floor((Q / n - (S / n)²) · 2^28), exact but for that floor

Both are in one unit, 2^-14 of x, so that distance / sqrt(square) has none. S = 0 in both leaves x itself, and the mean of x².
"""

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round
from qrnn.arithmetic.norms import NORM_BIAS_BITS
from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.arithmetic.roots import integer_root

MOMENT_BITS = 14
"""A distance has 14 more fraction bits than x, and a square 28 more than x²."""

SQUARE_SUM_MAX = MOST_SUMMED << 30
"""The largest sum of squares, less than 2^61."""

SQUARE_MAX = 1 << 58
"""The largest `mean_square`."""

TERM_MAX = 1 << 61
"""What is added to a square is less than this, so that their sum is below 2^62."""

ROOT_MAX = (1 << 31) - 1
"""The largest root, whose square is below 2^62."""


def add_to_squares(high: int, low: int, x: int) -> int:
    """Return high · 2^31 + low + x within 0 … `SQUARE_SUM_MAX`; high and low 0 … 2^31 - 1, x within ±2^61.

    The parts are `sum_high` and `sum_low` of a sum of squares, of at most 2^31 - 1 int16; only parts that are no such sum's are saturated.
    """
    return saturate(high * 2147483648 + low + x, 0, SQUARE_SUM_MAX)


def mean_distance(x: int, count: int, total: int) -> int:
    """Return round((x - total / count) · 2^14), halves up, within ±2^30.

    x int16, count 1 … 2^31 - 1, |total| ≤ count · 2^15, or 0 for a mean that is not taken away. Only positive numbers are divided.
    """
    dividend = (count * x - total) * 32768 + count
    whole = 2 * count
    if dividend < 0:
        quotient = 0 - (whole - 1 - dividend) // whole
    else:
        quotient = dividend // whole
    return saturate(quotient, 0 - 1073741824, 1073741824)


def mean_square(count: int, total: int, squares: int) -> int:
    """Return floor((squares / count - (total / count)^2) · 2^28), 0 … 2^58, exact but for that floor.

    count 1 … 2^31 - 1; |total| ≤ count · 2^15, and 0 for the mean of the squares; squares ≤ count · 2^30. With q = floor(total / count) and
    total = q · count + r, count times the variance is squares - q · (total + r) - r^2 / count, whose whole part and remainder are divided by
    count one after the other. What is no total and sum of squares of any numbers gives some number within the bounds.
    """
    within = saturate(total, 0 - count * 32768, count * 32768)
    q = (within + count * 32768) // count - 32768
    r = within - q * count
    less = r * r // count
    rest = r * r - less * count
    part = choose(rest > 0, count - rest, 0)
    spread = saturate(squares, 0, count * 1073741824) - q * (within + r) - less - choose(rest > 0, 1, 0)
    top = saturate(spread, 0, count * 1073741824)
    high = top // count
    low = top - high * count
    return saturate((high << 28) + ((low << 28) + (part << 28) // count) // count, 0, SQUARE_MAX)


def sample_square(square: int, count: int) -> int:
    """Return square + floor(square / (count - 1)), at most 2^59: a `mean_square` as the estimate by a sample; itself for one number.

    square 0 … 2^58, count 1 … 2^31 - 1.
    """
    if count > 1:
        more = square // (count - 1)
    else:
        more = 0
    return square + more


def added_root(square: int, outside: int) -> int:
    """Return (floor(sqrt(square)) + outside)^2, below 2^62: the square of a root to which a number in the root's unit is added.

    square 0 … 2^62 - 1; outside 0 … 2^31 - 1. A root of more than 2^31 - 1 counts as that.
    """
    root = saturate(integer_root(square) + outside, 0, ROOT_MAX)
    return root * root


def normalize_distance(distance: int, scale: int, exponent: int, gain: int, gain_shift: int, bias: int) -> int:
    """Return gain · distance · scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16.

    |distance| ≤ 2^30; scale 2^15 … 2^16 and exponent 0 … 30, `norm_scale` and `norm_exponent` of a square; gain int16; exponent + gain_shift
    ≥ 0; bias int32. The product is at most 2^61. See `qrnn.arithmetic.norms.normalize`, which is the same for a row of few features.
    """
    by = saturate(exponent + gain_shift, 0, 62)
    return saturate(shift_right_round(((distance * scale * gain) >> by) + bias, NORM_BIAS_BITS), -32768, 32767)


def moment16(value: int, before: int, multiplier: int, shift: int) -> int:
    """Return sat16(round(floor(value / 2^before) · multiplier / 2^shift)), halves up: a square, or its root, in the output's format.

    value 0 … 2^62 - 1, before 0 … 62, multiplier 2^30 … 2^31 - 1, shift 16 … 62. What is cut off before is at most 2^-14 of a unit of the
    output, or nothing, as before is chosen; what is 2^31 or more then is far beyond int16.
    """
    kept = saturate(value >> before, 0, ROOT_MAX)
    return saturate(shift_right_round(kept * multiplier, shift), -32768, 32767)
