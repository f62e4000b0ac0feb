"""Sums and means in integers: parts of a sum, one rounded division, at the ends of every range."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from hypothesis import example, given
from hypothesis import strategies as st

from qrnn.arithmetic.reductions import MOST_SUMMED, SUM_MAX, add_to_sum, divide_sum, sum_high, sum_low

int16s = st.integers(-32768, 32767)


@given(st.integers(-SUM_MAX, SUM_MAX), int16s)
@example(SUM_MAX, 0)
@example(-SUM_MAX, 0)
@example(-1, 0)
@example(-SUM_MAX, 32767)
def test_a_sum_is_its_parts(total: int, x: int) -> None:
    high, low = sum_high(total), sum_low(total)
    assert -32768 <= high <= 32767
    assert 0 <= low < 1 << 31
    assert (high << 31) + low == total
    assert add_to_sum(high, low, x) == max(-SUM_MAX, min(SUM_MAX, total + x))


def test_no_sum_of_so_many_is_saturated() -> None:
    assert MOST_SUMMED * 32768 == SUM_MAX < 1 << 46
    assert add_to_sum(sum_high(-SUM_MAX + 32768), sum_low(-SUM_MAX + 32768), -32768) == -SUM_MAX
    assert add_to_sum(-32768, 0, 0) == -SUM_MAX  # no sum has these parts


@given(st.integers(-SUM_MAX, SUM_MAX), st.integers(1, 1 << 46), st.integers(0, 15))
@example(SUM_MAX, 1, 15)
@example(-SUM_MAX, 1 << 46, 15)
@example(-3, 2, 0)
@example(3, 2, 0)
@example(-SUM_MAX, MOST_SUMMED, 0)
def test_a_mean_is_rounded_once_half_up(total: int, divisor: int, shift: int) -> None:
    exact = Fraction(total << shift, divisor)
    assert divide_sum(total, divisor, shift) == max(-32768, min(32767, floor(exact + Fraction(1, 2))))
    assert abs(total) << (shift + 1) < (1 << 63) - divisor
    assert 2 * divisor < 1 << 63


@given(st.lists(int16s, min_size=1, max_size=30))
def test_a_mean_lies_among_its_values(values: list[int]) -> None:
    assert min(values) <= divide_sum(sum(values), len(values), 0) <= max(values)
