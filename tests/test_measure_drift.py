"""tools/measure_drift.py: windows of outputs with other steps, rounded weights, and figures that are kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import measure_drift
from measure_drift import STACKS, Measured, kept_measure, measure, rounded, rounded_taps, share, stack, with_weights

from qrnn.equations.oracle import run_oracle


def test_windows_of_an_output_with_fewer_steps() -> None:
    assert share(1000, 1000) == [slice(0, 1), slice(1, 10), slice(10, 100), slice(100, 1000)]
    assert share(1000, 500) == [slice(0, 1), slice(1, 5), slice(5, 50), slice(50, 500)]


def test_taps_of_an_output_have_one_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 5))
    got = rounded_taps(weight, 8)
    assert np.array_equal(got.reshape(4, 15), rounded(weight.reshape(4, 15), 8))
    assert 0 < np.abs(got - weight).max() <= np.abs(weight).max() / 254


@pytest.mark.parametrize("name", STACKS)
def test_stacks_round_the_weights_of_every_matrix(name: str) -> None:
    """Weights of 2 bits change the output much, weights of 24 bits next to nothing; the layer itself is in the model."""
    model = stack(name, 8, 4)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert len(set(kinds)) == 2
    x = {"x": np.random.default_rng(0).normal(size=(2, 20, 4))}
    want, coarse, fine = (
        run_oracle(m, x).outputs["y"] for m in (model, with_weights(model, 2), with_weights(model, 24))
    )
    assert np.abs(coarse - want).max() > 0.01
    assert 0 < np.abs(fine - want).max() < 1e-5
    if name.startswith("strided"):
        assert want.shape[1] == 10


def test_figures_are_kept_by_revision_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: object) -> Measured:
        calls.append(arguments)
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measure_drift, "measure", counted)
    monkeypatch.setattr(measure_drift, "revision", lambda: "one")
    model = stack("strided_conv_before_gru", 8, 4)
    first = kept_measure("conv", model, 20, tmp_path)
    assert kept_measure("conv", model, 20, tmp_path) == first
    assert len(first.default) == len(measure_drift.windows(20))
    assert len(calls) == 1
    kept_measure("conv", model, 10, tmp_path)
    monkeypatch.setattr(measure_drift, "revision", lambda: "two")
    kept_measure("conv", model, 10, tmp_path)
    assert len(calls) == 3
