"""Calibration data that cannot tell a range: rare outliers, constant features, and data that are all zero."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.conversion import quantize
from qrnn.model.batch import make_batch
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.float_model import FloatModel
from qrnn.quantization.outliers import find_gaps
from qrnn.quantization.scheme import Scheme
from qrnn.quantization.source_checks import CalibrationWarning, checked_calibration
from qrnn.running.input_ranges import inputs_beyond

RNG = np.random.default_rng


def gru(inputs: int = 3) -> FloatModel:
    return make_model(Shape("gru", input_size=inputs, hidden_size=6, weight=0.3, head=2), RNG(0))


def said(model: FloatModel, x: Any, calibrator: str = "robust") -> list[str]:
    return list(checked_calibration(model, make_batch(model.inputs, {"x": x}), calibrator).warnings)


# --- outliers ------------------------------------------------------------------------------------------------------------------


def test_a_rare_outlier_is_left_out_and_named() -> None:
    model, x = gru(), RNG(1).normal(size=(50, 40, 3))
    x[17, 13, 1] = 5000.0
    with pytest.warns(
        CalibrationWarning, match=r"^input 'x': feature 1: 1 value of 2000 \(5000\), .* left out"
    ) as seen:
        found = quantize(model, {"x": x}, Scheme(input="16-per-feature"))
    assert len(seen) == 1
    ends = found.tensors["x"].limit * found.tensors["x"].scales
    assert (ends < 20).all(), "the range is that of the others"
    assert any(d.startswith("calibration: input 'x': feature 1: 1 value") for d in found.provenance.decisions)
    with pytest.warns(CalibrationWarning, match="kept by --calibrator minmax"):
        kept = quantize(model, {"x": x}, Scheme(input="16-per-feature", calibrator="minmax"))
    assert (kept.tensors["x"].limit * kept.tensors["x"].scales)[1] >= 5000.0


def test_several_rare_outliers_of_both_signs() -> None:
    x = RNG(2).normal(size=(100_000, 1)) + 40.0
    x[[5, 700, 90_000], 0] = 9000.0, -8000.0, 7000.0
    (gap,) = find_gaps(x)
    assert gap.rare
    assert sorted(gap.far) == [-8000.0, 7000.0, 9000.0]
    assert 34 < gap.low < gap.high < 46


def test_too_many_or_too_few_values_are_kept_with_a_warning() -> None:
    model = gru()
    x = RNG(3).normal(size=(20, 25, 3))
    x[3, 3, 0] = 1e5
    (line,) = said(model, x)
    assert "feature 0: 1 value of 500 (100000)" in line
    assert "kept, since the data cannot tell" in line
    x = RNG(3).normal(size=(40, 50, 3))
    x[:5, 7, 2] = 1e5
    (line,) = said(model, x)
    assert "feature 2: 5 values of 2000" in line
    assert "cannot tell" in line


@pytest.mark.parametrize("seed", range(4))
def test_tails_without_a_gap_and_sparse_features_are_no_outliers(seed: int) -> None:
    rng, n = RNG(seed), 20_000
    x = np.stack(
        [
            rng.standard_t(3, n),
            np.exp(rng.normal(size=n)),
            np.maximum(rng.normal(size=n), 0.0),
            rng.laplace(size=n),
            (rng.random(n) < 2e-3) * rng.normal(size=n),
            rng.normal(size=n) * np.repeat(10.0 ** -np.arange(4), n // 4),
        ],
        axis=1,
    )
    assert not [gap for gap in find_gaps(x) if gap.rare]


def test_values_beyond_a_range_about_a_far_middle_are_counted() -> None:
    """A pressure of 101325 ± 250 Pa: 0 and 120000 Pa are as far out of its range as they are of the sensor's."""
    model, rng = gru(), RNG(8)
    pressure = 101325 + 250 * rng.normal(size=(20, 30, 3))
    quantized = quantize(model, {"x": pressure}, Scheme(input="16-per-feature"))
    x = pressure[:2].copy()
    x[0, 3], x[1, 4, 0] = 0.0, 120_000.0
    x[1, 20:] = 0.0  # beyond its length
    batch = make_batch(model.inputs, {"x": x, "lengths": [30, 20]})
    (found,) = inputs_beyond(quantized, batch)
    assert (found.clipped, found.total) == (4, 150)
    assert str(found) == "4 of the 150 values of input 'x'"
    assert inputs_beyond(quantized, make_batch(model.inputs, {"x": pressure}))[0].clipped == 0


# --- constant features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["8", "8-per-feature", "16", "16-per-feature"])
def test_a_constant_feature_is_named_once_and_keeps_its_value(scheme: str) -> None:
    model, x = gru(4), RNG(4).normal(size=(20, 30, 4))
    x[..., 1], x[..., 3] = 0.0, 7.25
    with pytest.warns(CalibrationWarning) as seen:
        found = quantize(model, {"x": x}, Scheme(input=scheme))
    (line,) = [str(w.message) for w in seen]
    assert line.startswith("input 'x': features 1 (0), 3 (7.25) always had one value in calibration")
    fmt = found.tensors["x"]
    read = dequantize_array(quantize_array(x, fmt), fmt)
    steps = np.broadcast_to(fmt.scales, 4)
    np.testing.assert_allclose(read[0, 0, [1, 3]], [0.0, 7.25], atol=steps.max() * 0.51)
    ends = steps * fmt.limit
    assert (ends > 0.3).all(), "a dead feature has room to live"
    assert (ends < 100).all(), "its column leaves the others' weights their steps"


def test_many_constant_features_are_one_line() -> None:
    model, x = gru(30), RNG(5).normal(size=(4, 9, 30))
    x[..., 4:24] = 1.0
    (line,) = said(model, x)
    assert "features 4 (1), 5 (1)" in line
    assert "11 (1) and 12 more always" in line


@pytest.mark.parametrize("scheme", ["auto", "8", "16-per-feature"])
def test_data_that_are_all_zero_warn_and_give_a_model(scheme: str) -> None:
    model = gru()
    with pytest.warns(CalibrationWarning, match=r"^input 'x': every calibration value is 0") as seen:
        found = quantize(model, {"x": np.zeros((3, 4, 3))}, Scheme(input=scheme))
    assert len(seen) == 1
    fmt = found.tensors["x"]
    assert (fmt.scales * fmt.limit >= 0.1).all()
    assert (fmt.scales * fmt.limit <= 100).all()


def test_good_data_are_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert said(gru(), RNG(6).normal(size=(30, 40, 3))) == []
        quantize(gru(), {"x": RNG(6).normal(size=(30, 40, 3))}, Scheme(input="8"))
