"""tools/bench_streams.py: its search and its page, on a small load."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_streams


def test_the_search_finds_the_edge() -> None:
    assert 980 <= bench_streams._largest(lambda streams: streams <= 1000, 64) <= 1000
    assert 9 <= bench_streams._largest(lambda streams: streams <= 10, 64) <= 10


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_streams, "_largest", lambda holds, start: 40)
    output = tmp_path / "streams.md"
    arguments = ["--cells", "gru", "--hidden", "16", "--ticks", "20", "--tick-ms", "50", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["bench_streams.py", *arguments])
    bench_streams.main()
    whole, half = json.loads(output.with_suffix(".json").read_text())
    assert whole["cell"] == "gru"
    assert half["ready"] == half["streams"] // 2
    assert "| GRU 16 |" in output.read_text()
