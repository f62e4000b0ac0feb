"""Histograms and calibrators against NumPy percentiles and a search by brute force."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from qrnn.model.formats import fraction_bits
from qrnn.quantization.calibrate import BINS, PERCENTILE, Histogram
from qrnn.quantization.inputs import (
    PER_FEATURE_HEADROOM,
    USUAL_ROOM,
    WIDE_HEADROOM,
    input_format,
    input_span,
    power_of_two_format,
)
from qrnn.quantization.scheme import InputScheme
from qrnn.quantization.source_values import SourceValues

DISTRIBUTIONS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.uniform(-3, 3, n),
    "heavy": lambda rng, n: rng.standard_t(2, n),
    "outlier": lambda rng, n: np.append(rng.normal(size=n - 1) * 0.01, 50.0),
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-9,
    "huge": lambda rng, n: rng.normal(size=n) * 1e9,
}


def histogram(values: np.ndarray, parts: int = 7) -> Histogram:
    found = Histogram(1)
    for part in np.array_split(values, parts):
        found.add(part.reshape(-1, 1))
    return found


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_value_is_lost(name: str) -> None:
    values = DISTRIBUTIONS[name](np.random.default_rng(0), 20000)
    h = histogram(values)
    assert h.counts.sum() == 20000
    assert h.largest[0] == np.abs(values).max()
    assert (h.least[0], h.greatest[0]) == (values.min(), values.max())
    assert h.top[0] > h.largest[0]
    edges = np.arange(BINS + 1) / BINS * h.top[0]
    want, _ = np.histogram(np.abs(values), edges)
    np.testing.assert_array_equal(h.counts[0], want)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_thresholds(name: str) -> None:
    values = DISTRIBUTIONS[name](np.random.default_rng(1), 50000)
    h = histogram(values)
    magnitude = np.abs(values)
    width = h.top[0] / BINS
    assert h.threshold("minmax", 127)[0] == magnitude.max()
    percentile = np.percentile(magnitude, PERCENTILE)
    above = np.sort(magnitude)[int(np.ceil(50000 * PERCENTILE / 100)) - 1]
    got = h.threshold("percentile", 127)[0]
    assert min(percentile, above) - 1e-12 <= got <= max(percentile, above) + width
    assert np.mean(magnitude <= got) >= PERCENTILE / 100


def mse(values: np.ndarray, clip: float, limit: int) -> float:
    scale = clip / limit
    q = np.clip(np.floor(values / scale + 0.5), -limit, limit)
    return float(np.mean((values - q * scale) ** 2))


@pytest.mark.parametrize("limit", [7, 127])
@pytest.mark.parametrize("name", ["normal", "uniform", "heavy", "outlier"])
def test_mse_clip_is_near_the_best(name: str, limit: int) -> None:
    """Against the true error of 400 clips: the histogram's model of it costs at most a few percent."""
    values = DISTRIBUTIONS[name](np.random.default_rng(2), 40000)
    h = histogram(values)
    got = h.threshold("mse", limit)[0]
    largest = float(np.abs(values).max())
    best = min(mse(values, clip, limit) for clip in np.linspace(largest / 400, largest, 400))
    assert mse(values, float(got), limit) <= 1.1 * best + 1e-30
    assert got <= largest


def test_features_are_apart() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1000, 3)) * np.array([1e-3, 1.0, 1e4])
    values[:, 1] = 0.0
    together = Histogram(3)
    for part in np.array_split(values, 5):
        together.add(part)
    for feature in range(3):
        alone = histogram(values[:, feature], 5)
        for calibrator in ("minmax", "percentile", "mse"):
            assert together.threshold(calibrator, 127)[feature] == alone.threshold(calibrator, 127)[0]
    assert together.threshold("mse", 127)[1] == 0.0


def test_order_does_not_matter() -> None:
    values = np.random.default_rng(4).standard_t(2, 5000)
    up, down = histogram(np.sort(np.abs(values))), histogram(np.sort(np.abs(values))[::-1])
    np.testing.assert_array_equal(up.counts, down.counts)
    assert up.top[0] == down.top[0]


def test_an_empty_histogram_has_no_range() -> None:
    for calibrator in ("minmax", "percentile", "mse"):
        assert Histogram(1).threshold(calibrator, 127)[0] == 0.0


# --- formats --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("headroom", "width"), [(2.0, 16), (4.0, 32)])
def test_fraction_bits(headroom: float, width: int) -> None:
    for largest in [*(2.0**k * m for k in range(-20, 20) for m in (0.75, 1.0, 1.0001, 1.5)), 400.0, 670.0, 2391.0]:
        frac = fraction_bits(largest, 1000, least=-1000, headroom=headroom, width=width)
        assert headroom * largest * 2.0**frac <= 2.0 ** (width - 1)
        assert headroom * largest * 2.0 ** (frac + 1) > 2.0 ** (width - 1)
    assert fraction_bits(0.0, 15) == 15
    assert fraction_bits(1e-9, 15) == 15
    assert fraction_bits(1e9, 15) == 0


@pytest.mark.parametrize("scheme", get_args(InputScheme))
def test_input_formats_reach_the_largest_value(scheme: InputScheme) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2000, 3)) * np.array([0.1, 5.0, 300.0])
    values[:, 0] = 0.0
    span = input_span(SourceValues(values), scheme, "minmax", False, np.ones(3))
    fmt = input_format(span, 3, True, *((16, 8191) if scheme.startswith("16") else (8, 127)))
    assert len(fmt.scale) == (3 if scheme.endswith("per-feature") else 1)
    assert not fmt.has_offset
    largest = list(np.abs(np.floor(values / np.asarray(fmt.scale) + 0.5)).max(axis=0))
    room, least = round(8191 / USUAL_ROOM), round(8191 / WIDE_HEADROOM)
    if scheme == "8":
        assert max(largest) == 127, "the whole range is used and nothing is clipped"
    elif scheme == "8-per-feature":
        narrow = round(127 / PER_FEATURE_HEADROOM)
        assert largest == [0, narrow, 127], "each with headroom up to the tensor's largest value"
    elif scheme == "16":
        assert max(largest) == least, "as much room as the quiet feature allows"
    else:
        assert max(largest) == room
        assert largest == pytest.approx([0, room, room], rel=0.1), (
            "equal columns of weights, for nearly equal distributions"
        )


def test_power_of_two_format() -> None:
    fmt, frac = power_of_two_format(670.0, 4, True)
    assert (frac, fmt.scale, fmt.limit) == (4, (2.0**-4,), 32767)
