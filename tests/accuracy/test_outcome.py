"""Points lost and their interval, as tools/measure_accuracy.py prints them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from accuracy_outcome import Outcome


def test_points_and_interval() -> None:
    """Against the formula of Agresti and Min by hand; symmetric, and never a point for few that agree."""
    one = Outcome(30.0, 290, 287, 5, 2, 300)
    assert one.points == pytest.approx(1.0)
    low, high = one.interval
    centre, spread = 3 / 302, 1.959964 * ((8 - 9 / 302) ** 0.5) / 302
    assert (low, high) == pytest.approx((100 * (centre - spread), 100 * (centre + spread)))
    low, high = Outcome(30.0, 290, 290, 0, 0, 300).interval
    assert low == pytest.approx(-high)
    assert 0.5 < high < 1.0
    assert Outcome(30.04, 0, 0, 0, 0, 0).cell() == "30.0"
    assert one.cell() == "30.0; +1.00 (-0.8 … +2.8)"
