"""`qrnn.finetune` from end to end, with a trainer that trains nothing: what it returns, reports, refuses and keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from finetuning.classifiers import CLASSES, Scripted, arrays, classifier, quantized
from qrnn.errors import DataError, MissingLibraryError
from qrnn.finetuning.examples import Examples
from qrnn.finetuning.finetune import Job, MakeTrainer
from qrnn.model.file import model_digest
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme

SCHEME = Scheme(weights=4, refine="none", input="8")
WORST = "step"
"""Gates that are far from the float model's."""


class Maker:
    """Makes scripted trainers, and keeps what they were made for."""

    def __init__(self, models: list[QuantModel]) -> None:
        self.models, self.examples = models, list[Examples]()

    def __call__(self, job: Job) -> Scripted:
        self.examples.append(job.examples)
        return Scripted(self.models)


def followed(model: FloatModel, data: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the class that the float model decides for, for each sequence."""
    outputs = qrnn.run_oracle(model, {"x": data["x"]}, data["lengths"]).outputs["y"]
    chosen: np.ndarray[Any, Any] = outputs[np.arange(len(outputs)), data["lengths"] - 1].argmax(axis=-1)
    return chosen


@pytest.mark.parametrize("kind", ["labels", "float"])
def test_the_better_model_is_kept(kind: str) -> None:
    model, data = classifier(), arrays(40)
    if kind == "labels":
        data["labels"] = followed(model, data)
    better, worse = quantized(model, data), quantized(model, data, gates=WORST)
    make = Maker([worse, better, worse])
    found = qrnn.finetune(
        model, arrays(40), data, validation=data, scheme=SCHEME, training=qrnn.Training(epochs=3), trainer=make
    )
    assert found.best == 2
    assert model_digest(found.model) == model_digest(better)
    assert found.model.provenance.decisions[-1] == f"trained for 3 epochs, {found.goal}; epoch 2 kept"
    assert found.after.score.key < found.before.score.key
    assert found.after.score == found.history[1].score
    before, after = found.before.sqnr_db["y"], found.after.sqnr_db["y"]
    assert before is not None
    assert after is not None
    assert after > before
    report = qrnn.compare(model, better, {name: data[name] for name in ("x", "lengths")})
    assert after == pytest.approx(report.outputs["y"].sqnr_db, abs=1e-4)  # float32 against float64
    assert (found.sequences, found.judged) == (40, 40)
    for text in (repr(found), str(found)):
        assert "after epoch 2" in text
    assert found.to_dict()["best_epoch"] == 2
    assert len(make.examples[0].followed) == 1


def test_never_worse_than_without_training() -> None:
    model, data = classifier(), arrays(40)
    make = Maker([quantized(model, data, gates=WORST)] * 2)
    found = qrnn.finetune(
        model, data, data, scheme=Scheme(input="8"), training=qrnn.Training(epochs=2, held_out=0.25), trainer=make
    )
    assert found.best == 0
    assert found.after == found.before
    plain = qrnn.quantize(model, data, Scheme(input="8"))
    assert model_digest(found.untrained) == model_digest(plain)
    assert found.model is found.untrained
    session, want = (qrnn.Session(m).run({"x": data["x"]}, data["lengths"]).outputs["y"] for m in (found.model, plain))
    assert np.array_equal(session, want)
    assert (found.sequences, found.judged) == (30, 10)
    assert "no epoch is better" in str(found)


def test_checkpoints_belong_to_one_training(tmp_path: Path) -> None:
    model, data = classifier(), arrays(40)
    data["labels"] = followed(model, data)
    better = quantized(model, data)

    def run(**more: Any) -> qrnn.Finetuned:
        given: dict[str, Any] = {"training": qrnn.Training(epochs=2), "scheme": SCHEME, "data": data, **more}
        return qrnn.finetune(
            model, arrays(40), checkpoint=tmp_path / "training", trainer=Maker([better, better]), **given
        )

    first = run()
    assert run().history == first.history  # read back
    run(training=qrnn.Training(epochs=2, patience=1, seconds=100))  # which only end it earlier
    for more, says in (
        ({"training": qrnn.Training(epochs=3)}, "another choice of epochs: 2, here 3"),
        ({"training": qrnn.Training(epochs=2, seed=1)}, "another choice of seed"),
        ({"scheme": Scheme(input="8")}, "another conversion"),
        ({"data": {**data, "labels": (data["labels"] + 1) % CLASSES}}, "another training data"),
    ):
        with pytest.raises(DataError, match=says):
            run(**more)


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("qrnn.finetuning.trainer", "qrnn.finetuning.losses"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingLibraryError, match=r"fine-tuning needs torch, .*: pip install 'qrnn\[torch\]'"):
        qrnn.finetune(classifier(), arrays(), arrays())


def test_what_cannot_be_trained() -> None:
    make: MakeTrainer = Maker([])
    model, data = classifier(), arrays()
    with pytest.raises(DataError, match="a QuantModel, whose weights are rounded"):
        qrnn.finetune(quantized(model, data), data, data, trainer=make)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="calibration='random', expected arrays by input name"):
        qrnn.finetune(model, "random", data, trainer=make)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="inputs: list, expected a mapping"):
        qrnn.finetune(model, data, [], trainer=make)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="list, expected a FloatModel or the path of an ONNX or Keras file"):
        qrnn.finetune([], data, data, trainer=make)  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match=r"validation data: mean square distance .*, but the training data: cross-entropy"
    ):
        qrnn.finetune(model, data, {**data, "labels": np.zeros(12, int)}, validation=data, trainer=make)
