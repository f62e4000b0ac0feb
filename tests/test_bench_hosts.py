"""tools/bench_hosts.py: what it compares before it times, and its page, on a small layer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_hosts
from export.hosts import host_target

from qrnn.devices.hosts import host_of, runs_here


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not runs_here(host_of(host_target("x86-64"))):
        pytest.skip("this machine is no x86-64")
    output = tmp_path / "hosts.md"
    monkeypatch.setattr(
        sys, "argv", ["bench_hosts.py", "--cells", "gru", "--hidden", "16", "--rounds", "1", "--output", str(output)]
    )
    bench_hosts.main()
    assert "| GRU 16 |" in output.read_text()


def test_ratios_are_of_what_is_here() -> None:
    row = bench_hosts.Row("gru", 16, {"C avx2": 150.0, "engine avx2": 100.0})
    assert row.ratio("C avx2", "engine avx2") == 1.5
    assert row.ratio("C vnni", "engine avx512vnni") is None
    assert "| GRU 16 | – | – | – | 100 | 150 | 1.50 | – | – | – |" in bench_hosts.table([row])


def test_other_outputs_are_not_timed() -> None:
    with pytest.raises(SystemExit, match="vnni: its outputs differ from the reference"):
        bench_hosts.agree("vnni", np.zeros(3), np.ones(3))
