"""The logarithm of an integer, of the power of two int16 and of the sum of a softmax (docs/arithmetic.md, section 5)."""

from collections.abc import Sequence

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round
from qrnn.arithmetic.gates import piecewise_linear
from qrnn.arithmetic.octaves import leading_bit
from qrnn.arithmetic.roots import sum_of_squares

LOG_FRAC = 24
"""The fraction bits of a logarithm."""

LOG_SEGMENT_BITS = 8
"""The table of ln(1 + m) over m in [0, 1), 15 bits, has 128 segments."""

LN2 = 11629080
"""ln 2, with `LOG_FRAC` fraction bits."""

LOG_BIAS_MAX = 1 << 61
"""The largest magnitude of a bias is below it; a logarithm times a multiplier is below 2^55."""


def natural_log(v: int, table: Sequence[int]) -> int:
    """Return ln(v) with 24 fraction bits, 0 … 43 · 2^24, for v in 1 … 2^62 - 1.

    v is 2^e · (1 + m); m is cut off after 15 bits. ``table`` [129] holds ln(1 + k / 128) with 24 fraction bits.
    """
    by32 = choose(v < 4294967296, 0, 32)
    w = v >> by32
    by16 = choose(w < 65536, 0, 16)
    e = by32 + by16 + leading_bit(w >> by16)
    m = ((v << (61 - e)) >> 46) & 32767
    return e * LN2 + piecewise_linear(m, table, LOG_SEGMENT_BITS)


def log_power16(
    a: int, b: int, a_shift: int, b_shift: int, epsilon: int, least: int, multiplier: int, bias: int, shift: int, table: Sequence[int]
) -> int:  # fmt: skip
    """Return sat16(round((multiplier · ln(v) + bias) / 2^shift)), halves up, with v = `sum_of_squares`, and no less than ``least``.

    ``least`` is 1 … 2^61 - 1; |multiplier| at most 2^24, |bias| below 2^61, shift 0 … 46.
    """
    v = sum_of_squares(a, b, a_shift, b_shift, epsilon)
    value = natural_log(choose(v < least, least, v), table) * multiplier + bias
    return saturate(shift_right_round(value, shift), -32768, 32767)


def log_softmax16(d: int, total: int, in_frac: int, out_frac: int, table: Sequence[int]) -> int:
    """Return sat16(round((-d · 2^-in_frac - ln(total / 2^15)) · 2^out_frac)), halves up: the logarithm of a softmax.

    d is the distance of an element from the row's largest, 0 … 65535 with ``in_frac`` fraction bits, 0 … 15; ``total`` the sum of the
    `exp_weight` of all, 2^15 … 2^31 - 1; out_frac -16 … 15.
    """
    value = (d << (LOG_FRAC - in_frac)) + natural_log(total, table) - 15 * LN2
    return saturate(shift_right_round(0 - value, LOG_FRAC - out_frac), -32768, 32767)
