"""A search that goes on: what it measured before is not measured again, and it finds what it would have found in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qrnn
from qrnn.errors import DataError
from qrnn.lab.budgets import Budgets
from qrnn.lab.trials import Trials
from qrnn.lab.tune import tune
from qrnn.targets import Target


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the list of every scheme that is measured, in order; at the count that `STOP_AFTER` says Ctrl-C is pressed."""
    found: list[object] = []
    measure = Trials._measure

    def recorded(self: Trials, scheme: Any) -> Any:
        if len(found) == STOP_AFTER.get("count"):
            raise KeyboardInterrupt
        found.append(scheme)
        return measure(self, scheme)

    monkeypatch.setattr(Trials, "_measure", recorded)
    return found


STOP_AFTER: dict[str, int] = {}


def test_an_interrupted_search_goes_on(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path, measured: list[object], monkeypatch: Any
) -> None:
    where = (files / "model.onnx", calibration, data, Budgets(min_sqnr=36.0))
    whole = tune(*where, target=board, most=9).to_dict()
    once = list(measured)
    measured.clear()
    monkeypatch.setitem(STOP_AFTER, "count", 4)
    with pytest.raises(KeyboardInterrupt):
        tune(*where, target=board, most=9, folder=tmp_path / "trials")
    monkeypatch.delitem(STOP_AFTER, "count")
    resumed = tune(*where, target=board, most=9, folder=tmp_path / "trials")
    assert measured == once  # each once, in the same order
    assert resumed.earlier == 4
    assert {**resumed.to_dict(), "tried_before": 0} == whole
    kept = json.loads((tmp_path / "trials" / "trials.json").read_text())
    assert kept == resumed.to_dict()
    assert "9 configurations tried for board, 4 of them before" in str(resumed)
    assert resumed.model.provenance.scheme == qrnn.load(next_model(tmp_path / "trials", resumed)).provenance.scheme


def next_model(folder: Path, result: qrnn.TuneResult) -> Path:
    """Return the kept file of the model that was found."""
    label = result.trials[0]["label"]
    record = next(r for p in (folder / "results").iterdir() if (r := json.loads(p.read_text()))["label"] == label)
    return folder / "models" / f"{record['key']}.qrnn"


def test_trials_are_shown_the_best_first(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path, measured: list[object]
) -> None:
    """Other budgets, and another order of costs, measure nothing again; what they miss is marked."""
    folder = tmp_path / "trials"
    first = tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=10.0), target=board, most=4, folder=folder)
    count = len(measured)
    other = tune(
        files / "model.onnx",
        calibration,
        data,
        Budgets(min_sqnr=36.0),
        target=board,
        cheapest="flash",
        most=4,
        folder=folder,
    )
    assert len(measured) == count
    assert other.earlier == other.tried == first.tried
    assert [t["met"] for t in other.trials] == sorted((t["met"] for t in other.trials), reverse=True)
    assert not all(t["met"] for t in other.trials)
    assert all(t["met"] for t in first.trials)
    assert {t["label"] for t in other.trials} == {t["label"] for t in first.trials}
    assert other.trials[0]["figures"] == other.figures


def test_another_setting_has_its_own_trials(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    folder, budgets = tmp_path / "trials", Budgets(min_sqnr=10.0)
    tune(files / "model.onnx", calibration, data, budgets, target=board, most=1, folder=folder)
    fewer = {name: array[:40] for name, array in data.items()}
    found = tune(files / "model.onnx", calibration, fewer, budgets, target=board, most=1, folder=folder)
    assert found.earlier == 0
    assert len(list((folder / "results").iterdir())) == 2


def test_folders_that_are_something_else(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not from an earlier sweep or search"):
        tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=1.0), target=board, most=1, folder=tmp_path)
    folder = tmp_path / "trials"
    tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=1.0), target=board, most=1, folder=folder)
    (record,) = (folder / "results").iterdir()
    record.write_text('{"key": "' + record.stem + '"}')
    with pytest.raises(DataError, match="not a record of qrnn sweep or tune; delete it"):
        tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=1.0), target=board, most=1, folder=folder)
