"""qrnn bench: tables, JSON, data, models that cannot stream, and what it refuses. Times are not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from cli.running import Workplace
from qrnn.backends.cpu.threads.pool import core_count
from qrnn.conversion import quantize
from qrnn.model.file import save
from qrnn.quantization.scheme import Scheme

QUICK = ("--seconds", "0.01", "--steps", "4", "--threads", "1")
WHOLE = {"batch", "threads", "us_per_step", "steps_per_second", "sequences_per_second", "real_time_factor", "rounds"}
STREAM = {"batch", "threads", "steps", "p50", "p90", "p99", "p99_9", "max", "steps_per_second"} | {
    "real_time_factor",
    "real_time_factor_p99_9",
}
MEMORY = {"weights", "rows", "tables", "state", "resident_loaded", "resident_running"}


def printed(place: Workplace, *arguments: Any) -> dict[str, Any]:
    done = place.cli("bench", *arguments, "--json", "-")
    assert (done.status, done.lines) == (0, []), done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.fixture
def both_ways(place: Workplace) -> Path:
    """Return the file of a bidirectional model."""
    model = make_model(Shape(directions=(False, True)), np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(4, 6, 3))
    save(quantize(model, {"x": x}, Scheme(input="8")), place.path("both.qrnn"))
    return place.path("both.qrnn")


def test_json(place: Workplace) -> None:
    found = printed(place, place.path("gru.qrnn"), *QUICK, "--batch", 1, "--batch", 3)
    assert (found["data"], found["steps"], found["backend"], found["not_streamed"]) == ("random", 4, "cpu", None)
    assert [(row["batch"], row["threads"]) for row in found["whole"]] == [(1, 1), (3, 1)]
    assert [(row["batch"], row["threads"]) for row in found["stream"]] == [(1, 1), (3, 1)]
    assert all(set(row) == WHOLE and row["us_per_step"] > 0 for row in found["whole"])
    assert all(set(row) == STREAM and row["max"] >= row["p50"] > 0 for row in found["stream"])
    assert set(found["memory"]) == MEMORY
    assert found["memory"]["weights"] == 3 * 5 * (4 + 5) + 3 * 5
    assert found["step_ms"] is None
    assert found["whole"][0]["real_time_factor"] is None


def test_defaults(place: Workplace) -> None:
    found = printed(place, place.path("gru.qrnn"), "--seconds", "0.01")
    counts = list(dict.fromkeys([1, core_count()]))
    assert [(row["batch"], row["threads"]) for row in found["whole"]] == [(n, k) for n in (1, 32) for k in counts]
    assert found["steps"] == 100


def test_text_and_file(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = place.path("bench.json")
    done = place.cli("bench", place.path("gru.qrnn"), *QUICK, "--step-ms", "10", "--json", out)
    assert (done.status, done.lines) == (0, [])
    for part in ("Whole sequences", "One step a call", "99.9 %", "real-time factor", "10 ms", "weights 150 B"):
        assert part in done.out, part
    found = json.loads(out.read_text())
    assert found["step_ms"] == 10.0
    row = found["whole"][0]
    assert row["real_time_factor"] == pytest.approx(row["us_per_step"] / 1e4)
    assert place.cli("bench", place.path("gru.qrnn"), *QUICK).status == 0


def test_stream_alone(place: Workplace) -> None:
    found = printed(place, place.path("gru.qrnn"), *QUICK, "--stream")
    assert (found["whole"], [row["batch"] for row in found["stream"]]) == ([], [1, 32])


@pytest.mark.parametrize(
    ("model", "data"), [("gru", "lengths"), pytest.param("gru", "labels", marks=pytest.mark.matrix), ("ids", "ids")]
)
def test_data(place: Workplace, model: str, data: str) -> None:
    arguments = (place.path(f"{model}.qrnn"), "--data", place.path(f"{data}.npz"), "--seconds", "0.01", "--batch", 8)
    found = printed(place, *arguments, "--threads", 1)
    assert (found["steps"], found["whole"][0]["batch"]) == (5, 8)
    assert found["data"].endswith(f"{data}.npz")
    if data == "lengths":  # of the first eight sequences, in turn: 5 1 3 5 2 4 5 1
        row = found["whole"][0]
        assert row["steps_per_second"] / row["sequences_per_second"] == pytest.approx(26 / 8)
    assert printed(place, *arguments, "--threads", 1, "--steps", 2)["steps"] == 2


@pytest.mark.matrix
def test_tokens_without_data(place: Workplace) -> None:
    assert len(printed(place, place.path("ids.qrnn"), *QUICK)["stream"]) == 2


def test_both_ways(place: Workplace, both_ways: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    found = printed(place, both_ways, *QUICK)
    assert found["stream"] == []
    assert "'layer0' reads the sequence backwards" in found["not_streamed"]
    done = place.cli("bench", both_ways, *QUICK)
    assert done.status == 0
    assert "not streamed: layer 'layer0' reads the sequence backwards" in done.out
    place.refused("bench", both_ways, *QUICK, "--stream", says=("'layer0'", "leave out --stream"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--batch", "0"], "--batch=0"),
        (["--threads", "-1"], "--threads=-1"),
        (["--steps", "0"], "--steps=0"),
        (["--seconds", "0"], "--seconds=0"),
        (["--seconds", "nan"], "--seconds=nan"),
        (["--step-ms", "-5"], "--step-ms=-5"),
        (["--step-ms", "inf"], "--step-ms=inf"),
        (["--backend", "nothing"], "nothing"),
        (["--json", "/nowhere/at/all.json"], "no folder"),
        (["--data", "/nowhere.npz"], "no such file"),
    ],
)
def test_mistakes(place: Workplace, arguments: list[str], says: str) -> None:
    place.refused("bench", place.path("gru.qrnn"), *arguments, says=says)


def test_files_that_do_not_fit(place: Workplace) -> None:
    model, data = place.path("gru.qrnn"), place.path("x.npz")
    place.refused("bench", place.path("nothing.qrnn"), says="nothing.qrnn")
    place.refused("bench", model, "--data", place.path("ids.npz"), says="'ids' is not an input")
    place.refused("bench", model, "--data", data, "--steps", 6, says=("--steps=6", "has 5"))
    place.refused("bench", model, "--json", model, says="also an input")
    place.refused("bench", model, "--data", data, "--json", data, says="also an input")
    empty = place.npz(x=np.zeros((2, 3, 4)), lengths=np.array([0, 0]))
    place.refused("bench", model, "--data", empty, says="no steps")
