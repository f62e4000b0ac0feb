"""Layer and RMS normalization in integers: exact statistics, a reciprocal root that is proved for every mantissa, bounds, zero variance."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from types import FunctionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic import norms
from qrnn.arithmetic.norms import (
    NORM_BIAS_BITS,
    NORM_FEATURES,
    NORM_TERM_MAX,
    norm_exponent,
    norm_scale,
    norm_variance,
    normalize,
)

some = settings(max_examples=300, deadline=None)
int16s = st.one_of(st.sampled_from([-32768, -32767, -1, 0, 1, 32767]), st.integers(-32768, 32767))
rows = st.lists(int16s, min_size=1, max_size=40)


def even_shift(count: int) -> int:
    """The largest even shift of a row of so many features."""
    return max(s for s in range(0, 31, 2) if count * count << s <= 1 << 31)


def statistics(x: Sequence[int], epsilon: int = 0, centred: bool = True) -> tuple[int, int, int]:
    """S (0 where there is no mean), the variance with its epsilon, and the variance's shift."""
    total, shift = sum(x) if centred else 0, even_shift(len(x))
    return total, norm_variance(len(x), total, sum(v * v for v in x), shift, epsilon), shift


def normalized(
    x: Sequence[int], gain: int, gain_shift: int, bias: int, epsilon: int = 0, centred: bool = True
) -> list[int]:
    total, variance, _ = statistics(x, epsilon, centred)
    exponent = norm_exponent(variance)
    scale = norm_scale(variance, exponent)
    return [normalize(v, len(x), total, scale, exponent, gain, gain_shift, bias) for v in x]


# --- the statistics are exact ---


@some
@given(rows, st.booleans(), st.integers(0, NORM_TERM_MAX - 1))
def test_the_variance_is_exact(x: list[int], centred: bool, epsilon: int) -> None:
    """In units of 1 / (F² · 2^shift), and nowhere below 1 or from 2^62 on."""
    mean = Fraction(sum(x), len(x)) if centred else Fraction(0)
    exact = sum((v - mean) ** 2 for v in x) / len(x)
    _, variance, shift = statistics(x, epsilon, centred)
    assert variance == max(1, exact * len(x) ** 2 * (1 << shift) + epsilon)
    assert 1 <= variance < 1 << 62


@pytest.mark.parametrize("count", [1, 2, 3, 4, 255, 4096, 23170, 23171, NORM_FEATURES])
def test_the_widest_rows_fit(count: int) -> None:
    """Rows that reach every bound: all at an end, half at each end, one apart from the rest; with the largest epsilon."""
    half = count // 2
    for x in (
        [-32768] * count,
        [32767] * count,
        [-32768] * half + [32767] * (count - half),
        [32767] + [-32768] * (count - 1),
    ):
        for centred in (True, False):
            total, variance, shift = statistics(x, NORM_TERM_MAX - 1, centred)
            assert abs(total) <= NORM_FEATURES << 15
            assert variance - (NORM_TERM_MAX - 1) <= NORM_TERM_MAX
            assert variance < 1 << 62
            assert shift % 2 == 0
            for v in set(x):
                distance = count * v - total
                assert abs(distance) < 1 << 31
                assert abs(distance) * (1 << 16) * 32768 < 1 << 62


# --- the reciprocal root ---


def test_the_exponent_is_that_of_a_power_of_four() -> None:
    for variance in {v for b in range(62) for v in ((1 << b) - 1, 1 << b, (1 << b) + 1) if v} | {(1 << 62) - 1}:
        assert 4 ** norm_exponent(variance) <= variance < 4 ** (norm_exponent(variance) + 1)


def test_the_root_is_the_nearest_number_of_every_mantissa() -> None:
    """All 12582912 of them, by the function's own code on arrays; its relative error is at most 2^-16."""
    code = FunctionType(norm_scale.__code__, {**vars(norms), "choose": np.where})
    worst = 0.0
    for first in range(1 << 22, 1 << 24, 1 << 20):
        m = np.arange(first, first + (1 << 20), dtype=np.int64)
        r = code(m, 11)  # 4^11 ≤ m < 4^12: shifted left by 38, then right again
        assert np.all((2 * r - 1) ** 2 * m <= 1 << 56)
        assert np.all((2 * r + 1) ** 2 * m > 1 << 56)
        assert r.min() >= 1 << 15
        assert r.max() <= 1 << 16
        worst = max(worst, float(np.abs(r * np.sqrt(m / 2.0**54) - 1).max()))
    assert 2.0**-17 < worst <= 2.0**-16


