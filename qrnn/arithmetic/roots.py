"""The square root of an integer, and the magnitude and the power of two int16 (docs/arithmetic.md, section 5).

Squares are summed exactly in 64 bits, and never stored in 16: the root of their sum is rounded once.
"""

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round
from qrnn.arithmetic.norms import norm_exponent, norm_scale

SQUARES_MAX = 1 << 61
"""The largest sum of two squares, as the shifts of a layer allow it; an epsilon is less, so that both together are below 2^62."""


def integer_root(v: int) -> int:
    """Return floor(sqrt(v)), 0 … 2^31 - 1, for v in 0 … 2^62 - 1: exact, without a division and without a loop.

    ``s``, v times `norm_scale`, is the root but for 2^-16 of itself and less than 2. One Newton step, s + (v - s^2) · scale / 2^(17+j), leaves
    an error of at most 0.775 and what its two shifts cut off. The root is one of the four numbers from s - 1 on, and three comparisons
    find it.
    """
    positive = choose(v < 1, 1, v)
    exponent = norm_exponent(positive)
    scale = norm_scale(positive, exponent)
    s = ((v >> exponent) * scale) >> 16
    s = s + ((((v - s * s) >> exponent) * scale) >> 17) - 1
    s = choose((s + 1) * (s + 1) > v, s, s + 1)
    s = choose((s + 1) * (s + 1) > v, s, s + 1)
    return choose((s + 1) * (s + 1) > v, s, s + 1)


def sum_of_squares(a: int, b: int, a_shift: int, b_shift: int, epsilon: int) -> int:
    """Return a^2 · 2^a_shift + b^2 · 2^b_shift + epsilon, exact, in 0 … 2^62 - 1.

    a, b int16; the shifts 0 … 30 and their powers' sum such that the squares are at most 2^61; ``epsilon`` 0 … 2^61 - 1.
    """
    return ((a * a) << a_shift) + ((b * b) << b_shift) + epsilon


def magnitude16(a: int, b: int, a_shift: int, b_shift: int, epsilon: int, shift: int) -> int:
    """Return sat16(round(sqrt(a^2 · 2^a_shift + b^2 · 2^b_shift + epsilon) / 2^shift)), halves up; shift 1 … 30.

    It is rounded once: as 2^(shift-1) is whole, floor(sqrt(v) / 2^shift + 1/2) is the same for sqrt(v) and for its floor.
    """
    root = integer_root(sum_of_squares(a, b, a_shift, b_shift, epsilon))
    return saturate(shift_right_round(root, shift), -32768, 32767)


def power16(a: int, b: int, a_shift: int, b_shift: int, epsilon: int, shift: int) -> int:
    """Return sat16(round((a^2 · 2^a_shift + b^2 · 2^b_shift + epsilon) / 2^shift)), halves up; shift 0 … 46."""
    return saturate(shift_right_round(sum_of_squares(a, b, a_shift, b_shift, epsilon), shift), -32768, 32767)
