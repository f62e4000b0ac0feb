"""qrnn finetune: what it prints and writes, and what it refuses without writing anything. A scripted trainer stands for PyTorch."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from finetuning.classifiers import Scripted

import qrnn
from cli.running import Workplace, unsupported
from qrnn.finetuning import finetune
from qrnn.quantization.scheme import Scheme


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every epoch end with a model of finer gates and weights than the command asks for."""

    def make(job: finetune.Job) -> Scripted:
        better = qrnn.quantize(job.real, job.calibration, Scheme(input="8", activations=16))
        return Scripted([better] * 9)

    monkeypatch.setattr(finetune, "torch_trainer", lambda: make)


def given(place: Workplace, data: str = "lengths", **options: Any) -> list[Any]:
    named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    files = ["--calibration", place.path("x.npz"), "--data", place.path(f"{data}.npz"), "-o", place.path("out.qrnn")]
    return ["finetune", place.path("gru.onnx"), *files, "--weights", 4, "--gates", "hard", *named]


@pytest.mark.usefixtures("scripted")
def test_it_writes_a_model(place: Workplace) -> None:
    done = place.cli(*given(place, epochs=2, checkpoint=place.path("training")))
    assert (done.status, done.lines) == (0, []), done.err
    for part in (
        "mean square distance from the float model's 'logits'",
        "5 sequences to train on, 1 to judge on",
        "1 *",
    ):
        assert part in done.out, done.out
    assert "kept: after epoch 1" in done.out
    assert f"wrote {place.path('out.qrnn')}" in done.out.replace("\n", "")
    model = qrnn.load(place.path("out.qrnn"))
    assert model.provenance.scheme["activations"] == 16
    again = place.cli(*given(place, epochs=2, checkpoint=place.path("training")), "--json")
    report = json.loads(again.out)
    assert (report["best_epoch"], len(report["epochs"])) == (1, 2)
    assert report["after"]["loss"] < report["before"]["loss"]


@pytest.mark.usefixtures("scripted")
def test_labels_and_validation(place: Workplace) -> None:
    done = place.cli(*given(place, "labels", epochs=1, validation=place.path("labels.npz")))
    assert done.status == 0, done.err
    assert "cross-entropy of 'logits'" in done.out
    assert "6 sequences to train on, 6 to judge on" in done.out
    place.refused(
        *given(place, "labels", validation=place.path("lengths.npz")),
        says="validation data: mean square distance from the float model's 'logits', but the training data: cross-entropy",
    )


@pytest.mark.usefixtures("scripted")
def test_refused(place: Workplace) -> None:
    with np.load(place.path("labels.npz")) as d:
        good = dict(d)
    place.npz("range.npz", **{**good, "labels": np.full(6, 3)})
    place.npz("longer.npz", **{**good, "lengths": np.full(6, 9)})
    place.npz("fewer.npz", **{**good, "labels": np.zeros(5, int)})
    place.npz("strange.npz", **good, z=np.zeros(6))
    place.path("sin.onnx").write_bytes(unsupported())
    for data, says in (
        ("range", "training data: labels: value 3 at [0], expected a class of output 'logits', 0…2"),
        ("longer", "training data: lengths: value 9 at [0], expected 0…5"),
        ("fewer", "training data: labels: shape [5], expected [6]"),
        ("strange", "array 'z' is not an input of the model"),
    ):
        place.refused(*given(place, data), says=says)
    for options, says in (
        ({"epochs": 0}, "epochs=0, expected an integer of at least 1"),
        ({"learning_rate": -1}, "learning_rate=-1.0, expected a number above 0"),
        ({"train_output": "z"}, "output 'z' is no output of the model; expected one of ['logits']"),
        ({"checkpoint": place.path("x.npz")}, "it is also an input"),
        ({"checkpoint": place.path("out.qrnn")}, "--checkpoint and --output are both"),
        ({"checkpoint": "-"}, "expected the name of a file, from which training can go on"),
        ({"validation": place.path("none.npz")}, "none.npz: no such file"),
        ({"target": "nothing"}, "nothing"),
        ({"refine": "nothing"}, "nothing"),
    ):
        place.refused(*given(place, **options), says=says)
    place.path("damaged").write_bytes(b"7" * 100)
    place.refused(*given(place, checkpoint=place.path("damaged")), says="damaged: not a checkpoint")
    words = given(place)
    words[1] = place.path("sin.onnx")
    place.refused(*words, says=("Sin", "only models of integers throughout are fine-tuned"))
    words[1] = place.path("gru.qrnn")
    place.refused(*words, says="gru.qrnn")


def test_without_torch(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("qrnn.finetuning.trainer", "qrnn.finetuning.losses"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    place.refused(*given(place), says="fine-tuning needs torch, which is not installed: pip install 'qrnn[torch]'")
