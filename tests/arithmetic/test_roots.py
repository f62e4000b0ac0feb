"""The integer root is exact; magnitudes and powers are rounded once; quotients, logarithms and octave tables keep their bounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic import octaves
from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.logarithms import LN2, LOG_FRAC, log_power16, log_softmax16, natural_log
from qrnn.arithmetic.norms import norm_exponent, norm_scale
from qrnn.arithmetic.octaves import OCTAVE_ENTRY_MAX, leading_bit, octave_value
from qrnn.arithmetic.quotients import divide16
from qrnn.arithmetic.roots import SQUARES_MAX, integer_root, magnitude16, power16, sum_of_squares
from qrnn.model.log_table import log_table

some = settings(max_examples=300, deadline=None)
int16s = st.one_of(st.sampled_from([-32768, -32767, -1, 0, 1, 32767]), st.integers(-32768, 32767))
TABLE = log_table().tolist()


def of_any_size(most: int) -> st.SearchStrategy[int]:
    """Whole numbers of every size, 0 … most."""
    return st.integers(0, most.bit_length()).flatmap(lambda bits: st.integers(0, min(most, (1 << bits) - 1)))


def rounded(value: Fraction) -> int:
    """Halves up, saturated to int16."""
    return max(-32768, min(32767, math.floor(value + Fraction(1, 2))))


# --- the root ---


def check_roots(v: np.ndarray) -> None:
    r = of_arrays(integer_root)(v)
    assert np.all(r * r <= v)
    assert np.all((r + 1) * (r + 1) > v)


def test_every_root_below_a_million() -> None:
    check_roots(np.arange(1 << 20, dtype=np.int64))


@pytest.mark.matrix
def test_every_root_below_2_to_28() -> None:
    for first in range(0, 1 << 28, 1 << 22):
        check_roots(np.arange(first, first + (1 << 22), dtype=np.int64))


def test_roots_around_squares() -> None:
    """Where the floor jumps: around the squares of numbers of every size, up to the largest."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 1 << rng.integers(1, 32, 1 << 18))
    r = np.concatenate([drawn, (1 << 31) - 1 - np.arange(4096), np.arange(1, 4096)])
    for v in (r * r - 1, r * r, r * r + 1, r * r + 2 * r):
        check_roots(np.minimum(v, (1 << 62) - 1))


def test_the_newton_step_ends_where_its_comparisons_begin() -> None:
    """From the largest floor down: with the proof's bound of 0.775 and the shifts, the root is one of s - 1 … s + 2."""
    rng = np.random.default_rng(1)
    v = np.concatenate([rng.integers(1 << b, 2 << b, 1 << 14) for b in range(62)])
    exponent = of_arrays(norm_exponent)(v)
    scale = of_arrays(norm_scale)(v, exponent)
    s = ((v >> exponent) * scale) >> 16
    s = s + ((((v - s * s) >> exponent) * scale) >> 17)
    true = of_arrays(integer_root)(v)
    assert (true - s).min() >= -1
    assert (true - s).max() <= 2


@some
@given(of_any_size((1 << 62) - 1))
def test_the_root_of_any_number(v: int) -> None:
    assert integer_root(v) == math.isqrt(v)


# --- magnitudes and powers ---


