"""Fixed-point primitives against exact rationals, dense around every power of two, as Python and as compiled by Numba."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.jit import for_python

INT16 = np.arange(-32768, 32768, dtype=np.int16)


def near_powers(bits: int, reach: int = 3) -> list[int]:
    """Every value within ``reach`` of zero, of a power of two, of three halves of one, or of their negatives, that fits ``bits``."""
    centres = {0} | {sign * (v << k) for k in range(bits) for v in (1, 3) for sign in (-1, 1)}
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return sorted(v for v in {c + d for c in centres for d in range(-reach, reach + 1)} if low <= v <= high)


EDGES32 = near_powers(32)
ADDENDS = (-32768, -32767, -12345, -1, 0, 1, 2, 16384, 32767)
MULTIPLIERS = [m for m in {2 * (v // 2) for v in near_powers(32, 4)} if m >= 0] + [1431655764, 1717986918]


def round_half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def clamp(x: int, low: int, high: int) -> int:
    return sorted((low, x, high))[1]


# --- rounding -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", range(47))
def test_shift_right_round_is_exact_half_up(shift: int) -> None:
    for x in near_powers(63, 2):
        assert fixedpoint.shift_right_round(x, shift) == round_half_up(Fraction(x, 1 << shift))


def test_halves_go_towards_plus_infinity() -> None:
    assert [fixedpoint.shift_right_round(x, 1) for x in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


# --- requantization -------------------------------------------------------------------------------------------------------------


def sqrdmulh(a: int, b: int) -> int:
    """Arm's saturating rounding doubling multiply high of two int32."""
    return clamp((2 * a * b + (1 << 31)) >> 32, -(1 << 31), (1 << 31) - 1)


def high_and_carry(a: int, b: int) -> int:
    """RV32M: mulh, mul, and the carry of the rounding bit, in 32-bit registers."""
    product = a * b
    high, low = product >> 32, product & 0xFFFFFFFF
    return high + (low >> 31)


def logical_shift(a: int, b: int) -> int:
    """x86: a 64-bit multiply and add, then a logical shift, whose low 32 bits are the result."""
    shifted = ((a * b + (1 << 31)) & 0xFFFFFFFFFFFFFFFF) >> 32
    return shifted - (1 << 32) if shifted >= 1 << 31 else shifted


def test_requantize_is_one_rounding_of_the_exact_product() -> None:
    for acc in EDGES32[1:]:
        for multiplier in MULTIPLIERS:
            got = fixedpoint.requantize(acc, multiplier, 0)
            assert got == round_half_up(Fraction(acc * multiplier, 1 << 32))
            assert got == sqrdmulh(acc, multiplier // 2)
            assert got == high_and_carry(acc, multiplier)
            assert got == logical_shift(acc, multiplier)
            assert abs(got) <= (1 << 30) - 1


@pytest.mark.parametrize("left_shift", range(31))
def test_requantize_with_left_shift(left_shift: int) -> None:
    accumulators = [a for a in EDGES32 if abs(a) << left_shift < 1 << 31]
    assert accumulators
    for acc in accumulators:
        for multiplier in MULTIPLIERS[::7]:
            exact = round_half_up(Fraction((acc << left_shift) * multiplier, 1 << 32))
            assert fixedpoint.requantize(acc, multiplier, left_shift) == exact


def test_the_largest_requantized_values() -> None:
    """Two partial sums may be added in int32: each is at most 2^30 - 1."""
    top = (1 << 31) - 1
    assert fixedpoint.requantize(top, (1 << 31) - 2, 0) == (1 << 30) - 1
    assert fixedpoint.requantize(-top, (1 << 31) - 2, 0) == -(1 << 30) + 1


# --- saturation -----------------------------------------------------------------------------------------------------------------


def test_saturations() -> None:
    for x in near_powers(40):
        assert fixedpoint.saturate16(x) == clamp(x, -32768, 32767)
        assert fixedpoint.saturate32(x) == clamp(x, -(1 << 31), (1 << 31) - 1)
        assert fixedpoint.saturate(x, -127, 127) == clamp(x, -127, 127)


@pytest.mark.parametrize("left_shift", range(16))
def test_saturate16_shifted(left_shift: int) -> None:
    for x in EDGES32:
        got = fixedpoint.saturate16_shifted(x, left_shift)
        assert -32768 <= got <= 32767
        assert got % (1 << left_shift) == 0
        exact = x << left_shift
        if -32768 <= exact <= 32767:
            assert got == exact
        else:
            assert got == (-32768 if x < 0 else 32768 - (1 << left_shift))


def test_align16() -> None:
    for from_frac in range(16):
        for to_frac in range(16):
            for x in near_powers(16, 2):
                exact = round_half_up(Fraction(x) * Fraction(2) ** (to_frac - from_frac))
                assert fixedpoint.align16(x, from_frac, to_frac) == clamp(exact, -32768, 32767)


@pytest.mark.parametrize("out_shift", range(16))
def test_add16_rounds_the_exact_sum_once(out_shift: int) -> None:
    for a_shift, b_shift in [(s, 0) for s in range(16)] + [(0, s) for s in range(1, 16)]:
        for a in ADDENDS:
            for b in ADDENDS:
                total = (a << a_shift) + (b << b_shift)
                assert abs(total) + (1 << 15) < 1 << 32  # 32 bits and a sign
                exact = round_half_up(Fraction(total, 1 << out_shift))
                assert fixedpoint.add16(a, b, a_shift, b_shift, out_shift) == clamp(exact, -32768, 32767)


@pytest.mark.parametrize("limit", [1, 127, 8191, 32767])
def test_to_operand(limit: int) -> None:
    for shift in range(16):
        for x in near_powers(16, 2):
            exact = clamp(round_half_up(Fraction(x, 1 << shift)), -limit, limit)
            assert fixedpoint.to_operand(x, shift, limit) == exact


def test_multiply_q15() -> None:
    for x in EDGES32:
        for q15 in (-32768, -32767, -1, 0, 1, 2, 16383, 16384, 16385, 32767, 32768):
            got = fixedpoint.multiply_q15(x, q15)
            assert got == round_half_up(Fraction(x * q15, 1 << 15))
            assert abs(got) <= abs(x)
        assert fixedpoint.multiply_q15(x, 32768) == x


# --- compiled -------------------------------------------------------------------------------------------------------------------


def compiled(function: Callable[..., int], arguments: int) -> Any:
    """A kernel that maps ``function`` over equally long arrays of narrow integers, as the CPU backend calls it."""
    if arguments == 1:

        def loop(out: Any, a: Any) -> None:
            for i in range(out.shape[0]):
                out[i] = function(a[i])
    elif arguments == 2:

        def loop(out: Any, a: Any, b: Any) -> None:  # type: ignore[misc]
            for i in range(out.shape[0]):
                out[i] = function(a[i], b[i])
    elif arguments == 3:

        def loop(out: Any, a: Any, b: Any, c: Any) -> None:  # type: ignore[misc]
            for i in range(out.shape[0]):
                out[i] = function(a[i], b[i], c[i])
    else:

        def loop(out: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> None:  # type: ignore[misc]
            for i in range(out.shape[0]):
                out[i] = function(a[i], b[i], c[i], d[i], e[i])

    return for_python(loop)


def check_compiled(function: Callable[..., int], rows: list[tuple[int, ...]], *types: Any) -> None:
    """Compiled with the given argument types and with int64 equals Python on every row."""
    want = [function(*row) for row in rows]
    kernel = compiled(function, len(types))
    for chosen in (types, (np.int64,) * len(types)):
        columns = [np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), chosen, strict=True)]
        out = np.zeros(len(rows), np.int64)
        kernel(out, *columns)
        np.testing.assert_array_equal(out, want, err_msg=f"{function.__name__} {chosen}")


