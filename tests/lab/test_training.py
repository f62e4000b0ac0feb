"""Training as an axis of sweeps and searches: what is trained, what is not trained again, and what the reports say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetuning.classifiers import Scripted

import qrnn
from qrnn.errors import DataError
from qrnn.finetuning.finetune import Job
from qrnn.lab.budgets import Budgets
from qrnn.lab.moves import moves, space
from qrnn.lab.outputs import write_outputs
from qrnn.lab.sweep import sweep
from qrnn.lab.training import Configuration, TrainingPlan, configuration
from qrnn.lab.tune import tune
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Target

VARY = {"gates": ("hard",), "refine": ("none", "bias"), "finetune": (0, 2)}


class Maker:
    """Makes trainers whose epochs end with models of wide operands and fine gates, and counts them."""

    def __init__(self) -> None:
        self.made: list[Scheme] = []

    def __call__(self, job: Job) -> Scripted:
        self.made.append(job.scheme)
        better = qrnn.quantize(job.real, job.calibration, Scheme(activations=16, input="16"), job.target)
        return Scripted([better] * job.training.epochs)


@pytest.fixture
def plan(data: dict[str, Any]) -> TrainingPlan:
    return TrainingPlan({"x": data["x"][:40]}, make=Maker())


def test_a_sweep_over_training(
    files: Path, calibration: Any, data: Any, board: Target, plan: TrainingPlan, tmp_path: Path
) -> None:
    assert isinstance(plan.make, Maker)
    model, more = files / "model.onnx", {"target": board, "vary": VARY, "latency": False}
    short = {name: data[name][:32] for name in ("x", "labels")}
    few = {"x": calibration["x"][:8]}
    result = sweep(model, few, short, tmp_path / "out", training=plan, **more)  # type: ignore[arg-type]
    trained = [r for r in result.records if r["scheme"]["finetune"]]
    assert len(result.records) == 4
    assert len(trained) == len(plan.make.made) == 2
    for r in result.records:
        if r["scheme"]["finetune"]:
            assert r["label"].endswith("finetune:2")
            assert (r["training"]["epochs"], r["training"]["best_epoch"]) == (2, 1)
            held_out = r["training"]["held_out"]
            assert held_out["after"]["loss"] < held_out["before"]["loss"]
        else:
            assert "training" not in r
    text = str(result)
    assert "What training buys beside refinement" in text
    assert "finetune=2" in text
    assert "refine=bias" in text
    paths = write_outputs(result, "m.onnx", "c.npz", "d.npz", ("--data", "t.npz"))
    report = (tmp_path / "out" / "report.html").read_text()
    assert "qrnn finetune m.onnx --calibration c.npz --target board --data t.npz" in report
    assert "--epochs 2" in report
    assert paths

    # What was measured is found again: without the axis too, and other training data concern trained configurations alone.
    again = sweep(model, few, short, tmp_path / "out", training=plan, **more)  # type: ignore[arg-type]
    assert (again.fresh, again.records) == (0, result.records)
    plain = {**VARY, "finetune": (0,)}
    assert sweep(model, few, short, tmp_path / "out", **{**more, "vary": plain}).fresh == 0  # type: ignore[arg-type]
    del plain["finetune"]
    untrained = sweep(model, few, short, tmp_path / "out", **{**more, "vary": plain})  # type: ignore[arg-type]
    assert untrained.fresh == 0
    assert "finetune" not in untrained.records[0]["scheme"]
    other = TrainingPlan({"x": data["x"][:41]}, make=plan.make)
    assert sweep(model, few, short, tmp_path / "out", training=other, **more).fresh == 2  # type: ignore[arg-type]


def test_what_is_refused(files: Path, calibration: Any, data: Any, board: Target, tmp_path: Path) -> None:
    model, more = files / "model.onnx", {"target": board, "vary": VARY, "latency": False}
    with pytest.raises(DataError, match=r"axis 'finetune' needs data to train on; give --train TRAIN\.npz"):
        sweep(model, calibration, data, tmp_path / "out", **more)  # type: ignore[arg-type]
    bad = TrainingPlan({"x": data["x"], "labels": np.full(len(data["x"]), 10)}, make=Maker())
    with pytest.raises(DataError, match=r"training data: labels: value 10 at \[0\], expected a class"):
        sweep(model, calibration, data, tmp_path / "out", training=bad, **more)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="training data: labels: value 10"):
        tune(model, calibration, data, Budgets(min_sqnr=1.0), target=board, training=bad)
    assert not (tmp_path / "out").exists()


def test_training_is_a_move(files: Path) -> None:
    model = qrnn.load_onnx(files / "model.onnx")
    found = {str(move): changed for move, changed in moves(Configuration(), space(model, 7))}
    assert found["finetune=7"] == Configuration(finetune=7)
    back = {str(move): changed for move, changed in moves(Configuration(finetune=7), space(model, 7))}
    assert back["finetune=0"] == configuration(Scheme())
    assert all(
        isinstance(changed, Configuration) and changed.finetune == 7 for m, changed in back.items() if m != "finetune=0"
    )
    assert not any(str(move).startswith("finetune") for move, _ in moves(Scheme(), space(model)))
    assert "finetune" not in Configuration(finetune=7).to_dict()


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_a_search_with_training(
    files: Path, calibration: Any, data: Any, board: Target, plan: TrainingPlan, seconds: float
) -> None:
    """With the time used up at once, one configuration is trained for no epoch, and no other is tried."""
    short = {name: data[name][:32] for name in ("x", "labels")}
    few = {"x": calibration["x"][:8]}
    plan = TrainingPlan(plan.data, seconds, qrnn.Training(epochs=2), plan.make)
    result = tune(files / "model.onnx", few, short, Budgets(min_sqnr=40.0), target=board, most=12, training=plan)
    change = [s for s in result.sensitivity if s.change == "finetune=2"]
    assert len(change) == 1
    gain = change[0].differences["sqnr_db"]
    assert gain is not None
    assert (gain > 0) == (seconds == 0.0)
    if result.training is not None:
        assert "trained for" in str(result)
