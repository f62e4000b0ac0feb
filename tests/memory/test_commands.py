"""The commands on a graph of one step per call: each keeps to what the model remembers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli.running import Cli, make_cli
from onnx_import.running import data

from memory.graphs import SHAPES, F, called, one_step

ROWS = 40


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line in a folder with a graph without memory, rows for it, and the same rows in one sequence."""
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(one_step("LSTM").SerializeToString())
    x = data(ROWS, F)
    labels = np.arange(ROWS) % 3
    np.savez("rows.npz", x=x, labels=labels)
    np.savez("axis.npz", x=x[:, None], labels=labels[:, None])
    np.savez("sequence.npz", x=x[None])
    return make_cli(monkeypatch, capsys)


def ok(cli: Cli, *arguments: object) -> str:
    done = cli(*arguments)
    assert done.status == 0, done.err
    return done.out


def refused(cli: Cli, *arguments: object) -> str:
    done = cli(*arguments)
    assert done.status == 2
    assert len(done.lines) == 1
    return done.lines[0]


@pytest.mark.parametrize(
    ("file", "shape"), [("rows.npz", (ROWS, 3)), pytest.param("axis.npz", (ROWS, 1, 3), marks=pytest.mark.matrix)]
)
def test_rows(file: str, shape: tuple[int, ...], cli: Cli) -> None:
    said = ok(cli, "convert", "m.onnx", "--calibration", "rows.npz", "-o", "m.qrnn")
    assert "keeps nothing between calls" in said
    assert "memory: none: every row is computed by itself" in ok(cli, "inspect", "m.qrnn")
    x = data(ROWS, F)
    want = called(one_step("LSTM"), SHAPES[0], x[:, None], {}, {})[:, 0]
    ok(cli, "run", "m.qrnn", "-i", file, "-o", "out.npz")
    got = np.load("out.npz")["y"]
    assert got.shape == shape
    assert 10 * np.log10((want**2).sum() / ((got.reshape(want.shape) - want) ** 2).sum()) > 30.0
    ok(cli, "compare", "m.onnx", "m.qrnn", "--data", file, "--json", "report.json")
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["sequences"] == ROWS
    assert report["onnxruntime_against_float64"]["y"]["sqnr_db"] > 100.0
    ok(cli, "explain", "m.onnx", "m.qrnn", "--data", file)
    ok(cli, "diff", "m.qrnn", "m.qrnn", "--data", file)
    ok(cli, "bench", "m.qrnn", "--data", file, "--seconds", "0.01", "--batch", 2)
    ok(cli, "export", "m.qrnn", "--target", "generic", "--data", file, "-o", "c")
    assert f"{ROWS} rows on" in ok(cli, "verify", "c", "--data", file)


@pytest.mark.matrix
def test_random_rows(cli: Cli) -> None:
    done = cli("convert", "m.onnx", "--calibration", "random", "-o", "m.qrnn")
    assert done.status == 0
    ok(cli, "bench", "m.qrnn", "--seconds", "0.01")


@pytest.mark.filterwarnings("ignore::qrnn.model.file.RandomCalibrationWarning")
def test_sequences_are_refused(cli: Cli) -> None:
    remedy = f"give its rows as [{ROWS}, {F}], or convert with --stream for a model that remembers"
    assert remedy in refused(cli, "convert", "m.onnx", "--calibration", "sequence.npz", "-o", "m.qrnn")
    assert not Path("m.qrnn").exists()
    ok(cli, "convert", "m.onnx", "--calibration", "rows.npz", "-o", "m.qrnn")
    ok(cli, "export", "m.qrnn", "--target", "generic", "-o", "c")
    for command in (
        ("run", "m.qrnn", "-i", "sequence.npz", "-o", "out.npz"),
        ("compare", "m.onnx", "m.qrnn", "--data", "sequence.npz"),
        ("explain", "m.onnx", "m.qrnn", "--data", "sequence.npz"),
        ("diff", "m.qrnn", "m.qrnn", "--data", "sequence.npz"),
        ("bench", "m.qrnn", "--data", "sequence.npz"),
        ("verify", "c", "--data", "sequence.npz"),
        ("sweep", "m.onnx", "--calibration", "sequence.npz", "--data", "rows.npz", "-o", "s", "--limit", 1),
        ("tune", "m.onnx", "--calibration", "rows.npz", "--data", "sequence.npz", "--min-sqnr", 9),
    ):
        assert remedy in refused(cli, *command)
    assert "keeps nothing from step to step" in refused(cli, "bench", "m.qrnn", "--stream")
    assert "give --batch=N for N rows" in refused(cli, "bench", "m.qrnn", "--steps", 5)


def test_stream(cli: Cli) -> None:
    said = ok(cli, "convert", "m.onnx", "--stream", "--calibration", "sequence.npz", "-o", "s.qrnn")
    assert "carried from step to step (--stream)" in said
    assert "memory: every recurrent layer remembers" in ok(cli, "inspect", "s.qrnn")
    ok(cli, "run", "s.qrnn", "-i", "sequence.npz", "-o", "out.npz")
    assert np.load("out.npz")["y"].shape == (1, ROWS, 3)
    ok(cli, "compare", "m.onnx", "s.qrnn", "--data", "sequence.npz", "--json", "report.json")
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["outputs"]["y"]["sqnr_db"] > 30.0
    assert "carries its state on" in report["onnxruntime_note"]
    ok(cli, "bench", "s.qrnn", "--stream", "--seconds", "0.01", "--batch", 1)
    ok(cli, "convert", "m.onnx", "--calibration", "rows.npz", "-o", "m.qrnn")
    assert "'m' keeps nothing from step to step" in refused(cli, "diff", "m.qrnn", "s.qrnn", "--data", "rows.npz")
    assert "memory" in ok(cli, "diff", "m.qrnn", "s.qrnn")


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("stream", [False, True])
def test_sweep(stream: bool, cli: Cli) -> None:
    file, more = ("sequence.npz", ["--stream"]) if stream else ("rows.npz", [])
    only = ("--vary", "weights=8", "--jobs", 1, "--no-latency", "--target", "generic")
    ok(cli, "sweep", "m.onnx", "--calibration", file, "--data", file, "-o", "s", *only, *more)
    digests = json.loads(Path("s/sweep.json").read_text(encoding="utf-8"))["digests"]
    assert ("without memory" in digests) is not stream
    assert ("--stream" in Path("s/report.html").read_text(encoding="utf-8")) is stream
