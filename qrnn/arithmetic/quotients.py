"""The quotient of two int16 (docs/arithmetic.md, section 5)."""

from qrnn.arithmetic.fixedpoint import choose, magnitude, saturate


def divide16(a: int, b: int, a_shift: int, b_shift: int) -> int:
    """Return sat16(round(a · 2^a_shift / (b · 2^b_shift))), halves up; a, b int16, the shifts 0 … 31.

    Only positive numbers are divided. A divisor of 0 gives the end of int16 on a's side, and 0 / 0 gives 0.
    """
    top = magnitude(a) << a_shift
    bottom = choose(magnitude(b) < 1, 1, magnitude(b)) << b_shift
    up = (2 * top + bottom) // (2 * bottom)
    down = (2 * top + bottom - choose(top < 1, 0, 1)) // (2 * bottom)
    quotient = choose(choose(a < 0, 0 - 1, 1) * choose(b < 0, 0 - 1, 1) < 0, 0 - down, up)
    without = choose(a < 0, 0 - 32768, choose(a > 0, 32767, 0))
    return choose(magnitude(b) < 1, without, saturate(quotient, -32768, 32767))