@some
@given(st.integers(0, 61), st.integers(0, (1 << 61) - 1))
def test_the_root_of_any_variance(bits: int, below: int) -> None:
    """Scale / 2^(16+j) is wrong by at most 2^-16 + 2^-22 of itself: the variance is cut off after 24 bits, at worst after 23."""
    variance = 1 << bits | below & (1 << bits) - 1
    exponent = norm_exponent(variance)
    scale = norm_scale(variance, exponent)
    square = Fraction(scale * scale * variance, 4 ** (16 + exponent))  # (1 + error)²
    bound = Fraction(1, 1 << 16) + Fraction(1, 1 << 22)
    assert (1 - bound) ** 2 <= square <= (1 + bound) ** 2


# --- whole rows ---


@some
@given(
    rows, int16s, st.integers(-4, 30), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, 1 << 40), st.booleans()
)
def test_a_row_is_rounded_once(x: list[int], gain: int, more: int, bias: int, epsilon: int, centred: bool) -> None:
    """Y lies within half a unit and 2^-16 + 2^-22 of the normalized value of the equation in exact numbers, saturated."""
    total, variance, shift = statistics(x, epsilon, centred)
    gain_shift = more - shift // 2
    if norm_exponent(variance) + gain_shift < 0 and any(len(x) * v - total for v in x):
        return
    for v, y in zip(x, normalized(x, gain, gain_shift, bias, epsilon, centred), strict=True):
        distance = len(x) * v - total
        # |gain · distance| / sqrt(variance) / 2^(gain_shift - 16 + 8), the root to 40 bits
        root = Fraction(isqrt(variance << 80), 1 << 40)
        part = gain * distance / root * Fraction(2) ** (16 - NORM_BIAS_BITS - gain_shift)
        exact = part + Fraction(bias, 1 << NORM_BIAS_BITS)
        slack = Fraction(1, 2) + abs(part) * (Fraction(1, 1 << 16) + Fraction(1, 1 << 21))
        assert max(-32768, min(32767, exact - slack)) <= y <= max(-32768, min(32767, exact + slack))


@some
@given(
    st.integers(-32768, 32767),
    st.integers(1, 300),
    int16s,
    st.integers(-128, 127),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
def test_a_row_without_variance_gives_the_bias(value: int, count: int, gain: int, gain_shift: int, bias: int) -> None:
    """Whatever the gain and the shifts are, with no epsilon; for RMS that is a row of zeros."""
    want = max(-32768, min(32767, (bias + 128) >> 8))
    assert set(normalized([value] * count, gain, gain_shift, bias)) == {want}
    assert set(normalized([0] * count, gain, gain_shift, bias, centred=False)) == {want}


@some
@given(st.lists(st.integers(-9000, 9000), min_size=2, max_size=30), st.integers(-23000, 23000))
def test_layer_normalization_does_not_see_an_offset(x: list[int], offset: int) -> None:
    """To the bit: the statistics are exact."""
    assert normalized([v + offset for v in x], 12345, 10, 99) == normalized(x, 12345, 10, 99)


@some
@given(rows)
def test_rms_of_a_row_and_its_negative_is_the_layer_normalization(x: list[int]) -> None:
    """Such a row has no mean."""
    x = [max(-32767, v) for v in x]
    both = [*x, *(-v for v in x)]
    assert normalized(both, 21000, 10, 5) == normalized(both, 21000, 10, 5, centred=False)


@some
@given(
    int16s,
    st.integers(1, NORM_FEATURES),
    st.integers(0, 30),
    int16s,
    st.integers(-128, 127),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
def test_cutting_the_product_before_the_bias_changes_nothing(
    x: int, count: int, exponent: int, gain: int, gain_shift: int, bias: int
) -> None:
    """One rounding: that of the exact sum of the product and the bias."""
    total, scale = -count * 32768, (1 << 16) - exponent
    by = max(0, exponent + gain_shift)  # no upper end, unlike the function's
    product = (count * x - total) * scale * gain
    once = (product + (bias << by) + (1 << (by + 7))) >> (by + 8)
    got = normalize(x, count, total, scale, exponent, gain, gain_shift, bias)
    assert got == max(-32768, min(32767, once))