NARROW16 = near_powers(16)
FRACS = (0, 1, 2, 7, 14, 15)
COMPILED = {
    "shift_right_round": ([(x, s) for x in EDGES32 for s in range(0, 47, 2)], (np.int32, np.int8)),
    "requantize": (
        [(x, m, s) for s in range(31) for x in EDGES32[::3] if abs(x) << s < 1 << 31 for m in MULTIPLIERS[::11]],
        (np.int32, np.int32, np.int8),
    ),
    "saturate16_shifted": ([(x, s) for x in EDGES32 for s in range(16)], (np.int32, np.int8)),
    "saturate16": ([(x,) for x in EDGES32], (np.int32,)),
    "saturate32": ([(x,) for x in EDGES32], (np.int32,)),
    "multiply_q15": ([(x, q) for x in EDGES32 for q in (-32768, -1, 0, 1, 16384, 32767)], (np.int32, np.int16)),
    "align16": ([(x, a, b) for x in NARROW16 for a in range(16) for b in range(16)], (np.int16, np.int64, np.int64)),
    "to_operand": (
        [(x, s, m) for x in NARROW16 for s in range(16) for m in (1, 127, 32767)],
        (np.int16, np.int64, np.int64),
    ),
    "add16": (
        [
            (a, b, s if k else 0, 0 if k else s, o)
            for a in ADDENDS
            for b in ADDENDS
            for s in FRACS
            for o in FRACS
            for k in (0, 1)
        ],
        (np.int16, np.int16, np.int64, np.int64, np.int64),
    ),
}


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_equals_python(name: str) -> None:
    rows, types = COMPILED[name]
    check_compiled(getattr(fixedpoint, name), rows, *types)


def test_narrow_extremes_survive_compilation() -> None:
    """-32768 and -2^31 in their own widths: shifting, doubling or negating them there would wrap."""
    low = -32768
    check_compiled(
        fixedpoint.to_operand, [(low, 0, 32767), (low, 15, 127), (low, 1, 127)], np.int16, np.int16, np.int16
    )
    check_compiled(fixedpoint.align16, [(low, 0, 15), (low, 15, 0), (32767, 0, 1)], np.int16, np.int8, np.int8)
    check_compiled(fixedpoint.shift_right_round, [(-(1 << 31), 31), ((1 << 31) - 1, 1)], np.int32, np.int32)


def test_the_narrow_form_of_rounding_is_the_same() -> None:
    """On every int32 near a power of two, with a sum that never leaves int32."""
    values = sorted(
        {sign * (1 << k) + d for k in range(31) for d in (-1, 0, 1) for sign in (-1, 1)} | {(1 << 31) - 1, -(1 << 31)}
    )
    for shift in range(1, 32):
        for x in values:
            got = fixedpoint.shift_right_round_narrow(x, shift)
            assert got == fixedpoint.shift_right_round(x, shift)
            assert -(1 << 31) <= (x >> shift) + 1 < 1 << 31
