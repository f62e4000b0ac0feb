"""Means, variances and roots of many int16: exact but for one floor, a distance that is rounded once, and a normalization by both."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qrnn.arithmetic.moments import (
    ROOT_MAX,
    SQUARE_MAX,
    SQUARE_SUM_MAX,
    add_to_squares,
    added_root,
    mean_distance,
    mean_square,
    moment16,
    normalize_distance,
    sample_square,
)
from qrnn.arithmetic.norms import norm_exponent, norm_scale
from qrnn.arithmetic.reductions import MOST_SUMMED, sum_high, sum_low

some = settings(max_examples=300, deadline=None)
int16s = st.one_of(st.sampled_from([-32768, -32767, -1, 0, 1, 32767]), st.integers(-32768, 32767))
values = st.lists(int16s, min_size=1, max_size=40)
repeats = st.one_of(st.just(1), st.integers(1, 1 << 25))


@some
@given(values, repeats, st.booleans())
def test_a_square_is_exact_but_for_its_floor(x: list[int], times: int, centred: bool) -> None:
    """A list that is repeated up to 2^30 numbers has the same mean and variance as the list."""
    count, squares = len(x) * times, sum(v * v for v in x) * times
    total = sum(x) * times if centred else 0
    exact = Fraction(squares, count) - Fraction(total, count) ** 2
    assert mean_square(count, total, squares) == exact * (1 << 28) // 1


@pytest.mark.parametrize("count", [1, 2, 3, 65535, 65536, 1 << 30, MOST_SUMMED])
def test_the_largest_sums_fit(count: int) -> None:
    """All at an end, half at each, and one apart from the others; no intermediate value passes 64 bits (`tools/contract_functions.py`)."""
    for low in (0, 1, count // 2, count - 1, count):
        total = -32768 * low + 32767 * (count - low)
        squares = (low << 30) + 32767 * 32767 * (count - low)
        assert squares <= SQUARE_SUM_MAX
        exact = Fraction(squares, count) - Fraction(total, count) ** 2
        assert mean_square(count, total, squares) == exact * (1 << 28) // 1 <= SQUARE_MAX
        assert mean_square(count, 0, squares) == Fraction(squares, count) * (1 << 28) // 1
        for x in (-32768, 0, 32767):
            want = ((x - Fraction(total, count)) * (1 << 14) + Fraction(1, 2)) // 1
            assert mean_distance(x, count, total) == want
            assert abs(want) <= 1 << 30


@some
@given(int16s, values, repeats)
def test_a_distance_is_rounded_once(v: int, x: list[int], times: int) -> None:
    count, total = len(x) * times, sum(x) * times
    assert mean_distance(v, count, total) == ((v - Fraction(total, count)) * (1 << 14) + Fraction(1, 2)) // 1


@some
@given(st.integers(1, MOST_SUMMED), st.integers(-(1 << 47), 1 << 47), st.integers(0, 1 << 62))
def test_what_is_no_sum_of_any_numbers_stays_within_the_bounds(count: int, total: int, squares: int) -> None:
    """As a state that was damaged has it."""
    assert 0 <= mean_square(count, total, squares) <= SQUARE_MAX
    assert abs(mean_distance(32767, count, total)) <= 1 << 30


@some
@given(st.integers(0, SQUARE_SUM_MAX), st.integers(0, 1 << 30))
def test_a_sum_of_squares_in_two_parts(total: int, x: int) -> None:
    high, low = sum_high(total), sum_low(total)
    assert 0 <= high <= 1 << 30
    assert 0 <= low < 1 << 31
    assert add_to_squares(high, low, x) == min(total + x, SQUARE_SUM_MAX)


@some
@given(st.integers(0, (1 << 62) - 1), st.integers(0, ROOT_MAX))
def test_the_square_of_a_root_and_a_number(square: int, outside: int) -> None:
    assert added_root(square, outside) == min(isqrt(square) + outside, ROOT_MAX) ** 2


@some
@given(
    values,
    repeats,
    st.integers(0, 1 << 61),
    st.integers(-32768, 32767),
    st.integers(0, 40),
    st.integers(-(1 << 30), 1 << 30),
)
def test_a_normalized_number_is_near_the_real_one(
    x: list[int], times: int, epsilon: int, gain: int, shift: int, bias: int
) -> None:
    """The bound of docs/arithmetic.md: 0.5 + 2^-8 for the two roundings, and the errors of distance, square and root."""
    count, total, squares = len(x) * times, sum(x) * times, sum(v * v for v in x) * times
    square = max(1, mean_square(count, total, squares) + epsilon)
    exponent = norm_exponent(square)
    scale = norm_scale(square, exponent)
    for v in set(x):
        distance = mean_distance(v, count, total)
        got = normalize_distance(distance, scale, exponent, gain, shift, bias)
        real = (float(v) - float(Fraction(total, count))) * 2**14
        root = float((Fraction(squares, count) - Fraction(total, count) ** 2) * (1 << 28) + epsilon) ** 0.5
        unit = float(gain) * 2.0 ** (16 - shift - 8)
        y = unit * real / max(root, 1.0)
        error = abs(y) * (2.0**-16 + 2.0**-22 + 0.5 / square) * 1.001 + abs(unit) * 0.5 / max(root, 1.0)
        if root == 0.0:
            assert got == max(-32768, min(32767, (bias + 128) >> 8))
        elif square > 1:
            want = max(-32768.0, min(32767.0, y + bias / 256))
            assert abs(got - want) <= 0.5 + 2.0**-8 + error


@some
@given(st.integers(0, (1 << 62) - 1), st.integers(0, 62), st.integers(1 << 30, (1 << 31) - 1), st.integers(16, 62))
def test_a_moment_is_rounded_once(value: int, before: int, multiplier: int, shift: int) -> None:
    kept = min(value >> before, ROOT_MAX)
    assert moment16(value, before, multiplier, shift) == min(
        32767, (Fraction(kept * multiplier, 1 << shift) + Fraction(1, 2)) // 1
    )


@some
@given(st.integers(0, SQUARE_MAX), st.integers(1, MOST_SUMMED))
@example(SQUARE_MAX, 2)
@example(SQUARE_MAX, 1)
def test_the_square_of_a_sample(square: int, count: int) -> None:
    """The divisor is one less than the number of values, and 1 for one value."""
    want = square if count == 1 else floor(Fraction(square * count, count - 1))
    assert sample_square(square, count) == want <= 2 * SQUARE_MAX
