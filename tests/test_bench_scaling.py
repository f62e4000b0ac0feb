"""tools/bench_scaling.py with a tiny network: its page and its figures. Times are not tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import bench_scaling
from bench_scaling import Samples


def test_disturbed_rounds_do_not_count() -> None:
    samples = Samples([4.0, 4.0, 9.0, 90.0, 8.0], [2.0, 80.0, 2.0, 9.0, 9.0])
    assert samples.quartiles == (4.0, 2.0)
    assert samples.times == 2.0


def test_a_page_has_a_table_of_layers_by_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scaling, "core_count", lambda: 2)
    monkeypatch.setattr(bench_scaling, "FOOTPRINTS", {"reading 4 KiB a core": 1 << 12})
    for name in ("WARM_SECONDS", "SAMPLE_SECONDS", "LOOP_SECONDS"):
        monkeypatch.setattr(bench_scaling, name, 1e-5)
    out = tmp_path / "page.md"
    bench_scaling.main(["--cells", "gru", "--sizes", "8", "--batches", "1", "3", "--rounds", "2", "--output", str(out)])
    page = out.read_text(encoding="utf-8")
    assert page.count("| | batch 1 | batch 3 |\n|---|---|---|\n| GRU 8 | ") == 2
    assert page.count("reading 4 KiB a core") == 1
    assert "--sizes 8" in page


@pytest.mark.parametrize("threads", ["1", "3"])
def test_more_threads_than_cores_are_refused(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scaling, "core_count", lambda: 2)
    with pytest.raises(SystemExit):
        bench_scaling.parse(["--threads", threads])
