"""tools/profile_run.py: the parts of a run, on a small one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import profile_run
from bench_workloads import Case


def test_a_small_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_run, "CASES", (Case("gru", 16, 3, 4),))
    monkeypatch.setattr(profile_run, "SAMPLE_SECONDS", 0.0)
    output = tmp_path / "profile.md"
    monkeypatch.setattr(sys, "argv", ["profile_run.py", "--output", str(output)])
    profile_run.main()
    assert "| GRU 16, batch 3 |" in output.read_text()
