"""tools/bench_devices.py: its page, from one small layer and one run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_devices

import qrnn
from qrnn.devices.toolchain import toolchains


@pytest.fixture
def needs() -> bench_devices.Needs:
    target = qrnn.load_target("cortex-m4")
    if not toolchains(target):
        pytest.skip("no compiler for cortex-m4")
    found = bench_devices.run_layer("gru", 8, target)
    if found.problem is not None:
        pytest.skip(found.problem)
    return found


def test_the_page(needs: bench_devices.Needs) -> None:
    single = {("lstm", 8, "cortex-m4"): needs, ("gru", 8, "cortex-m4"): needs}
    run = bench_devices.Ran("net", "cortex-m4", 3, 20, needs=needs)
    other = bench_devices.Ran("net", "cortex-m3", refused="no compiler")
    wrong = bench_devices.Ran("net", "cortex-m7", 3, 20, "sequence 0, output y[0, 1]: 5, expected 4", needs=needs)
    text = bench_devices.page([run, other, wrong], single, [("qrnn_rows", 100)])
    assert "| net | cortex-m4 | 3, 20 | all equal |" in text
    assert "| net | cortex-m3 | – | no compiler |" in text
    assert "expected 4" in text
    assert "1.000 of the LSTM" in text
    assert "100 bytes of functions" in text


def test_a_model_is_run_and_compared(needs: bench_devices.Needs) -> None:
    model = bench_devices.layer("lstm", 5)
    data = {"x": np.random.default_rng(0).normal(size=(3, 4, 5))}
    ran = bench_devices.run_model("net", model, data, needs.target)
    assert (ran.difference, ran.refused, ran.sequences, ran.steps) == (None, None, 3, 12)


def test_bounds_are_below_what_is_counted(needs: bench_devices.Needs) -> None:
    assert needs.instructions is not None
    macs, _ = bench_devices.work(bench_devices.layer("gru", 8))
    assert bench_devices.bound("dsp", "cortex-m4", macs) < needs.instructions
