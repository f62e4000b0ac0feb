"""Choices of tokens: distances, weights, products of 32 bits, shares, and fed values, at the ends of their ranges."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import exp, floor, log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arithmetic.test_cells import Register
from qrnn.arithmetic.choices import (
    LARGEST_DISTANCE,
    choice_distance,
    choice_weight,
    fed_value,
    product_high,
    product_low,
    weight_share,
)
from qrnn.model.log_table import log_table
from qrnn.model.power_table import power_table

LOGS, POWERS = log_table().tolist(), power_table().tolist()

words = st.integers(0, (1 << 32) - 1)


@given(words, words)
def test_products(a: int, b: int) -> None:
    assert product_high(a, b) == a * b >> 32
    assert product_low(a, b) == a * b & 0xFFFFFFFF
    assert product_high(Register(a), Register(b)) == a * b >> 32
    assert product_low(Register(a), Register(b)) == a * b & 0xFFFFFFFF


@given(st.integers(0, (1 << 40) - 1), words)
def test_shares(total: int, word: int) -> None:
    assert weight_share(Register(total), Register(word)) == total * word >> 32
    assert weight_share(total, word) < max(total, 1)


@given(st.integers(-(1 << 32), 1 << 32), st.integers(0, 1 << 33))
def test_distances_of_scores(score: int, below: int) -> None:
    assert choice_distance(Register(score + below), Register(score), 0, LOGS) == min(below, LARGEST_DISTANCE)


@given(st.integers(1, 32767), st.integers(0, 32767))
def test_distances_of_probabilities(top: int, score: int) -> None:
    """They are within 2^-15 of the logarithm of the ratio: two logarithms of the contract."""
    score = min(top, score)
    found = choice_distance(top, score, 1, LOGS)
    if score == 0:
        assert found == -1
    else:
        assert abs(found / 2.0**24 - log(top / score)) < 2.0**-14
        assert found >= 0


def test_every_probability_is_no_nearer_than_a_larger_one() -> None:
    found = [choice_distance(16384, p, 1, LOGS) for p in range(1, 16385)]
    assert all(a >= b for a, b in pairwise(found))
    assert found[-1] == 0


@given(st.integers(0, LARGEST_DISTANCE), st.integers(1, (1 << 31) - 1), st.integers(0, 62))
def test_weights(distance: int, multiplier: int, shift: int) -> None:
    """A weight is the power of 2 within 2^-17 of itself and one unit; those further away are no heavier."""
    found = choice_weight(distance, multiplier, shift, POWERS)
    assert choice_weight(Register(distance), multiplier, shift, POWERS) == found
    real = 2.0**23 * 2.0 ** -float(Fraction(distance * multiplier, 1 << shift + 20))
    assert abs(found - real) <= real * 2.0**-17 + 1.0
    assert 0 <= found <= 1 << 23
    if distance < LARGEST_DISTANCE:
        assert choice_weight(distance + 1, multiplier, shift, POWERS) <= found


def test_the_ends_of_weights() -> None:
    assert choice_weight(0, 1, 0, POWERS) == 1 << 23
    assert choice_weight(-1, 1, 62, POWERS) == 0
    assert choice_weight(LARGEST_DISTANCE, (1 << 31) - 1, 0, POWERS) == 0
    one = floor(1.4426950408889634 * 2**20 + 0.5)
    assert abs(choice_weight(1, one, 0, POWERS) / 2.0**23 - exp(-1.0)) < 2.0**-17


@given(
    st.integers(-32768, 32767),
    st.integers(0, (1 << 46) - 1),
    st.integers(1 - (1 << 61), (1 << 61) - 1),
    st.integers(0, 62),
    st.integers(1, 32767),
)
def test_fed_values(q: int, multiplier: int, bias: int, shift: int, limit: int) -> None:
    want = int(np.clip(floor(Fraction(q * multiplier + bias, 1 << shift)), -limit, limit))
    assert fed_value(Register(q), multiplier, bias, shift, limit) == want