@st.composite
def squares(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """A, b, their shifts and an epsilon, as a layer allows them."""
    a_shift, b_shift = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    return draw(int16s), draw(int16s), 2 * a_shift, 2 * b_shift, draw(of_any_size(SQUARES_MAX - 1))


@some
@given(squares(), st.integers(1, 30), st.integers(0, 46))
def test_magnitudes_and_powers_are_rounded_once(own: tuple[int, ...], shift: int, power_shift: int) -> None:
    a, b, a_shift, b_shift, epsilon = own
    v = a * a * 2**a_shift + b * b * 2**b_shift + epsilon
    assert sum_of_squares(*own) == v < 1 << 62
    assert power16(*own, power_shift) == rounded(Fraction(v, 1 << power_shift))
    got = magnitude16(*own, shift)
    # y is the nearest whole number to sqrt(v) / 2^shift, halves up: (2y - 1)² · 4^shift ≤ 4v < (2y + 1)² · 4^shift
    if got < 32767:
        assert 4 * v < (2 * got + 1) ** 2 * 4**shift
    if got > 0:
        assert (2 * got - 1) ** 2 * 4**shift <= 4 * v


# --- quotients ---


@some
@given(int16s, int16s, st.integers(0, 31), st.integers(0, 31))
def test_a_quotient_is_rounded_once(a: int, b: int, a_shift: int, b_shift: int) -> None:
    got = divide16(a, b, a_shift, b_shift)
    if b:
        assert got == rounded(Fraction(a << a_shift, b << b_shift))
    else:
        assert got == (0 if not a else 32767 if a > 0 else -32768)


# --- logarithms ---


def test_the_table_of_logarithms() -> None:
    assert TABLE[0] == 0
    assert TABLE[-1] == LN2 == round(math.log(2) * 2**LOG_FRAC)


@some
@given(of_any_size((1 << 62) - 1))
def test_a_logarithm_is_near(v: int) -> None:
    """By 2^-17 of the table's lines, below by up to 2^-15 of the mantissa that is cut off, and by the 62 roundings of ln 2."""
    v = max(v, 1)
    error = natural_log(v, TABLE) / 2**LOG_FRAC - math.log(v)
    assert -(2.0**-15) - 2.0**-17 - 2.0**-19 <= error <= 2.0**-19


@some
@given(
    squares(),
    of_any_size(SQUARES_MAX - 1),
    st.integers(-(1 << 24), 1 << 24),
    st.integers(-(1 << 50), 1 << 50),
    st.integers(0, 46),
)
def test_the_logarithm_of_a_power(own: tuple[int, ...], least: int, multiplier: int, bias: int, shift: int) -> None:
    least = max(least, 1)
    exact = Fraction(natural_log(max(least, sum_of_squares(*own)), TABLE) * multiplier + bias, 1 << shift)
    assert log_power16(*own, least, multiplier, bias, shift, TABLE) == rounded(exact)


@some
@given(st.integers(0, 65535), st.integers(1 << 15, (1 << 31) - 1), st.integers(0, 15), st.integers(-16, 15))
def test_the_logarithm_of_a_softmax(d: int, total: int, in_frac: int, out_frac: int) -> None:
    got = log_softmax16(d, total, in_frac, out_frac, TABLE)
    real = (-d / 2.0**in_frac - math.log(total / 2.0**15)) * 2.0**out_frac
    if got > -32768:
        assert abs(got - real) <= 0.5 + 2.0 ** (out_frac - 14)
    else:
        assert real < -32767


# --- octave tables ---


def test_leading_bits() -> None:
    assert [leading_bit(v) for v in range(1, 1 << 16)] == [v.bit_length() - 1 for v in range(1, 1 << 16)]
    assert leading_bit(0) == 0


@pytest.mark.parametrize("bits", [0, 1, 3, 5, 9, 14])
def test_octaves_are_lines_between_their_knots(bits: int) -> None:
    """For every int16 but -32768, which counts as -32767; both signs have knots of their own, also at 0."""
    size = ((16 - bits) << bits) + 1
    rng = np.random.default_rng(bits)
    table = rng.integers(-(1 << 22), 1 << 22, 2 * size)
    table[[0, size - 1, size, -1]] = OCTAVE_ENTRY_MAX, -OCTAVE_ENTRY_MAX, -OCTAVE_ENTRY_MAX, OCTAVE_ENTRY_MAX
    at = np.array(
        [0] + [k << s for s in range(15 - bits) for k in range(1 if s == 0 else 1 << bits, 2 << bits)] + [32768]
    )
    assert at.size == size
    x = np.arange(-32767, 32768)
    got = of_arrays(octave_value)(x, bits, table)
    # float64 holds these lines exactly but for a last bit, which a sum of small whole numbers over a power of two does not need
    lines = np.where(x >= 0, np.interp(np.abs(x), at, table[:size]), np.interp(np.abs(x), at, table[size:]))
    want = np.clip(np.floor(lines / 2**octaves.OCTAVE_GUARD + 0.5), -32768, 32767)
    near = np.abs(lines / 2**octaves.OCTAVE_GUARD + 0.5 - np.round(lines / 2**octaves.OCTAVE_GUARD + 0.5)) < 1e-9
    assert np.array_equal(got[~near], want[~near])
    assert np.abs(got - want).max() <= 1
    assert octave_value(-32768, bits, table.tolist()) == got[0]
