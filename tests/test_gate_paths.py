"""tools/gate_paths.py: the times of gate functions, on a small cell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import gate_paths


def test_a_small_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_paths, "SAMPLE_SECONDS", 0.0)
    output = tmp_path / "gates.md"
    arguments = [
        "gate_paths.py",
        "--cells",
        "rnn",
        "--gates",
        "step;pwl:8",
        "--hidden",
        "8",
        "--rounds",
        "3",
        "--output",
        str(output),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    gate_paths.main()
    lines = output.read_text(encoding="utf-8").splitlines()
    named = [line.split("|")[2].strip() for line in lines if line.startswith("| rnn |")]
    assert named == ["pwl:8", "pwl:128", "step", "activation step"]


def test_other_results_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is compared with the reference first."""
    x = gate_paths.calibration(8)
    cell, gate = gate_paths.CELLS["rnn"], gate_paths.Gate()
    model, other = gate_paths.quantized(cell, gate, 8, x), gate_paths.quantized(cell, gate_paths.Gate("pwl:8"), 8, x)
    with pytest.raises(SystemExit, match=r"rnn, one sequence: other results than the reference"):
        gate_paths.check("rnn", model, gate_paths.qrnn.Session(other, "cpu", 1), x)
