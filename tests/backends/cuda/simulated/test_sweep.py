"""The part of tools/gpu_check that sweeps over plans, as its dry run does: every plan is compared with the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[4] / "tools"))

from gpu_check import part_sweep, sweep_device
from gpu_check.sweep_jobs import Case, candidates

from qrnn.backends.cuda.costs import costs_of
from qrnn.backends.cuda.device import SIMULATED_DEVICE
from qrnn.backends.cuda.kernel_variants import ProductKind


class Options:
    """As the frame gives them."""

    dry_run = True
    results: dict[str, Any] = {}  # noqa: RUF012

    def left(self) -> float:
        return 1000.0


def test_a_dry_run() -> None:
    written: list[dict[str, Any]] = []
    part_sweep.measure(Options(), lambda result: written.append(dict(result)))
    last = written[-1]
    assert len(written) > part_sweep.DRY_RUNS
    assert [run["exact"] for run in last["runs"]] == [True] * part_sweep.DRY_RUNS
    assert last["failed"] == []
    assert {record["exact"] for record in last["kernels"]} >= {1, part_sweep.DRY_RUNS}
    assert last["evidence"]["device"] == SIMULATED_DEVICE.name
    assert sum(one["runs"] for one in last["left"]) > 0
    text = part_sweep.page(last)
    assert f"{part_sweep.DRY_RUNS} exact, 0 not, 0 failed" in text
    assert "Not run: " in text


def test_wrong_bits_are_found(monkeypatch: Any) -> None:
    """A sequence of a batch that differs in one bit; the product before the steps is not suspected."""
    case = Case("lstm", 8, 3, 1)
    plan = candidates(case, SIMULATED_DEVICE, costs_of((9, 0)))[0]
    runner = sweep_device.DeviceRunner(SIMULATED_DEVICE, True)
    layer, engine = sweep_device.layer_on_device(case.cell, case.hidden, case.operand_bytes)
    assert len(np.unique(layer.y)) > 50, "values that tell one sequence from another"
    right = runner.run(case, plan)
    assert right.exact
    assert plan.kind in right.kinds
    assert ProductKind(1, False, (9, 0)) in right.kinds
    layer.h[2, 0, 7] ^= 1
    try:
        assert not runner.run(case, plan).exact
    finally:
        layer.h[2, 0, 7] ^= 1
    assert engine.on_device.tuning.choose is None, "the layer's own engine is left as it was"


def test_steps_of_timed_runs() -> None:
    for batch, rows in ((1, 256), (32, 4096), (1024, 8192), (100_000, 8192)):
        short, long = sweep_device.timed_steps(batch, rows)
        assert 2 <= short < long <= sweep_device.MOST_STEPS
        assert long == sweep_device.FEWEST_STEPS or 4 * batch * rows * long <= sweep_device.MOST_BYTES
