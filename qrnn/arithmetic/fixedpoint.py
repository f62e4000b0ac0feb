"""The fixed-point primitives of the contract are one rounding, one requantization and three saturations (docs/arithmetic.md, section 2).

Arguments and results are integers of the width named; intermediate values need at most 64 bits. ``>>`` is arithmetic (floor).
"""

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

Q15_ONE = 1 << 15
"""The real number 1 in Q0.15; a gate can reach it exactly (it needs 17 bits signed)."""


def choose(condition: bool, yes: int, no: int) -> int:
    """Return ``yes`` where the condition holds, else ``no``.

    This is the contract's only branch inside a value: a vector backend that evaluates these functions for many lanes at once replaces it.
    """
    return yes if condition else no


def magnitude(x: int) -> int:
    """Return |x|. It is not computed as -x: a compiler may keep an int16 in 16 bits, where -32768 has no negative."""
    return choose(x < 0, 0 - x, x)


def saturate(x: int, low: int, high: int) -> int:
    """Clamp x to [low, high]."""
    return choose(x < low, low, choose(x > high, high, x))


def saturate16(x: int) -> int:
    """Clamp to int16."""
    return saturate(x, -32768, 32767)


def saturate32(x: int) -> int:
    """Clamp to int32."""
    return saturate(x, -2147483648, 2147483647)


def saturate16_shifted(x: int, left_shift: int) -> int:
    """Clamp x to ``16 - left_shift`` bits, then shift left: an int16 whose lowest ``left_shift`` bits are zero.

    ``left_shift`` 0 … 15; x int32. For left_shift = 0 this is `saturate16`.
    """
    return saturate(x, -32768 >> left_shift, 32767 >> left_shift) << left_shift


def shift_right_round(x: int, shift: int) -> int:
    """Return round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 … 62; x itself for 0.

    This is the only rounding of the contract. x int64 with |x| + 2^(shift-1) < 2^63.
    """
    return (x + ((1 << shift) >> 1)) >> shift


def shift_right_round_narrow(x: int, shift: int) -> int:
    """Return `shift_right_round` for shift 1 … 31 without a sum that is wider than x: 32-bit lanes use it where x fills them."""
    return (x >> shift) + ((x >> (shift - 1)) & 1)


def requantize(acc: int, multiplier: int, left_shift: int) -> int:
    """Return round(acc · 2^left_shift · multiplier / 2^32), halves up: the one requantization of the contract.

    acc int32 with |acc| · 2^left_shift < 2^31 (proved at conversion); multiplier even, 0 ≤ multiplier < 2^31; result |r| < 2^30 + 1. The
    result is equal to SMMULR, VRMULH, SQRDMULH(acc, multiplier/2), and to a 64-bit multiply-add with a shift.
    """
    return ((acc << left_shift) * multiplier + 2147483648) >> 32


def multiply_q15(x: int, q15: int) -> int:
    """Return round(x · q15 / 2^15), halves up; x int32, q15 in [-32768, 32768], a Q0.15 factor."""
    return shift_right_round(x * q15, 15)


def align16(x: int, from_frac: int, to_frac: int) -> int:
    """Return x, int16 with ``from_frac`` fraction bits, as int16 with ``to_frac``: rounded half up, or shifted left and saturated."""
    if to_frac >= from_frac:
        return saturate16(x << (to_frac - from_frac))
    return shift_right_round(x, from_frac - to_frac)


def add16(a: int, b: int, a_shift: int, b_shift: int, out_shift: int) -> int:
    """Return sat16(round((a · 2^a_shift + b · 2^b_shift) / 2^out_shift)): two int16 brought to the finer format, added, rounded once.

    One of a_shift, b_shift is 0, the other 0 … 15; out_shift 0 … 15: within 32 bits and a sign.
    """
    return saturate16(shift_right_round((a << a_shift) + (b << b_shift), out_shift))


def to_operand(x: int, shift: int, limit: int) -> int:
    """Return the operand of a matrix product for an int16: clamp(round(x / 2^shift), ±limit); limit 127 for int8, at most 32767 for int16."""
    return saturate(shift_right_round(x, shift), -limit, limit)
