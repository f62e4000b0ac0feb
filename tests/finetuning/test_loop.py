"""The loop over epochs keeps the best model and none that is worse than the untrained one, ends early, and goes on from checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetuning.classifiers import Scripted, arrays, classifier, quantized
from qrnn.errors import DataError
from qrnn.finetuning.checkpoint import Checkpoint
from qrnn.finetuning.loop import Outcome, Progress, train
from qrnn.finetuning.scores import Score
from qrnn.finetuning.training import Training
from qrnn.model.quant_model import QuantModel


@pytest.fixture(scope="module")
def models() -> list[QuantModel]:
    """Return models that are not the same object."""
    model, data = classifier(), arrays()
    return [quantized(model, data, gates=f"pwl:{n}") for n in (32, 64, 128, 16, 256)]


class Judge:
    """Scores models by a list in the order of `models`."""

    def __init__(self, models: Sequence[QuantModel], scores: Sequence[Score]) -> None:
        self.by_model = {id(m): s for m, s in zip(models, scores, strict=True)}
        self.asked: list[Score] = []

    def __call__(self, model: QuantModel) -> Score:
        self.asked.append(self.by_model[id(model)])
        return self.asked[-1]


def run(models: list[QuantModel], losses: Sequence[float], training: Training | None = None, **more: Any) -> Outcome:
    """Train with models of such validation losses, the first of which is that of the untrained model."""
    scores = [Score(loss) for loss in losses]
    judge = Judge(models[: len(scores)], scores)
    trainer = more.pop("trainer", None) or Scripted(models[1 : len(scores)])
    return train(trainer, judge, (models[0], scores[0]), training or Training(epochs=len(scores) - 1), **more)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3, 2, 1, 4], 2),
        ([3, 4, 5, 6], 0),
        ([3, 3, 3, 3], 0),
        ([3, 4, 2, 2], 2),
        ([3, 2, 2, 1], 3),
    ],
)
def test_the_best_is_returned(models: list[QuantModel], losses: list[float], best: int) -> None:
    outcome = run(models, losses)
    assert outcome.best == best
    assert outcome.model is models[best]
    assert outcome.score == Score(min(losses))
    assert [epoch.score.loss for epoch in outcome.history] == losses[1:]
    assert outcome.ended == "all epochs are done"


def test_patience(models: list[QuantModel]) -> None:
    outcome = run(models, [3, 2, 4, 4, 1], Training(epochs=4, patience=2))
    assert (len(outcome.history), outcome.best) == (3, 1)
    assert outcome.ended == "no epoch of the last 2 was better"


def test_time(models: list[QuantModel]) -> None:
    """An epoch of 10 s does not begin where it would end after 25 s."""
    now = [0.0]

    class Slow(Scripted):
        def epoch(self, number: int, report: Callable[[float], None]) -> float:
            now[0] += 10
            return super().epoch(number, report)

    slow = Slow(models[1:])
    told: list[Progress] = []
    outcome = run(
        models, [5, 4, 3, 2, 1], Training(epochs=4, seconds=25), trainer=slow, clock=lambda: now[0], report=told.append
    )
    assert (len(outcome.history), outcome.best) == (2, 2)
    assert outcome.ended == "the time of 25 s is used up"
    assert [epoch.seconds for epoch in outcome.history] == [10, 10]
    assert told[-1].share == 0.5
    assert told[-1].seconds_left == 5.0
    assert told[-1].last == outcome.history[-1]


def test_no_number(models: list[QuantModel]) -> None:
    outcome = run(models, [3, 2, 1], trainer=Scripted(models[1:], [0.5, math.nan]))
    assert (len(outcome.history), outcome.best) == (1, 1)
    assert outcome.ended.startswith("the loss of epoch 2 is nan")


class StopHereError(Exception):
    """Interrupts a training."""


class Interrupted(Scripted):
    """Is interrupted in the third epoch."""

    def epoch(self, number: int, report: Callable[[float], None]) -> float:
        if number == 3:
            raise StopHereError
        return super().epoch(number, report)


@pytest.mark.parametrize("losses", [[5, 4, 3, 2, 9], [5, 1, 3, 2, 9], [5, 6, 7, 8, 9]])
def test_an_interrupted_training_goes_on(models: list[QuantModel], losses: list[float], tmp_path: Path) -> None:
    saving = Checkpoint(tmp_path / "training", {"model": "a"})
    with pytest.raises(StopHereError):
        run(models, losses, trainer=Interrupted(models[1:]), checkpoint=saving)
    again = Scripted(models[1:])
    outcome = run(models, losses, trainer=again, checkpoint=saving)
    assert again.trained == [3, 4]
    whole = run(models, losses)
    assert (outcome.model, outcome.score, outcome.best) == (whole.model, whole.score, whole.best)
    assert [e.score for e in outcome.history] == [e.score for e in whole.history]
    done = run(models, losses, trainer=Scripted(models[1:]), checkpoint=saving)  # nothing is left to train
    assert (done.model, done.best) == (whole.model, whole.best)


def test_a_checkpoint_cannot_make_it_worse(models: list[QuantModel], tmp_path: Path) -> None:
    """The best model of a checkpoint is judged again, since other numbers may have been computed elsewhere."""
    saving = Checkpoint(tmp_path / "training", {})
    run(models, [5, 1, 2], checkpoint=saving)
    outcome = train(
        Scripted(models[1:]), lambda _: Score(9.0), (models[0], Score(5.0)), Training(epochs=2), checkpoint=saving
    )
    assert (outcome.model, outcome.best, outcome.score) == (models[0], 0, Score(5.0))


def test_choices_are_checked() -> None:
    for bad, says in (
        ({"epochs": 0}, "epochs=0, expected an integer of at least 1"),
        ({"batch": 2.5}, "batch=2.5, expected an integer"),
        ({"seed": -1}, "seed=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0, expected a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"distill": 1.5}, "distill=1.5, expected a number of at least 0 and at most 1"),
        ({"held_out": 0.0}, "held_out=0.0, expected a number above 0 and at most 0.5"),
        ({"seconds": -1}, "seconds=-1, expected a number of at least 0"),
        ({"patience": True}, "patience=True, expected an integer"),
    ):
        with pytest.raises(DataError, match=says):
            Training(**bad)  # type: ignore[arg-type]
