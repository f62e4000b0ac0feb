"""The benchmark of tools/gpu_check without a GPU: rows, floors, aims, the page, peers on the CPU, and a whole run in the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from gpu_check import benchmark_compile, benchmark_peers, part_benchmark
from gpu_check.benchmark_data import DISTINCT, Data, Layer, Layers, data_of, make_layer
from gpu_check.benchmark_page import page
from gpu_check.benchmark_rows import (
    AIMS,
    BATCHES,
    OURS,
    OURS_LAUNCHED,
    RAGGED,
    SEQUENCE,
    SIZES,
    STEP,
    Facts,
    Floor,
    Row,
    Spec,
    Times,
    aims,
    all_rows,
    best_peer,
    floor_of,
    over_floor,
    padding_cost,
    plan_of,
    ratio,
    summary,
)
from gpu_check.benchmark_timing import FEWEST, Runner, host_clock, take_samples
from gpu_check.part_benchmark import Benchmark, compile_columns

from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends.cuda.device import Device

TOOLS = Path(__file__).resolve().parents[1] / "tools"
H100 = Device("Made-up H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)
FACTS = Facts(H100, 1000.0, 0.02, {66: 1.25, 132: 1.5})


# --- rows and floors -------------------------------------------------------------------------------------------------------------------


def test_rows_are_all_and_the_most_telling_first() -> None:
    rows = all_rows()
    assert len(rows) == len(set(rows))
    for kind in (SEQUENCE, STEP):
        assert {(r.hidden, r.batch) for r in rows if r.kind == kind} >= {(H, N) for H in SIZES for N in BATCHES}
    first = rows[:8]
    assert {(r.kind, r.hidden) for r in first} == {(SEQUENCE, 128), (STEP, 128)}
    assert {r.cell for r in first} == {"lstm", "gru"}
    for row in rows:
        if row.kind == RAGGED:
            assert rows.index(replace(row, kind=SEQUENCE)) < rows.index(row), "what it is compared with comes before"


def test_lengths_are_from_one_to_all() -> None:
    spec = Spec(RAGGED, "lstm", 64, 1024)
    lengths = spec.lengths
    assert lengths is not None
    assert (lengths.min(), lengths.max()) == (1, 100)
    assert spec.steps_a_call == lengths.mean()
    assert Spec(STEP, "lstm", 64, 4).steps_a_call == 1
    assert Spec(SEQUENCE, "lstm", 64, 4).steps_a_call == 100


def test_the_floor_of_a_layer_in_one_block() -> None:
    """R of LSTM 128 is 64 KiB: 512 cycles at 128 bytes each, 0.512 µs at 1 GHz; its 131072 multiply-adds take far less."""
    spec = Spec(SEQUENCE, "lstm", 128, 1)
    plan = plan_of(spec, H100)
    assert plan is not None
    assert plan.unit_blocks == 1
    floor = floor_of(spec, FACTS)
    assert floor.barrier == 0.02
    assert floor.reading == pytest.approx(0.512)
    assert floor.arithmetic == pytest.approx(2 * 4 * 128 * 128 / (132 * 4096 * 1000))
    assert floor.us == pytest.approx(0.532)


def test_the_floor_of_a_layer_over_blocks() -> None:
    spec = Spec(SEQUENCE, "gru", 1024, 1024)
    plan = plan_of(spec, H100)
    assert plan is not None
    assert plan.unit_blocks > 1
    floor = floor_of(spec, FACTS)
    assert floor.barrier == 1.5
    assert floor.arithmetic == pytest.approx(2 * 3 * 1024**3 / (132 * 4096 * 1000))
    assert floor.us == pytest.approx(1.5 + max(floor.reading, floor.arithmetic))


def test_the_floor_of_a_lone_step() -> None:
    """It has no barrier; W is read by all 132 multiprocessors and R by one block, 64 KiB each at 40 bytes per cycle."""
    floor = floor_of(Spec(STEP, "lstm", 128, 1), FACTS)
    assert floor.barrier == 0.0
    assert floor.reading == pytest.approx(65536 * (1 + 1 / 132) / 40 / 1000)


def test_the_floor_without_a_plan() -> None:
    tiny = replace(FACTS, device=replace(H100, shared_per_block=64))
    assert floor_of(Spec(SEQUENCE, "lstm", 128, 1), tiny).barrier == 0.02
    assert floor_of(Spec(STEP, "lstm", 128, 1), tiny).barrier == 0.0


def test_barriers_are_those_of_the_part_before() -> None:
    latency = {"block_barrier_us": {"32": 0.01, "256": 0.02}, "grid_barrier_us": {"2": 0.5, "132": 1.5}}
    facts = Facts.of(H100, 1000.0, latency)
    plan = plan_of(Spec(SEQUENCE, "lstm", 1024, 1), H100)
    assert plan is not None
    few, many = (replace(plan, unit_blocks=blocks, batch_blocks=1) for blocks in (2, 3))
    assert [facts.barrier_us(one) for one in (few, many, replace(few, unit_blocks=200))] == [0.5, 1.5, 1.5]
    assert facts.block_barrier_us == 0.02
    assert floor_of(Spec(SEQUENCE, "lstm", 128, 1), Facts.of(H100, 1000.0, {})).barrier == 0.0
    assert Facts.of(H100, 1000.0, {}).barrier_us(plan) == 0.0


# --- figures of rows -------------------------------------------------------------------------------------------------------------------


def row_of(kind: str, cell: Any, hidden: int, batch: int, ours: float | None, **peers: float) -> dict[str, Any]:
    us = {} if ours is None else {OURS: ours, OURS_LAUNCHED: 1.0}
    us |= {f"cuDNN {name}": value for name, value in peers.items()}
    times = {name: Times(value, value, value, 7.0, 15) for name, value in us.items()}
    spec, out = Spec(kind, cell, hidden, batch), {"cuDNN bf16": "not today"}
    return Row(
        spec, times, dict.fromkeys(us, 40.0), out, dict.fromkeys(us, 0.5), {}, Floor(0.5, 1.0, 0.25), "a plan"
    ).to_dict()


ROWS = [
    row_of(SEQUENCE, "lstm", 128, 1, 0.8, fp32=8.0, fp16=4.0),
    row_of(SEQUENCE, "gru", 128, 1, 4.0, fp32=3.0, fp16=2.0),
    row_of(SEQUENCE, "lstm", 128, 1024, 3.0, fp16=6.0),
    row_of(SEQUENCE, "gru", 128, 1024, 3.0),
    row_of(SEQUENCE, "gru", 256, 128, None, fp16=6.0),
    row_of(RAGGED, "lstm", 128, 1024, 6.0, fp16=4.0),
    row_of(RAGGED, "gru", 512, 1024, 6.0),
    row_of(STEP, "gru", 128, 1, 9.0, fp16=18.0),
]


def test_ratios_and_aims() -> None:
    assert [best_peer(row) for row in ROWS[:4]] == ["cuDNN fp16", "cuDNN fp16", "cuDNN fp16", None]
    assert [ratio(row) for row in ROWS] == [5.0, 0.5, 2.0, None, None, pytest.approx(2 / 3), None, 2.0]
    assert over_floor(ROWS[2]) == 2.0
    assert over_floor(ROWS[4]) is None
    assert [padding_cost(row, ROWS) for row in ROWS[5:7]] == [2.0, None]
    found = aims(ROWS)
    assert [(aim["met"], aim["rows"], aim["worst"]) for aim in found] == [
        (1, 2, 4.0),
        (1, 2, 0.5),
        (1, 1, 2.0),
        (0, 1, 2.0),
    ]
    assert found[0]["worst_row"] == "GRU 128, batch 1, 100 steps"
    assert [aim["rows"] for aim in aims([])] == [0] * len(AIMS)


def test_summary() -> None:
    found = {(one["kind"], one["batch"]): one for one in summary(ROWS)}
    first = found[SEQUENCE, 1]
    assert first["geometric_mean"] == pytest.approx(2.5**0.5)
    assert (first["worst"], first["worst_row"], first["behind"]) == (0.5, "GRU 128", 1)
    assert (SEQUENCE, 128) not in found, "a batch of which qrnn has no figure has no ratios"


def result_of(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "device": {"name": "Made-up H100", "megahertz": 1000.0, "processors": 132},
        "barrier_us": {"block": 0.02, "grid": {"66": 1.25, "132": 1.5}}, "rounds": 15, "dry_run": False, "versions": {"torch": "0"},
        "absent": {}, "rows": rows, "left_out_rows": ["GRU 64, batch 8, 100 steps"], "failed_rows": {},
        "aims": aims(rows), "summary": summary(rows), **more,
    }  # fmt: skip


def test_the_page_is_made_from_json_alone() -> None:
    result = result_of(ROWS, stopped="no time was left", compile={"ended": "stopped after 40 s"})
    text = page(json.loads(json.dumps(result, allow_nan=False)))
    assert "Made-up H100, 132 multiprocessors, 1000 MHz; torch 0" in text
    assert (
        "256 threads of a block meet in 0.020 µs, 66 blocks of a grid in 1.250 µs, 132 blocks of a grid in 1.500 µs"
        in text
    )
    assert "8 rows measured, 1 left out: no time was left" in text
    assert "| LSTM 128 | 0.80 | 1.00 | 8.00 | 4.00 | cuDNN fp16 | **5.00** | 1.500 | 0.5 | a plan |" in text
    assert "| GRU 128 | 9.00 (7.0) | 1.00 (7.0) | 18.00 (7.0) | cuDNN fp16 | **2.00** |" in text
    assert "| LSTM 128 | 6.00 | 1.00 | 4.00 | cuDNN fp16 | **0.67** | 1.500 | 4.0 | 2.00 | a plan |" in text
    assert "| H 128, batch up to 16: at most 1 µs a step | 1 of 2 | 4.00 (GRU 128, batch 1, 100 steps) |" in text
    assert "geometric mean **1.58**, worst 0.50 (GRU 128, against cuDNN fp16), 1 of 2 rows below 1" in text
    assert "- GRU 128, batch 1, 100 steps: cuDNN bf16: not today" in text
    assert "- torch.compile: stopped after 40 s" in text
    assert "- rows without figures: GRU 64, batch 8, 100 steps" in text
    bare = page(result_of([], barrier_us={"block": None, "grid": {}}))
    assert "No row has been measured" in bare
    assert "barriers were not measured (part latency): the floors are without them" in bare


# --- samples ---------------------------------------------------------------------------------------------------------------------------


def clock_of(times: Iterator[float]) -> Callable[[Callable[[], Any], int], tuple[float, float]]:
    return lambda _run, _calls: (next(times), 0.5)


def test_samples_are_medians_of_rounds() -> None:
    """The first two times are those of the warm calls and of the one that says how many calls a sample needs."""
    order: list[str] = []
    fast = Runner(int, list, 0, clock_of(iter([9.0, 1.0, 3.0, 2.0, 4.0])), lambda: order.append("fast"))  # type: ignore[arg-type]
    slow = Runner(int, list, 0, clock_of(iter([9.0, 0.1, 30.0, 30.0, 90.0])), lambda: order.append("slow"))  # type: ignore[arg-type]
    found = take_samples({"fast": fast, "slow": slow}, 10, rounds=3)
    assert found["fast"].us == 300.0  # 3 ms of one call of ten steps
    assert found["slow"].us == 1000.0  # 30 ms of three calls, as many as take 0.3 ms
    assert (found["fast"].samples, found["fast"].host_us) == (3, 500.0)
    assert order == ["fast", "slow", "fast", "slow", "slow", "fast", "fast", "slow"]


def test_a_slow_runner_takes_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_check.benchmark_timing.RUNNER_SECONDS", 0.0)
    assert take_samples({"": Runner(int, list, 0, host_clock)}, 1, rounds=9)[""].samples == FEWEST  # type: ignore[arg-type]


# --- the loop over rows ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layer() -> Layer:
    return make_layer("gru", 8, 4)


def bench_of(specs: list[Spec], clock: Callable[[], float] = lambda: 0.0) -> tuple[Benchmark, list[dict[str, Any]]]:
    written: list[dict[str, Any]] = []
    result = {key: value for key, value in result_of([]).items() if key not in ("rows", "left_out_rows")}
    bench = Benchmark(
        FACTS, lambda r: written.append(json.loads(json.dumps(r, allow_nan=False))), result, specs, 3, clock
    )
    return bench, written


def maker(name: str, calls: list[str], noise: float) -> Callable[[Data], Runner]:
    def make(data: Data) -> Runner:
        if np.isnan(noise):
            raise RuntimeError("out of memory\nand more")
        want = data.of_verified(data.layer.want)
        return Runner(lambda: calls.append(name), lambda: want + noise, 40.0, host_clock)

    return make


def test_a_row_is_verified_before_it_is_timed(layer: Layer) -> None:
    calls: list[str] = []
    makers = {
        OURS: maker(OURS, calls, 1e-5),
        "good": maker("good", calls, 1e-12),
        "bad": maker("bad", calls, 1.0),
        "none": maker("none", calls, np.nan),
    }
    spec = Spec(SEQUENCE, "gru", 8, 3, 4)
    bench, written = bench_of([spec])
    bench.run(lambda s: (data_of(s, layer), makers), lambda: 99.0, lambda: True)
    (row,) = written[-1]["rows"]
    assert set(row["us_per_step"]) == {OURS, "good"} == set(calls)
    assert row["left_out"]["none"] == "RuntimeError: out of memory and more"
    assert "its output is wrong: SQNR" in row["left_out"]["bad"]
    assert row["sqnr_db"][OURS] > 40
    assert not bench.wrong, "a peer that fails is no fault of ours"


def test_our_own_fault_is_told_and_the_others_go_on(layer: Layer) -> None:
    calls: list[str] = []
    makers = {OURS: maker(OURS, calls, 1.0), "good": maker("good", calls, 1e-12)}
    bench, written = bench_of([Spec(SEQUENCE, "gru", 8, N, 4) for N in (1, 2)])
    bench.run(lambda s: (data_of(s, layer), makers), lambda: 99.0, lambda: True)
    assert [set(row["us_per_step"]) for row in written[-1]["rows"]] == [{"good"}, {"good"}]
    assert [text.split(":")[0] for text in bench.wrong] == ["GRU 8, batch 1, 4 steps", "GRU 8, batch 2, 4 steps"]
    assert page(written[-1])


def test_rows_stop_in_time(layer: Layer) -> None:
    """Each reading of the clock is 3 s after the one before; every row is written as soon as it is there."""
    specs = [Spec(SEQUENCE, "gru", 8, N, 4) for N in (1, 2, 3, 4, 5)]
    time = iter(range(0, 1000, 3))
    left = iter([10.0, 7.0, 4.0, 2.9, 1.0])
    bench, written = bench_of(specs, lambda: float(next(time)))
    bench.run(lambda s: (data_of(s, layer), {"good": maker("good", [], 1e-12)}), lambda: next(left), lambda: True)
    assert [len(result["rows"]) for result in written] == [1, 2, 3, 3]
    assert written[-1]["left_out_rows"] == [spec.name for spec in specs[3:]]
    assert written[-1]["stopped"] == "no time was left"
    assert "rows without figures: GRU 8, batch 4, 4 steps; GRU 8, batch 5, 4 steps" in page(written[-1])


def test_a_device_that_has_died_ends_the_rows(layer: Layer) -> None:
    def make(spec: Spec) -> Any:
        raise RuntimeError("illegal address")

    bench, written = bench_of([Spec(SEQUENCE, "gru", 8, N, 4) for N in (1, 2)])
    bench.run(make, lambda: 99.0, lambda: False)
    assert written[-1]["failed_rows"] == {"GRU 8, batch 1, 4 steps": "RuntimeError: illegal address"}
    assert "the device runs nothing more after GRU 8, batch 1" in written[-1]["stopped"]
    assert "- GRU 8, batch 1, 4 steps: RuntimeError: illegal address" in page(written[-1])
    assert len(bench.wrong) == 2


def test_columns_of_torch_compile(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(SEQUENCE, "gru", 8, 2, 4)
    monkeypatch.setattr(part_benchmark, "COMPILED", ((8, 2),))
    bench, written = bench_of([spec])
    bench.run(lambda s: (data_of(s, layer), {OURS: maker(OURS, [], 1e-12)}), lambda: 99.0, lambda: True)
    times = vars(Times(1.0, 0.5, 2.0, 3.0, 15))

    def start(folder: Path, rows: list[dict[str, Any]], seconds: float) -> Any:
        assert seconds == 20.0
        assert np.load(folder / "row0.npz")["x"].shape == (2, 4, 8)
        yield {"row": 0, "column": "compiled", "sqnr_db": 50.0, "ready_seconds": 9.0, "times": times}
        yield {"row": 0, "column": "other", "left_out": "no compiler"}
        yield {"ended": "stopped after 20 s"}

    compile_columns(bench, lambda s: data_of(s, layer), 20.0, start)
    (row,) = written[-1]["rows"]
    assert row["us_per_step"]["compiled"] == 1.0
    assert row["quartiles"]["compiled"] == [0.5, 2.0]
    assert row["left_out"] == {"other": "no compiler"}
    assert "- torch.compile: stopped after 20 s, 2 of 2 columns measured" in page(written[-1])
    compile_columns(bench, lambda s: data_of(s, layer), 3.0, start)
    assert written[-1]["compile"]["ended"] == "not started: 1 rows, 3 s left"


# --- data ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
def test_layers_are_made_in_processes() -> None:
    specs = [Spec(SEQUENCE, "gru", 8, 1, 3), Spec(STEP, "lstm", 8, 40, 3)]
    layers = Layers(specs, 2)
    layers.wait()
    for spec in specs:
        layer, data = layers.of(spec), data_of(spec, layers.of(spec))
        assert layer.x.shape == layer.want.shape == (DISTINCT, 3, 8)
        assert data.x.shape == (spec.batch, 3, 8)
        np.testing.assert_array_equal(data.x[data.verified[-1]], layer.x[(spec.batch - 1) % DISTINCT])
        assert sqnr_db(layer.want, layer.bits) > 20


def test_a_layer_that_cannot_be_made_costs_its_own_rows() -> None:
    specs = [Spec(SEQUENCE, "gru", 8, 1, 3), Spec(SEQUENCE, "nonsense", 8, 1, 3)]  # type: ignore[arg-type]
    layers = Layers(specs, 2)
    layers.wait()
    assert layers.of(specs[0]).want.shape == (DISTINCT, 3, 8)
    with pytest.raises(RuntimeError, match="its layer could not be made: KeyError: 'nonsense'"):
        layers.of(specs[1])


def test_answers_are_zero_past_the_end(layer: Layer) -> None:
    data = data_of(Spec(RAGGED, "gru", 8, 20, 4), layer)
    lengths = data.spec.lengths
    assert lengths is not None
    for n, answer in zip(data.verified, data.of_verified(layer.want), strict=True):
        assert not answer[lengths[n] :].any()
        np.testing.assert_array_equal(answer[: lengths[n]], layer.want[n % DISTINCT, : lengths[n]])


# --- peers on the CPU ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("kind", [SEQUENCE, STEP, RAGGED])
def test_peers_compute_the_same(kind: str, cell: Any) -> None:
    pytest.importorskip("torch")
    data = data_of(Spec(kind, cell, 16, 5, 7), make_layer(cell, 16, 7))
    want = data.of_verified(data.layer.want)
    columns = benchmark_peers.columns(data, "cpu")
    assert len(columns) == 4
    for make in columns.values():
        runner = make(data)
        assert sqnr_db(want, runner.output()) > runner.least_db
        runner.run()
        assert sqnr_db(want, runner.output()) > runner.least_db, "an output begins anew"
    assert len(benchmark_peers.columns(data, "cuda")) == (4 if kind == RAGGED else 8)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_step_that_is_compiled(cell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    spec = Spec(SEQUENCE, cell, 16, 5, 7)
    data = data_of(spec, make_layer(cell, 16, 7))
    want = data.of_verified(data.layer.want)
    benchmark_compile.save_row(tmp_path, 0, data.layer.arrays, data.x, want, data.verified)
    benchmark_compile.save_row(tmp_path, 1, data.layer.arrays, data.x, -want, data.verified)
    (tmp_path / "rows.json").write_text(json.dumps([vars(spec)] * 2))
    benchmark_compile.main(tmp_path, "cpu", lambda step: step)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["column"] for one in said[:2]] == ["torch.compile bf16, graph", "torch.compile fp32, graph"]
    assert said[1]["sqnr_db"] > 100
    assert set(said[0]["times"]) == set(vars(Times(0, 0, 0, 0, 0)))
    assert all("its output is wrong" in one["left_out"] for one in said[2:])


def test_the_other_process_is_stopped_or_says_why(tmp_path: Path) -> None:
    (said,) = benchmark_compile.measured(tmp_path, [{}], 0.0)
    assert said["ended"] == "stopped after 0 s"
    *_, said = benchmark_compile.measured(tmp_path, [{}], 120.0)
    assert "exit status 1" in said["ended"]  # no PyTorch, or a row without anything


# --- in the simulator ------------------------------------------------------------------------------------------------------------------

RUN = """
import json, sys
from types import SimpleNamespace
from gpu_check import part_benchmark

