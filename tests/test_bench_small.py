"""tools/bench_small.py: what an LSTM of 40 units with one input takes on a Cortex-M7."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_small
from bench_devices import exported

import qrnn
from qrnn.devices.measure import measure
from qrnn.devices.toolchain import toolchains


@pytest.mark.parametrize(("scheme", "most"), [("16 bits", 12_000), ("16 bits, hard gates", 9_500)])
def test_a_step_takes_no_more_instructions_than_audio_has_cycles_for(scheme: str, most: int, tmp_path: Path) -> None:
    target = qrnn.load_target("cortex-m7")
    if not any(found.family == "gnu" for found in toolchains(target)):
        pytest.skip("no gcc for cortex-m7")
    model = qrnn.quantize(bench_small.small(), bench_small.signals(16, 1), bench_small.SCHEMES[scheme])
    needs = measure(exported(model, target, tmp_path), target, 1, family="gnu", optimization=bench_small.OPTIMIZATION)
    if needs.problem is not None:
        pytest.skip(needs.problem)
    assert needs.instructions is not None
    assert needs.instructions <= most
    assert bench_small.row(scheme, target.name, needs, -50.0).count("|") == 9
