"""qrnn gates: the table, JSON, the picture, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.running import Cli, Workplace


@pytest.fixture
def place(tmp_path: Path, cli: Cli) -> Workplace:
    return Workplace(tmp_path, cli)


def listed(cli: Cli, *arguments: Any) -> dict[str, dict[str, Any]]:
    done = cli("gates", "--json", *arguments)
    assert (done.status, done.lines) == (0, [])
    return {one["label"]: one for one in json.loads(done.out)}


def test_choices_side_by_side(cli: Cli) -> None:
    found = listed(cli)
    assert list(found) == ["sigmoid pwl:128", "tanh pwl:128", "sigmoid hard", "tanh hard", "sigmoid step"]
    table = found["sigmoid pwl:128"]
    assert (table["kind"], table["in_frac"], table["out_frac"]) == ("odd", 11, 15)
    assert (table["table_entries"], table["table_bytes"]) == (129, 516)
    assert 3.6 < table["max_error_lsb"] < 3.8
    assert table["max_error"] == table["max_error_lsb"] / 2**15
    assert abs(abs(table["max_error_at"]) - 1.44) < 0.1
    assert all(one["monotone"] for one in found.values())
    assert [one["odd_symmetric"] for one in found.values()] == [True, True, False, True, False]
    step = found["sigmoid step"]
    assert (step["integer_function"], step["function"]) == ("step", "sigmoid")
    assert step["max_error"] == 0.5, "against the sigmoid that it stands for"
    assert found["tanh hard"]["max_error"] == pytest.approx(1 - 0.76159, abs=1e-3)


def test_text(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = cli("gates", "--gates", "pwl:8,forget=step,candidate=hard")
    assert (done.status, done.lines) == (0, [])
    for part in ("sigmoid pwl:8", "tanh pwl:8", "forget=step", "candidate=hard", "Q3.12", "Q4.11", "36"):
        assert part in done.out


def test_functions(cli: Cli) -> None:
    names = ("elu", "elu:2", "scaled_tanh:1.7159,0.6667", "softplus", "relu", "step", "hard_sigmoid")
    found = listed(cli, *(part for name in names for part in ("--function", name)))
    assert list(found) == [
        *("elu(1)", "elu(2)", "scaled_tanh(1.7159, 0.6667)", "softplus", "relu", "step", "hard_sigmoid(0.2, 0.5)")
    ]
    assert found["elu(1)"]["in_frac"] == 11
    assert found["elu(1)"]["kind"] == "table"
    assert found["relu"]["max_error"] == 0.0
    assert list(listed(cli, "--function", "tanh", "--gates", "pwl:1024")) == ["tanh pwl:1024"]


def test_clip(cli: Cli) -> None:
    found = listed(cli, "--function", "tanh", "--function", "softsign", "--clip", "0.5")
    assert found["tanh"]["high"] == pytest.approx(15142, abs=8)
    assert found["tanh"]["max_error_lsb"] < 8
    assert found["softsign"]["high"] == pytest.approx(10923, abs=25)


def test_picture(place: Workplace) -> None:
    pytest.importorskip("matplotlib")
    done = place.cli("gates", "--plot", place.path("gates.png"), "--gates", "step")
    assert (done.status, done.lines) == (0, [])
    assert place.path("gates.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in place.folder.iterdir()] == ["gates.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gates", "lut:8"], "item 'lut:8'"),
        (["--gates", "candidate=step"], "tanh"),
        (["--gates", "foo=step"], "forget"),
        (["--function", "sin"], "softplus"),
        (["--function", "affine"], "affine:ALPHA,BETA"),
        (["--function", "elu:a"], "not numbers"),
        (["--function", "elu:1,2"], "elu:ALPHA"),
        (["--function", "tanh:1"], "0 parameters"),
        (["--function", "elu:nan"], "finite"),
        (["--clip", "-1"], "clip=-1.0"),
        (["--plot", "/nowhere/at/all.png"], "no folder"),
    ],
)
def test_mistakes(place: Workplace, arguments: list[str], says: str) -> None:
    place.refused("gates", *arguments, says=says)


def test_without_matplotlib(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = place.cli("gates", "--plot", place.path("gates.png"))
    assert (done.status, done.out.count("sigmoid pwl:128")) == (2, 1)  # what was computed is shown all the same
    assert done.lines == ["error: pictures need matplotlib; install it with: pip install 'qrnn[plot]'"]
    assert not place.path("gates.png").exists()
