"""tools/bench_peers.py with tiny networks: rows, verification, pages. Times are not tested; peers that are absent are skipped."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import bench_limits
import bench_peers
import bench_report
import bench_rows
import bench_runtimes
from bench_runtimes import Runner, Runtime, make_qrnn
from bench_workloads import Case, Work, inputs, network, work

SETTINGS = bench_rows.Settings((1,), 2, 1e-4, 1.0)
QUICK = ("--quick", "--sizes", "8", "--batches", "1", "2", "--streaming", "8", "--rounds", "2")
QRNN = Runtime("qrnn", "qrnn", 20.0, make_qrnn)


def fake(name: str, answer: Any, least_db: float = 60.0) -> Runtime:
    """A peer that returns ``answer(work)`` at once."""
    return Runtime(name, "numpy", least_db, lambda work, threads: Runner(lambda: None, lambda: answer(work)))


def noisy(db: float) -> Any:
    def answer(work: Work) -> Any:
        noise = np.random.default_rng(0).normal(size=work.want.shape)
        scale = math.sqrt(float(np.sum(work.want**2)) / float(np.sum(noise**2)) * 10 ** (-db / 10))
        return work.want + scale * noise

    return answer


def test_a_wrong_peer_is_left_out_with_its_figure() -> None:
    peers = (
        fake("right", noisy(61.0)),
        fake("wrong", noisy(59.0)),
        fake("short", noisy(59.0), 20.0),
        fake("nan", lambda w: w.want * np.nan),
        fake("flat", lambda w: w.want.reshape(-1)),
        fake("zero", lambda w: 0 * w.want),
    )
    row = bench_rows.measure(Case("lstm", 8, 2, 10), (QRNN, *peers), SETTINGS)
    assert set(row.us) == {"qrnn", "right", "short"}
    assert row.sqnr["right"] == pytest.approx(61.0)
    assert "SQNR 59.0 dB, expected at least 60 dB" in row.left_out["wrong"]
    assert "not finite" in row.left_out["nan"]
    assert "[160], expected [2, 10, 8]" in row.left_out["flat"]
    assert "SQNR 0.0 dB" in row.left_out["zero"]
    peer = row.peer()
    assert peer is not None
    assert peer.name in ("right", "short")
    assert row.ratio() == peer.us / row.us["qrnn"][1]
    assert row.over_limit > 1.0
    assert json.loads(json.dumps(row.to_dict()))["left_out"].keys() == row.left_out.keys()


def test_qrnn_itself_is_verified() -> None:
    broken = replace(QRNN, make=lambda work, threads: Runner(lambda: None, lambda: noisy(10.0)(work)))
    with pytest.raises(SystemExit, match=r"qrnn is not timed, its output is wrong: SQNR 10\.0 dB"):
        bench_rows.measure(Case("gru", 8, 1, 10), (broken,), SETTINGS)


def row_of(case: Case, us: dict[str, dict[int, float]]) -> bench_rows.Row:
    limits = {k: bench_rows.Limit(1.0 / k, 0.1) for k in (1, 2)}
    return bench_rows.Row(case, us, dict.fromkeys(us, 40.0), {"left": "of no use"}, limits, 7, 0.5)


def test_ratios_and_summary() -> None:
    ours = {1: 4.0, 2: 2.0}
    rows = [
        row_of(
            Case("lstm", 64, 1), {"qrnn": ours, "ONNX Runtime f32": {1: 8.0, 2: 9.0}, "PyTorch f32": {1: 9.0, 2: 1.0}}
        ),
        row_of(Case("gru", 64, 1), {"qrnn": ours, "ONNX Runtime f32": {1: 4.0, 2: 16.0}}),
        row_of(Case("gru", 64, 32), {"qrnn": ours}),
        row_of(
            Case("gru", 64, 1, streaming=True),
            {
                "qrnn": ours,
                "qrnn, bound": {1: 1.0, 2: 3.0},
                "OpenVINO f32": {1: 1.0},
                "ONNX Runtime f32": {1: 6.0},
                "ONNX Runtime f32, bound": {1: 4.0, 2: 5.0},
            },
        ),
    ]
    assert [row.ratio() for row in rows] == [0.5, 2.0, None, 1.0]
    assert [row.ratio(1) for row in rows] == [2.0, 1.0, None, 1.0]
    assert rows[0].ratio(2) == 0.5
    assert rows[0].over_limit == 4.0
    found = bench_rows.summary(rows)
    assert found["whole"]["32"] is None
    one = found["whole"]["1"]
    assert (one["geometric_mean"], one["worst"], one["worst_row"], one["worst_peer"], one["behind"]) == (
        *(pytest.approx(1.0), 0.5),
        *("LSTM 64", "PyTorch f32", 1),
    )
    to_ort = {way: values["geometric_mean"] for way, values in found["streaming_to_onnx_runtime"].items()}
    assert to_ort == {"by call": pytest.approx(3.0), "bound": pytest.approx(4.0)}
    result = bench_report.Result(tuple(rows), SETTINGS, (QRNN,), ("openvino",), "python tool", 0.5)
    text = bench_report.page(result, "name")
    for part in (
        "geometric mean **1.00**",
        "(name.json)",
        "(name.png)",
        "not installed, left out: openvino",
        "**0.50**",
        "left: of no use (4 rows, first LSTM 64, batch 1)",
    ):
        assert part in text, part
    assert "other processes used 0.50 cores meanwhile" in text
    assert "disturbed: others used 0.50 cores; ratio 2.00" in bench_report.times_line(rows[1])
    if find_spec("matplotlib"):
        assert bench_report.plot(result).startswith(b"\x89PNG\r\n\x1a\n")


def test_limits() -> None:
    assert bench_limits.read_rate(4096, 1) > 1e8
    assert bench_limits.read_rate(100, 2) > 1e6
    assert bench_limits.peak(1).rate > 1e7
    case = Case("lstm", 16, 2, 100)
    assert (case.matrix_bytes, case.step_macs) == (4 * 16 * 16, 2 * 2 * 4 * 16 * 16)
    whole, stream = bench_rows.limit(case, 1), bench_rows.limit(replace(case, streaming=True), 1)
    assert whole.arithmetic == stream.arithmetic > 0.0
    assert whole.us == max(whole.reading, whole.arithmetic)


def test_workloads_are_the_same_every_time() -> None:
    a, b = network.__wrapped__("gru", 8), network("gru", 8)
    assert all(np.array_equal(x, y) for x, y in zip(a.arrays, b.arrays, strict=True))
    x = inputs(4, 64, 50, seed=3)
    assert np.array_equal(x, inputs(4, 64, 50, seed=3))
    assert x.std() == pytest.approx(1.0, abs=0.05)
    assert work(Case("gru", 8, 3, 10)).want.shape == (3, 10, 8)


@pytest.mark.wide(cover=False, keep=12)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("number", range(len(bench_runtimes.runtimes())))
def test_every_runtime_gives_the_oracles_answer(number: int, cell: Any, streaming: bool) -> None:
    runtime = bench_runtimes.runtimes()[number]
    if not runtime.installed:
        pytest.skip(f"{runtime.package} is not installed")
    if not (streaming or runtime.whole):
        pytest.skip("for streaming alone")
    given = work(Case(cell, 16, 1 if streaming else 3, 12, streaming))
    try:
        runner = runtime.make(given, 1)
    except bench_runtimes.LeftOutError as reason:
        pytest.skip(str(reason))
    assert bench_rows.verified(runner, given, runtime.least_db) >= runtime.least_db
    runner.prepare()
    runner.run()
    assert bench_rows.verified(runner, given, runtime.least_db) >= runtime.least_db
    if "int8" in runtime.name:
        assert bench_rows.verified(runner, given, 20.0) < 60.0, "it is quantized"


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("peers", [(), ("onnxruntime",)])
def test_a_run(peers: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for peer in peers:
        pytest.importorskip(peer)
    out = tmp_path / "cpu.md"
    bench_peers.main([*QUICK, "--cells", "gru", "--peers", *peers, "--output", str(out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu.json", "cpu.md", "cpu.png"]
    found = json.loads(out.with_suffix(".json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [(row["batch"], row["streaming"]) for row in found["rows"]] == [(1, False), (2, False), (1, True)]
    assert set(found) == {
        *("date", "revision", "command", "machine", "load_before", "versions", "absent", "least_sqnr_db"),
        *("peak_macs_per_second", "summary", "rows"),
    }
    for row in found["rows"]:
        assert ("ONNX Runtime f32" in row["us_per_step"]) == bool(peers)
        assert (row["ratio"] is not None) == bool(peers)
        assert row["sqnr_db"]["qrnn"] > 20.0
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert "batch 2" in text
    if peers:
        assert "quantize_dynamic leaves GRU in 32-bit floats" in text


@pytest.mark.matrix
def test_absent_peers_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Runtime, "installed", property(lambda self: self.package == "qrnn"))
    options = bench_peers.parse([*QUICK, "--cells", "lstm", "--output", str(tmp_path / "cpu.md")])
    result = bench_peers.run(options, bench_runtimes.runtimes(), "python tool")
    assert result.absent == ("onnxruntime", "torch", "openvino")
    assert "torch is not installed and left out" in capsys.readouterr().out
    assert "not installed, left out: openvino" in bench_report.page(result, "name")


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = bench_peers.parse(["--quick"])
    assert (options.sizes, options.threads, options.streaming) == ([64], [1], [64])
    assert bench_peers.parse(["--threads", "1"]).sizes == [64, 128, 256, 512, 1024]
    for wrong in (["--sizes", "0"], ["--cells", "rnn"], ["--threads", "100000"]):
        with pytest.raises(SystemExit) as end:
            bench_peers.parse(wrong)
        assert end.value.code == 2
    capsys.readouterr()