def main():
    last = {}
    options = SimpleNamespace(dry_run=True, results={}, left=lambda: 1000.0)
    part_benchmark.measure(options, lambda result: last.update(json.loads(json.dumps(result, allow_nan=False))))
    print(json.dumps(last))

main()
"""


@pytest.mark.matrix
def test_a_dry_run() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")
    path = os.pathsep.join((str(TOOLS.parent), str(TOOLS)))
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["kind"] for row in result["rows"]] == [SEQUENCE, STEP, RAGGED]
    assert not result["left_out_rows"]
    for row in result["rows"]:
        assert set(row["us_per_step"]) >= ({OURS} if row["kind"] == RAGGED else {OURS, OURS_LAUNCHED})
        assert not any(name.startswith("qrnn") for name in row["left_out"])
        assert row["notes"][OURS] == "launched one by one: Numba's CUDA simulator has no graphs"
    assert padding_cost(result["rows"][2], result["rows"]) is not None
    assert "The simulator's figures mean nothing" in page(result)


def test_the_part_is_as_its_frame_wants_it() -> None:
    assert part_benchmark.ORDER == 50
    assert part_benchmark.SECONDS <= 170
    assert part_benchmark.COMPILE_SECONDS + part_benchmark.MARGIN < part_benchmark.SECONDS
    assert part_benchmark.page is page
    assert isinstance(part_benchmark.TITLE, str)
    missing = SimpleNamespace(results={})
    assert missing.results.get("latency", {}) == {}
