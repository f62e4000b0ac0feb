"""tools/bench_gpu.py without a GPU: rows, floors, pages from made-up measurements, and its one line. Nothing is timed."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import bench_gpu
import bench_gpu_report
from bench_gpu_rows import BATCHES, OURS, SIZES, Facts, Floor, Row, cases, choice_of, floor_of, slope_us, summary
from bench_workloads import Case

from qrnn.backends import available_backends
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.tuning import Tuning

H100 = Device("Made-up H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)
FACTS = Facts(H100, 1000.0, 0.02, 1.5)


def test_rows_are_those_asked_for() -> None:
    every = cases(("lstm", "gru"), SIZES, BATCHES)
    assert len(every) == len(set(every)) == 2 * len(SIZES) * len(BATCHES)
    assert {case.steps for case in every} == {100}
    assert [case.name for case in cases(("gru",), (8, 16), (1, 2), 5)] == [
        "GRU 8, batch 1", "GRU 16, batch 1", "GRU 8, batch 2", "GRU 16, batch 2"
    ]  # fmt: skip


def test_the_floor_of_a_layer_in_one_block() -> None:
    """R of LSTM 128 is 64 KiB: 512 cycles at 128 bytes each, 0.512 µs at 1 GHz; its 131072 multiply-adds take far less."""
    case = Case("lstm", 128, 1)
    plan = choice_of(case, H100, Tuning(unproved=True)).plan
    assert plan is not None
    assert plan.unit_blocks == 1
    floor = floor_of(case, FACTS)
    assert floor.barrier == 0.02
    assert floor.reading == pytest.approx(0.512)
    assert floor.arithmetic == pytest.approx(2 * 4 * 128 * 128 / (132 * 4096 * 1000))
    assert floor.us == pytest.approx(0.532)


def test_the_floor_of_a_layer_over_blocks() -> None:
    case = Case("gru", 1024, 1024)
    plan = choice_of(case, H100, Tuning(unproved=True)).plan
    assert plan is not None
    assert plan.unit_blocks > 1
    floor = floor_of(case, FACTS)
    assert floor.barrier == 1.5
    assert floor.arithmetic == pytest.approx(2 * 3 * 1024**3 / (132 * 4096 * 1000))
    assert floor.us == pytest.approx(1.5 + max(floor.reading, floor.arithmetic))


def test_the_floor_without_a_plan() -> None:
    tiny = replace(FACTS, device=replace(H100, shared_per_block=64))
    assert floor_of(Case("lstm", 128, 1), tiny).barrier == 0.02


def test_a_barrier_is_a_slope() -> None:
    assert slope_us(0.5 + 0.002, 0.5 + 0.012, 2, 12) == pytest.approx(1.0)


def row_of(case: Case, ours: float, **peers: float) -> Row:
    us = {OURS: ours, **{f"cuDNN {name}": us for name, us in peers.items()}}
    return Row(case, us, dict.fromkeys(us, 40.0), Floor(0.5, 1.0, 0.25), "block barrier", {"cuDNN bf16": "not today"})


ROWS = (
    row_of(Case("lstm", 128, 1), 2.0, fp32=8.0, fp16=4.0),
    row_of(Case("gru", 128, 1), 4.0, fp32=3.0, fp16=2.0),
    row_of(Case("lstm", 128, 32), 3.0),
)


def test_ratios_and_summary() -> None:
    assert [row.peer for row in ROWS] == ["cuDNN fp16", "cuDNN fp16", None]
    assert [row.ratio for row in ROWS] == [2.0, 0.5, None]
    assert [row.over_floor for row in ROWS] == [2.0 / 1.5, 4.0 / 1.5, 2.0]
    found = summary(ROWS)
    assert set(found) == {"1"}, "a batch without peers has no ratios"
    assert found["1"]["geometric_mean"] == pytest.approx(1.0)
    assert (found["1"]["worst"], found["1"]["worst_row"], found["1"]["behind"]) == (0.5, "GRU 128", 1)


def test_page_json_and_picture() -> None:
    pytest.importorskip("matplotlib")
    result = bench_gpu_report.Result(ROWS, FACTS, {"qrnn": "0"}, ("torch",), "python tools/bench_gpu.py", 21)
    text = bench_gpu_report.page(result)
    assert "Made-up H100, compute capability 9.0, 132 multiprocessors, 1000 MHz" in text
    assert "| LSTM 128 | 2.00 | 8.00 | 4.00 | cuDNN fp16 | **2.00** | 1.500 | 1.3 | block barrier |" in text
    assert "geometric mean **1.00**, worst 0.50 (GRU 128, against cuDNN fp16), 1 of 2 rows below 1" in text
    assert "not installed, left out: torch" in text
    assert "- GRU 128, batch 1: cuDNN bf16: not today" in text
    assert "a block meets in 0.020 µs, the whole grid in 1.500 µs" in text
    found = json.loads(bench_gpu_report.as_json(result), parse_constant=lambda name: pytest.fail(name))
    assert [row["ratio"] for row in found["rows"]] == [2.0, 0.5, None]
    assert found["rows"][0]["floor_us"] == {"barrier": 0.5, "reading": 1.0, "arithmetic": 0.25}
    assert bench_gpu_report.plot(result).startswith(b"\x89PNG")


def test_a_row_is_verified_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0, 1.0, 1.0, 2.0, 2.0, 9.0])
    monkeypatch.setattr(bench_gpu, "milliseconds", lambda run: next(times))
    case = Case("gru", 8, 3, 10)
    calls: list[str] = []

    def maker(name: str, noise: float) -> Any:
        def make(case: Case, x: Any) -> bench_gpu.Runner:
            want = bench_gpu.qrnn.run_oracle(bench_gpu.network("gru", 8).model, {"x": x[:2]}).outputs["y"]
            assert x.shape == (3, 10, 8)
            if math.isnan(noise):
                raise RuntimeError("out of memory\nand more")
            return bench_gpu.Runner(lambda: calls.append(name), lambda: want + noise, 40.0)

        return make

    makers = {
        OURS: maker(OURS, 1e-5),
        "good": maker("good", 0.0),
        "bad": maker("bad", 1.0),
        "none": maker("none", np.nan),
    }
    row = bench_gpu.measure(case, FACTS, 3, makers)
    assert row.us == {OURS: 200.0, "good": 100.0}  # medians of 3, 2, 2 and 1, 1, 9 ms over ten steps
    assert row.left_out["none"] == "out of memory"
    assert "SQNR" in row.left_out["bad"]
    assert set(calls) == {OURS, "good"}


@pytest.mark.skipif("cuda" in available_backends(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no GPU to measure: backend 'cuda': ") as end:
        bench_gpu.main(["--output", str(tmp_path / "gpu.md")])
    assert "\n" not in str(end.value.code)
    assert not list(tmp_path.iterdir())


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.parse([]).sizes == list(SIZES)
    with pytest.raises(SystemExit):
        bench_gpu.parse(["--sizes", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_columns() -> None:
    assert list(bench_gpu.makers_for(("torch",))) == [OURS]
    assert list(bench_gpu.makers_for(())) == [OURS, "cuDNN fp32", "cuDNN tf32", "cuDNN fp16", "cuDNN bf16"]
