"""Layer normalization and RMS normalization in integers (docs/arithmetic.md, section 5).

A row of F features x_k, int16, with S = Σ x_k and Q = Σ x_k², both exact, is normalized without a division and without a rounding of its
mean or its variance: F² times the variance is the integer F · Q - S², and F times the distance from the mean is F · x_k - S. So

    y_k = gain_k · (x_k - mean) / sqrt(variance + epsilon) + bias_k = gain_k · (F · x_k - S) / sqrt(F · Q - S² + F² · epsilon) + bias_k

RMS normalization has no mean: it is the same with 0 in the place of S. A loop over rows calls, once for each row, `norm_variance`,
`norm_exponent` and `norm_scale`, and then `normalize` for each element. Only `normalize` is also lifted to lanes: the others are computed once
for a row, and `norm_exponent` chooses between two numbers, which lanes do not.
"""

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round

NORM_FEATURES = 32767
"""The most features of a row: F · x_k - S then fits an int32."""

NORM_TERM_MAX = 1 << 61
"""The largest scaled variance; its epsilon is less, so that their sum is below 2^62."""

NORM_BIAS_BITS = 8
"""A bias has 8 more fraction bits than the output, so that its own rounding is not seen."""

_ROOT_ONE = 1 << 62
_ROOT_INTERCEPT, _ROOT_SLOPE = 1118225, 159746
"""The line (7b - b · m / 2^22) · 2^20 with b = 2 / 13.128: nearest to 2^31 / sqrt(m) in relative error, 8.6 %, over [2^22, 2^24)."""


def norm_variance(count: int, total: int, squares: int, shift: int, epsilon: int) -> int:
    """Return (F^2 · variance · 2^shift) + epsilon, at least 1: exact, in [1, 2^62).

    ``count`` is F, 1 … 32767; ``total`` is S, or 0 for RMS normalization; ``squares`` is Q. ``shift`` is even, with F^2 · 2^shift ≤ 2^31,
    and ``epsilon`` is F^2 times the real one in units of 2^(-shift - 2 · in_frac), 0 … 2^61 - 1. By Cauchy and Schwarz F · Q ≥ S^2. The
    result is below 1 only where all x_k are equal (or 0, for RMS) and epsilon is 0; each F · x_k - S is 0 then, and the output is the bias.
    """
    v = ((count * squares - total * total) << shift) + epsilon
    return choose(v < 1, 1, v)


def norm_exponent(variance: int) -> int:
    """Return the j with 4^j ≤ variance < 4^(j+1), 0 … 30; variance 1 … 2^62 - 1."""
    by32 = choose(variance < 4294967296, 0, 32)
    v = variance >> by32
    by16 = choose(v < 65536, 0, 16)
    v = v >> by16
    by8 = choose(v < 256, 0, 8)
    v = v >> by8
    by4 = choose(v < 16, 0, 4)
    v = v >> by4
    by2 = choose(v < 4, 0, 2)
    return (by32 + by16 + by8 + by4 + by2) >> 1


def norm_scale(variance: int, exponent: int) -> int:
    """Return 2^(16+j) / sqrt(variance), where j is its `norm_exponent`: round(2^27 / sqrt(m)), halves up.

    m = floor(variance · 4^(11-j)), the 24 bits of variance from its leading one on, lies in [2^22, 2^24), the result in [2^15, 2^16]. It is
    the nearest whole number for every m, by whatever way it is found: here three Newton steps from a line, t → t + t · (1 - t^2 · m / 2^62)
    / 2 towards 2^31 / sqrt(m), which end within 2 units below it, and one comparison. t^2 · m stays below 2^63.
    """
    shift = 60 - 2 * exponent
    m = (variance << shift) >> 38
    t = _ROOT_INTERCEPT - ((m * _ROOT_SLOPE) >> 22)
    t = t + ((t * ((_ROOT_ONE - t * t * m) >> 24)) >> 39)
    t = t + ((t * ((_ROOT_ONE - t * t * m) >> 24)) >> 39)
    t = t + ((t * ((_ROOT_ONE - t * t * m) >> 24)) >> 39)
    r = (t + 8) >> 4
    odd = 2 * r + 1
    return choose(odd * odd * m > (1 << 56), r, r + 1)


def normalize(x: int, count: int, total: int, scale: int, exponent: int, gain: int, gain_shift: int, bias: int) -> int:
    """Return gain · (F · x - S) · scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16.

    x int16; gain int16; bias int32 with 8 more fraction bits than the output; ``count``, ``total`` as in `norm_variance`; ``scale`` and
    ``exponent`` are those of the row. exponent + gain_shift ≥ 0 unless F · x - S is 0, which the conversion and the checks of a model make
    sure of. The product is below 2^62, so that a shift of more than 62 would change nothing. Cutting it off before the bias is added
    changes nothing either: floor((floor(p / 2^k) + b) / 2^8) = floor((p + b · 2^k) / 2^(k+8)).
    """
    product = (count * x - total) * scale * gain
    by = saturate(exponent + gain_shift, 0, 62)
    return saturate(shift_right_round((product >> by) + bias, NORM_BIAS_BITS), -32768, 32767)
