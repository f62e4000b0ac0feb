"""Measures against their formulas, and sums against NumPy on whole arrays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from qrnn.accuracy.metrics import sqnr_db, wilson_interval
from qrnn.accuracy.probe import ErrorSum


def test_sqnr() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])) == pytest.approx(20.0)  # 25 over 0.25
    assert sqnr_db(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(-3.0102999566)
    assert sqnr_db(np.array([1.0]), np.array([1.0])) == math.inf
    assert sqnr_db(np.zeros(3), np.zeros(3)) == math.inf
    assert math.isnan(sqnr_db(np.zeros(3), np.ones(3)))
    rng = np.random.default_rng(0)
    want, got = rng.normal(size=(2, 50, 7))
    assert sqnr_db(want, got) == pytest.approx(10 * np.log10(np.mean(want**2) / np.mean((want - got) ** 2)))
    assert sqnr_db(want, want + 1e-3 * want) == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # SciPy: scipy.stats.binomtest(k, n).proportion_ci(method='wilson')
        (8, 10, 0.4901625, 0.9433178),
        (294, 300, 0.9570604, 0.9908024),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 2, 0.0945312, 0.9054688),
    ],
)
def test_wilson_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=2e-6)


def test_wilson_solves_its_equation() -> None:
    """The bounds p are where |p̂ - p| = z·sqrt(p(1-p)/n)."""
    z = 1.959964
    for successes, trials in ((3, 17), (50, 100), (9815, 10000)):
        for p in wilson_interval(successes, trials, z):
            assert abs(successes / trials - p) == pytest.approx(z * math.sqrt(p * (1 - p) / trials), rel=1e-9)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_error_sum_against_whole_arrays() -> None:
    """Pieces of different lengths with masks give what NumPy gives on all real steps at once."""
    rng = np.random.default_rng(0)
    steps, features = 9, 4
    total = ErrorSum(steps)
    wants, gots, by_step = [], [], [[] for _ in range(steps)]
    for _ in range(5):
        size, longest = int(rng.integers(1, 6)), int(rng.integers(1, steps + 1))
        lengths = rng.integers(1, longest + 1, size)
        want, got = rng.normal(size=(2, size, longest, features))
        mask = np.arange(longest) < lengths[:, None]
        want[~mask], got[~mask] = 1e9, -1e9  # padding must not count
        total.add(want, got, mask)
        wants.append(want[mask])
        gots.append(got[mask])
        for t in range(longest):
            by_step[t].append((want - got)[:, t][mask[:, t]])
    want, got = np.concatenate(wants), np.concatenate(gots)
    error = want - got
    assert total.count == error.size
    assert total.sqnr_db == pytest.approx(sqnr_db(want, got), rel=1e-12)
    assert total.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert total.largest == np.abs(error).max()
    expected = [np.concatenate(e).ravel() if e else np.zeros(0) for e in by_step]
    np.testing.assert_array_equal(total.count_at, [e.size for e in expected])
    np.testing.assert_allclose(
        total.rmse_at(), [np.sqrt(np.mean(e**2)) if e.size else 0.0 for e in expected], rtol=1e-12
    )


def test_error_sum_without_time() -> None:
    rng = np.random.default_rng(1)
    want, got = rng.normal(size=(2, 8, 3))
    total = ErrorSum()
    total.add(want[:5], got[:5], None)
    total.add(want[5:], got[5:], None)
    assert total.sqnr_db == pytest.approx(sqnr_db(want, got), rel=1e-12)
    assert total.rmse == pytest.approx(np.sqrt(np.mean((want - got) ** 2)), rel=1e-12)
    assert total.rmse_at().shape == (0,)
    assert "rmse_by_step" not in total.to_dict()


@pytest.mark.parametrize(
    ("want", "got", "sqnr"),
    [(1.0, 1.0, None), (0.0, 1.0, None), (0.0, 0.0, None), (1e300, -1e300, None), (2.0, 1.0, 6.0206)],
)
def test_error_sum_is_strict_json(want: float, got: float, sqnr: float | None) -> None:
    """The JSON has no infinity and no nan, whatever the figures."""
    total = ErrorSum(2)
    with np.errstate(over="ignore", invalid="ignore"):
        total.add(np.full((1, 2, 1), want), np.full((1, 2, 1), got), np.array([[True, True]]))
    figures = json.loads(json.dumps(total.to_dict(), allow_nan=False))
    assert figures["sqnr_db"] == (None if sqnr is None else pytest.approx(sqnr, abs=1e-4))
    assert set(figures) == {"sqnr_db", "sqnr_about_mean_db", "rmse", "max_error", "rmse_by_step"}


def test_nothing_measured() -> None:
    assert (ErrorSum().rmse, ErrorSum().largest, ErrorSum().sqnr_db) == (0.0, 0.0, math.inf)
