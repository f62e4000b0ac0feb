"""qrnn sweep and qrnn tune: what they print and write, exit statuses, and what they refuse without writing anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.running import Workplace, tree


@pytest.fixture
def lab(place: Workplace) -> Workplace:
    """Make files for the lab, with a target whose costs come from a model, so that nothing is built."""
    place.path("board.toml").write_text(
        'name = "board"\ndescription = "A board"\n[core]\nword_bits = 32\ninstructions = ["mul"]\n[scheme]\nactivations = 8\n'
        '[cost]\nsource = "Assumed."\ninstructions_per_mac = 2.0\ninstructions_per_unit = 100.0\n'
    )
    return place


def given(place: Workplace, data: str = "labels") -> list[Any]:
    files = [
        "--calibration",
        place.path("x.npz"),
        "--data",
        place.path(f"{data}.npz"),
        "--target",
        place.path("board.toml"),
    ]
    return [place.path("gru.onnx"), *files]


def test_sweep(lab: Workplace) -> None:
    out = lab.path("out")
    arguments = [
        *given(lab),
        "-o",
        out,
        "--jobs",
        "1",
        "--no-latency",
        "--vary",
        "weights=8,4",
        "--vary",
        "gates=pwl:64",
    ]
    done = lab.cli("sweep", *arguments)
    assert (done.status, done.lines) == (0, []), done.err
    for part in ("2 configurations measured", "Front of sqnr, flash, instructions", "w8 a8 pwl:64", "~", "report.html"):
        assert part in done.out, part
    assert "on this machine" not in done.out, "no latency was measured"
    assert len(list((out / "results").iterdir())) == 2
    assert len(json.loads((out / "sweep.json").read_text())["points"]) == 2
    assert (out / "sqnr_flash.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = lab.cli("sweep", *arguments, "--only", "weights=8", "--limit", "1", "--front", "accuracy,flash")
    assert again.status == 0
    assert "1 configurations measured, 1 of them before" in again.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--vary", "width=8"], "axis 'width' is unknown"),
        (["--vary", "weights=5"], "weights=5, expected 16, 8, 4 or auto"),
        (["--vary", "weights"], "expected AXIS=VALUE"),
        (["--vary", "weights=8", "--vary", "weights=4"], "given twice"),
        (["--only", "gates=pwl:100"], "pwl:100"),
        (["--vary", "weights=8", "--only", "weights=4"], "no configuration is left"),
        (["--limit", "0"], "limit=0"),
        (["--jobs", "0"], "--jobs=0"),
        (["--front", "sqnr,beauty"], "figure 'beauty' is unknown"),
        (["--target", "cray-1"], "target 'cray-1' is unknown"),
        (["--jobs", "1", "--dask", "localhost:1"], "both given"),
        (["--data", "/nowhere.npz"], "no such file"),
    ],
)
def test_sweep_mistakes(lab: Workplace, arguments: list[str], says: str) -> None:
    lab.refused("sweep", *given(lab), "-o", lab.path("out"), *arguments, says=says)


def test_sweep_files_that_do_not_fit(lab: Workplace) -> None:
    lab.refused("sweep", *given(lab), "-o", lab.path("x.npz"), says="is a file")
    lab.refused("sweep", *given(lab), "-o", lab.folder, says="not empty")
    lab.refused("sweep", *given(lab, "ids"), "-o", lab.path("out"), says="'ids' is not an input")


def test_sweep_without_dask(lab: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    lab.refused("sweep", *given(lab), "-o", lab.path("out"), "--dask", "localhost:1", says="pip install 'qrnn[dask]'")


def test_tune(lab: Workplace) -> None:
    best = lab.path("best.qrnn")
    budgets = ["--min-sqnr", "30", "--flash", "64K", "--ram", "8K", "--instructions", "200k", "--most", "8"]
    done = lab.cli("tune", *given(lab), *budgets, "-o", best)
    assert (done.status, done.lines) == (0, []), done.err
    for part in ("one change", "configurations tried for board", "at most 65,536", "made by: qrnn convert", "wrote"):
        assert part in done.out, part
    scheme = json.loads(lab.cli("inspect", best, "--json").out)["provenance"]["scheme"]
    found = lab.cli("tune", *given(lab), *budgets, "--json")
    report = json.loads(found.out)
    assert report["met"] is True
    scheme.pop("widths")  # those that the conversion found for the scheme
    assert report["scheme"].items() >= scheme.items()
    assert [b["name"] for b in report["budgets"]] == ["SQNR about the mean", "flash", "RAM", "instructions a step"]


def test_tune_that_cannot(lab: Workplace) -> None:
    """Exit status 1, what is missing, and no file but the trials, with which the next search goes on."""
    before = tree(lab.folder)
    done = lab.cli("tune", *given(lab), "--min-sqnr", "30", "--flash", "4K", "--most", "5", "-o", lab.path("best.qrnn"))
    assert done.status == 1
    assert "not met: flash of 4,096 bytes cannot be met" in done.out
    assert {name: content for name, content in tree(lab.folder).items() if not name.startswith("best.trials")} == before
    arguments = ["tune", *given(lab), "--min-sqnr", "30", "--most", "5", "--trials", lab.path("best.trials")]
    again = lab.cli(*arguments)
    assert again.status == 0
    assert "5 configurations tried for board, 5 of them before" in " ".join(again.out.split())
    assert json.loads(lab.cli(*arguments, "--json").out)["tried_before"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "at least one of --max-accuracy-drop"),
        (["--flash", "64K"], "at least one of --max-accuracy-drop"),
        (["--min-sqnr", "30", "--flash", "64Q"], "--flash='64Q', expected bytes such as"),
        (["--min-sqnr", "30", "--instructions", "2KB"], "expected instructions such as"),
        (["--min-sqnr", "nan"], "--min-sqnr=nan"),
        (["--min-agreement", "101"], "0 to 100"),
        (["--min-sqnr", "30", "--cheapest", "price"], "--cheapest='price'"),
        (["--min-sqnr", "30", "--most", "0"], "--most=0"),
        (["--min-sqnr", "30", "-o", "/nowhere/at/all.qrnn"], "no folder"),
    ],
)
def test_tune_mistakes(lab: Workplace, arguments: list[str], says: str) -> None:
    lab.refused("tune", *given(lab), *arguments, says=says)


def test_tune_needs_labels(lab: Workplace, tmp_path: Path) -> None:
    lab.refused("tune", *given(lab, "lengths"), "--max-accuracy-drop", "1", says="needs labels")
