"""Means over time that are weighted by a softmax of scores: powers at every fraction, sums, means, and the error of whole sequences."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import exp, floor, log2

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from arithmetic.test_cells import Register
from qrnn.arithmetic.reductions import sum_high, sum_low
from qrnn.arithmetic.running_softmax import (
    LARGEST_PLACE,
    LOG2_E,
    LOWEST_EXPONENT,
    MOST_WEIGHTED,
    PLACE_BITS,
    POWER_BITS,
    WEIGHTED_MAX,
    joined_sum,
    power_exponent,
    power_mantissa,
    power_place,
    score_place,
    weighted_mean,
    weighted_sum,
)
from qrnn.model.power_table import power_table

TABLE: list[int] = power_table().tolist()
SPREAD = 3.9e-6
"""By how much, relative to the power, mantissas differ in their errors: docs/arithmetic.md, section 5."""

int16s = st.integers(-32768, 32767)
fracs = st.integers(0, 15)


def test_every_mantissa() -> None:
    """At all 2^20 fractions a mantissa is near its power, never less than the one before, and 2^23 … 2^24 at the ends."""
    places = np.arange(1 << PLACE_BITS)
    found = power_mantissa(places, power_table().astype(np.int64))  # type: ignore[arg-type]
    assert (found[0], int(found[-1])) == (1 << POWER_BITS, (2 << POWER_BITS) - 11)
    assert (np.diff(found) >= 0).all()
    errors = found / 2.0 ** (POWER_BITS + places / 2.0**PLACE_BITS) - 1.0
    assert errors.max() - errors.min() < SPREAD
    for place in (0, 1, 8191, 8192, (1 << PLACE_BITS) - 1):
        assert power_mantissa(place - (3 << PLACE_BITS), TABLE) == power_mantissa(place, TABLE) == found[place]


def test_every_place() -> None:
    """Every int16 in every format has its logarithm to the base 2 within half a unit and 2^-26 of it, and an exponent above the first one."""
    scores = np.arange(-32768, 32768)
    assert abs(LOG2_E / 2.0**26 - log2(exp(1.0))) < 2.0**-27
    for frac in range(16):
        places = np.array([power_place(int(s), frac) for s in scores[:: 1 if frac in (0, 15) else 97]])
        real = scores[:: 1 if frac in (0, 15) else 97] / 2.0**frac * log2(exp(1.0))
        assert (np.abs(places / 2.0**PLACE_BITS - real) <= 2.0 ** -(PLACE_BITS + 1) + np.abs(real) * 2.0**-26).all()
        assert LOWEST_EXPONENT < power_exponent(int(places[0])) <= power_exponent(int(places[-1])) < -LOWEST_EXPONENT


@given(st.integers(0, 16), st.integers(0, 62), st.data())
def test_scores(bits: int, shift: int, data: st.DataObject) -> None:
    """The place of a sum of 2^bits products is its exact multiple, rounded half up, within the bounds of exponents; 64 bits hold it."""
    most = min((1 << 31) - 1, (1 << 32 - bits) - 1)
    product = data.draw(st.integers(-(1 << 30 + bits), 1 << 30 + bits))
    multiplier = data.draw(st.integers(-most, most))
    want = floor(Fraction(product * multiplier, 1 << shift) + Fraction(1, 2)) if shift else product * multiplier
    found = score_place(product, multiplier, shift)
    assert found == max(-LARGEST_PLACE, min(LARGEST_PLACE, want))
    assert LOWEST_EXPONENT <= power_exponent(found) < -LOWEST_EXPONENT
    assert score_place(Register(product), multiplier, shift) == found


@given(
    st.integers(-WEIGHTED_MAX, WEIGHTED_MAX),
    st.integers(0, 1 << 17),
    st.integers(-(1 << 39), 1 << 39),
    st.integers(0, 1 << 17),
)
@example(WEIGHTED_MAX, 0, 1 << 39, 0)
@example(-WEIGHTED_MAX, 0, -(1 << 39), 0)
@example(WEIGHTED_MAX, 62, 1 << 39, 62)
@example(WEIGHTED_MAX, 63, 0, 0)
@example(-WEIGHTED_MAX, 1, -1, 1)
@example(-1, 1, 1, 1)
def test_a_weighted_sum(total: int, rise: int, term: int, below: int) -> None:
    """Each part is rounded once, half up; nothing leaves 64 bits, and the parts of the result are those of a state.

    A shift of more than 62 counts as 62, by which the largest sum, 2^61, is a half: it rounds to 1.
    """
    assert joined_sum(sum_high(total), sum_low(total)) == total
    own = total, rise, term, below
    found = weighted_sum(*own)
    rise, below = min(rise, 62), min(below, 62)
    want = floor(Fraction(total, 1 << rise) + Fraction(1, 2)) + floor(Fraction(term, 1 << below) + Fraction(1, 2))
    assert found == max(-WEIGHTED_MAX, min(WEIGHTED_MAX, want))
    assert weighted_sum(*map(Register, own)) == found
    assert -(1 << 30) <= sum_high(found) <= 1 << 30
    assert 0 <= sum_low(found) < 1 << 31


def test_no_sum_of_so_many_is_saturated() -> None:
    assert MOST_WEIGHTED << 39 == WEIGHTED_MAX
    assert 2 << POWER_BITS + 15 == 1 << 39


@given(
    st.integers(-WEIGHTED_MAX, WEIGHTED_MAX),
    st.integers(0, WEIGHTED_MAX),
    st.integers(0, 15),
    st.integers(0, 15),
    st.data(),
)
@example(WEIGHTED_MAX, 0, 15, 0, None)
@example(-WEIGHTED_MAX, WEIGHTED_MAX, 0, 15, None)
def test_a_weighted_mean(total: int, weight: int, up: int, down: int, data: st.DataObject | None) -> None:
    """The quotient of two sums that can be those of int16 and their weights is rounded once, to the nearest but where it is near a half."""
    divisor = max(weight, 1 << 38)
    if data is not None and data.draw(st.booleans()):
        total = data.draw(st.integers(-divisor, divisor))
    by = data.draw(st.booleans()) if data is not None else up > 0
    up, down = (up, 0) if by else (0, down)
    own = total, weight, up, down
    found = weighted_mean(*own)
    assert weighted_mean(*map(Register, own)) == found
    assert -32768 <= found <= 32767
    if abs(total) <= divisor:
        exact = max(Fraction(-32768), min(Fraction(32767), Fraction(total << (15 + up), divisor << down)))
        assert abs(found - exact) <= Fraction(1, 2) + Fraction(1 << up, 1 << 14)


def pooled(scores: Sequence[int], values: Sequence[int], in_frac: int) -> list[int]:
    """The running means of one feature by one score, in the format of the values."""
    exponent, weight, total, y = LOWEST_EXPONENT, 0, 0, []
    for score, value in zip(scores, values, strict=True):
        place = power_place(score, in_frac)
        own, mantissa = power_exponent(place), power_mantissa(place, TABLE)
        largest = max(exponent, own)
        rise, below, exponent = largest - exponent, largest - own, largest
        weight = weighted_sum(weight, rise, mantissa << 15, below)
        total = weighted_sum(total, rise, mantissa * value, below)
        y.append(weighted_mean(total, weight, 0, 0))
    return y


steps = st.lists(st.tuples(int16s, int16s), min_size=1, max_size=60)


@given(steps, fracs)
@example([(32767, 32767), (-32768, -32768)], 15)
@example([(k * 700 - 32768, 32767 if k % 2 else -32768) for k in range(60)], 7)
@example([(32767 - k * 700, 32767 if k % 2 else -32768) for k in range(60)], 7)
@example([(-32768, -32768)] * 9, 0)
def test_the_error_of_a_sequence(drawn: list[tuple[int, int]], in_frac: int) -> None:
    """After each step the mean is that of the exact weights, but for one rounding, the spread of weights and the roundings of sums."""
    scores, values = [s for s, _ in drawn], [v for _, v in drawn]
    found = pooled(scores, values, in_frac)
    for t in range(len(drawn)):
        top = max(scores[: t + 1])
        weights = [exp((s - top) / 2.0**in_frac) for s in scores[: t + 1]]
        seen = values[: t + 1]
        exact = sum(w * v for w, v in zip(weights, seen, strict=True)) / sum(weights)
        width = max(seen) - min(seen)
        bound = 0.5 + width * (SPREAD + 8e-7) / 4 + (t + 3) / (1 << POWER_BITS) + 2.0**-13
        assert abs(found[t] - exact) <= bound
        assert min(seen) <= found[t] <= max(seen)


@given(st.lists(int16s, min_size=1, max_size=40), int16s, fracs)
def test_equal_values_are_their_mean(scores: list[int], value: int, in_frac: int) -> None:
    assert pooled(scores, [value] * len(scores), in_frac) == [value] * len(scores)


@given(st.lists(int16s, min_size=1, max_size=40), int16s)
def test_equal_scores_give_the_mean(values: list[int], score: int) -> None:
    """Rounded half up, but for the bits that the division leaves out."""
    found = pooled([score] * len(values), values, 11)[-1]
    exact = Fraction(sum(values), len(values))
    assert abs(found - exact) <= Fraction(1, 2) + Fraction(1, 1 << 13)
