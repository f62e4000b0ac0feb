"""Gain, bias and epsilon of a normalization as integers: how they are chosen, what is refused, and that rows are what float64 says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic.norms import NORM_BIAS_BITS, NORM_FEATURES, norm_exponent, norm_variance
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.model.norm_parameters import NormParameters, least_exponent, norm_parameters

some = settings(max_examples=200, deadline=None)


@some
@given(
    st.lists(st.floats(-300.0, 300.0), min_size=1, max_size=20),
    st.floats(0.0, 0.5),
    st.integers(0, 15),
    st.integers(0, 12),
)
def test_they_are_worth_what_they_were_made_from(
    gain: list[float], epsilon: float, in_frac: int, out_frac: int
) -> None:
    """Gains to 2^-15 of themselves, biases to a half of a unit with 8 more bits, epsilon to a half of its unit."""
    g = np.array(gain)
    p = norm_parameters("layer", g, g / 7, epsilon, in_frac, out_frac)
    frac = p.gain_shift.astype(int) - 16 + p.variance_shift // 2 + out_frac + NORM_BIAS_BITS
    assert np.all(np.abs(p.gain / 2.0**frac - g) <= np.maximum(np.abs(g) * 2.0**-15, 2.0**-62))
    assert np.all(
        np.abs(p.bias / 2.0 ** (out_frac + NORM_BIAS_BITS) - g / 7) <= 2.0 ** -(out_frac + NORM_BIAS_BITS + 1)
    )
    unit = 2.0 ** -(p.variance_shift + 2 * in_frac) / len(g) ** 2
    assert abs(p.epsilon * unit - epsilon) <= unit / 2 + epsilon * 2.0**-50


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 1024, 4096, 32767])
def test_the_shift_of_a_product_is_nowhere_negative(count: int) -> None:
    """The least variance of a row that has one: all features equal but one, which differs by 1; for RMS all 0 but one."""
    p = norm_parameters("layer", np.ones(count), np.zeros(count), 0.0, 0, 12)
    least = p.variance_shift // 2 + least_exponent(count)
    if count > 1:
        assert norm_exponent(norm_variance(count, 1, 1, p.variance_shift, 0)) >= least
    assert norm_exponent(norm_variance(count, 0, 1, p.variance_shift, 0)) >= least
    assert int(p.gain_shift.min()) + least >= 0
    assert count * count << p.variance_shift <= 1 << 31
    assert count * count << (p.variance_shift + 2) > 1 << 31 or p.variance_shift == 30


def test_a_large_epsilon_takes_bits_from_the_variance() -> None:
    small = norm_parameters("layer", np.ones(4), np.zeros(4), 1e-5, 0, 12)
    large = norm_parameters("layer", np.ones(4), np.zeros(4), 1e5, 8, 12)
    assert large.variance_shift < small.variance_shift


@pytest.mark.parametrize(
    ("gain", "bias", "epsilon", "in_frac", "out_frac", "message"),
    [
        (1.0, 0.0, 1e9, 15, 12, r"layer 'n': epsilon 1e\+09 is too large for 2 features with 15 fraction bits, expected below 5\.37e\+08"),
        (1.0, 0.0, 1e308, 15, 12, r"layer 'n': epsilon 1e\+308 is too large for 2 features"),
        (1e308, 0.0, 0.0, 0, 15, r"layer 'n': gain 1e\+308 of feature 1 is too large"),
        (1.0, -1e308, 0.0, 0, 15, r"layer 'n': bias -1e\+308 of feature 1 is too large"),
        (20000.0, 0.0, 0.0, 0, 15, "layer 'n': gain 20000 of feature 1 is too large for an output with 15 fraction bits"),
        (1.0, 3e5, 0.0, 0, 15, "layer 'n': bias 300000 of feature 1 is too large for an output with 15 fraction bits"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    gain: float, bias: float, epsilon: float, in_frac: int, out_frac: int, message: str
) -> None:
    with pytest.raises(QuantizationError, match=message):
        norm_parameters("layer 'n'", np.array([1.0, gain]), np.array([0.0, bias]), epsilon, in_frac, out_frac)


def test_too_many_features_are_refused() -> None:
    ones = np.ones(NORM_FEATURES + 1)
    with pytest.raises(QuantizationError, match=r"normalizes over 32768 features, expected 1…32767"):
        norm_parameters("layer 'n'", ones, ones, 0.0, 0, 0)


def test_parameters_of_a_file_are_checked() -> None:
    p = norm_parameters("layer", np.ones(6), np.zeros(6), 1e-5, 10, 12)
    wrong: list[tuple[dict[str, object], str]] = [
        ({"gain": p.gain.astype(np.int32)}, "gain is int32"),
        ({"bias": p.bias[:5]}, "bias is int32"),
        ({"gain": p.gain[:0]}, "over 0 features"),
        ({"gain": p.gain[0].reshape(())}, r"gain is int16\[\], expected int16\[1\]"),
        ({"gain": p.gain.reshape(2, 3)}, r"gain is int16\[2, 3\], expected int16\[6\]"),
        ({"variance_shift": 28}, r"variance_shift 28, expected an even one"),
        ({"variance_shift": 25}, r"variance_shift 25, expected an even one"),
        ({"variance_shift": -2}, r"variance_shift -2, expected an even one"),
        ({"epsilon": -1}, "epsilon -1"),
        ({"epsilon": 1 << 61}, "epsilon 2305843009213693952"),
        ({"gain_shift": np.full(6, -14, np.int8)}, "gain_shift of -14, expected at least -13"),
    ]
    for change, message in wrong:
        with pytest.raises(ModelFileError, match=message):
            replace(p, **change)  # type: ignore[arg-type]
    assert isinstance(replace(p, gain_shift=np.full(6, -13, np.int8)), NormParameters)
