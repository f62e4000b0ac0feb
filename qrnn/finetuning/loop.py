"""The loop over epochs: train, judge what would be deployed, keep the best, end early; whatever it is that trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from qrnn.errors import DataError
from qrnn.finetuning.checkpoint import Arrays, Checkpoint, Epoch, Saved
from qrnn.finetuning.scores import Score
from qrnn.finetuning.training import Training
from qrnn.model.quant_model import QuantModel


class Trainer(Protocol):
    """What trains a model: its state is arrays by name, from which it goes on exactly as it would have."""

    def epoch(self, number: int, report: Callable[[float], None]) -> float:
        """Go through the training data once, as epoch ``number`` from 1 on, and return the mean loss; ``report`` is told the share done."""

    def deploy(self) -> QuantModel:
        """Return the model that would be deployed now."""

    def state(self) -> Arrays:
        """Return copies of all arrays that training goes on from."""

    def load(self, state: Arrays) -> None:
        """Go on from the arrays that `state` returned; DataError where they do not fit."""


@dataclass(frozen=True)
class Outcome:
    """What a training came to: the best model and its score, and all epochs; ``best`` is 0 where the untrained model is as good."""

    model: QuantModel
    score: Score
    history: tuple[Epoch, ...]
    best: int
    ended: str
    """Why no further epoch was trained, in words."""


@dataclass(frozen=True)
class Progress:
    """How far a training is: the share of all epochs that is done, the seconds that are left by the time taken, and the last epoch."""

    share: float
    seconds_left: float | None
    last: Epoch | None
    best: int


Report = Callable[[Progress], None]


def train(
    trainer: Trainer,
    judge: Callable[[QuantModel], Score],
    untrained: tuple[QuantModel, Score],
    training: Training,
    checkpoint: Checkpoint | None = None,
    report: Report | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train, judge every epoch's model, and return the best of these and the ``untrained`` one, which is returned unless one is better.

    Where ``checkpoint`` has a file, training goes on from it. A loss that is no number ends the training with what was best.
    """
    saved = Saved() if checkpoint is None else checkpoint.read() or Saved()
    if saved.history:
        trainer.load(saved.arrays)
    best = untrained if saved.best == 0 else (None, saved.history[saved.best - 1].score)
    clocked = _Clock(training, saved.history, clock, report)
    ended = _ended(training, saved)
    while not ended:
        number = len(saved.history) + 1
        if not clocked.has_time():
            ended = f"the time of {training.seconds:g} s is used up"
            break
        began = clock()
        loss = trainer.epoch(number, partial(clocked.tell, saved))
        if not math.isfinite(loss):
            ended = f"the loss of epoch {number} is {loss}; try a smaller learning rate"
            break
        model = trainer.deploy()
        score = judge(model)
        epoch = Epoch(number, loss, score, clock() - began)
        state = trainer.state()
        saved = replace(saved, history=(*saved.history, epoch), arrays=state)
        if score.key < best[1].key:
            best = model, score
            saved = replace(saved, best=number, best_arrays=state)
        if checkpoint is not None:
            checkpoint.write(saved)
        clocked.tell(saved, 0.0)
        ended = _ended(training, saved)
    model, score = best if best[0] is not None else _again(trainer, judge, saved)
    if score.key > untrained[1].key:  # only by a checkpoint that was made elsewhere, with other numbers
        return Outcome(*untrained, saved.history, 0, ended)
    return Outcome(model, score, saved.history, saved.best, ended)


def _again(trainer: Trainer, judge: Callable[[QuantModel], Score], saved: Saved) -> tuple[QuantModel, Score]:
    """Return the best model of epochs that another process trained, and its score."""
    if not saved.best_arrays:
        raise DataError("the checkpoint has no arrays of its best epoch; delete it, and training begins anew")
    trainer.load(saved.best_arrays)
    model = trainer.deploy()
    return model, judge(model)


def _ended(training: Training, saved: Saved) -> str:
    """Return why training ends where it stands; nothing where it goes on."""
    done = len(saved.history)
    if done >= training.epochs:
        return "all epochs are done"
    if training.patience and done - saved.best >= training.patience:
        return f"no epoch of the last {training.patience} was better"
    return ""


class _Clock:
    """Watches the time of this process's epochs, and says how much is left."""

    def __init__(
        self, training: Training, earlier: tuple[Epoch, ...], clock: Callable[[], float], report: Report | None
    ) -> None:
        self.training, self.clock, self.report = training, clock, report
        self.spent_before = sum(epoch.seconds for epoch in earlier)
        self.began, self.earlier = clock(), len(earlier)
        self.longest = max((epoch.seconds for epoch in earlier), default=0.0)

    def has_time(self) -> bool:
        """Return whether another epoch, as long as the longest so far, ends in time."""
        if not self.training.seconds:
            return True
        return self.spent_before + (self.clock() - self.began) + self.longest <= self.training.seconds

    def tell(self, saved: Saved, share: float) -> None:
        """Tell how far the training is, with ``share`` of the next epoch done."""
        done = len(saved.history) + share
        self.longest = max((epoch.seconds for epoch in saved.history), default=self.longest)
        if self.report is None:
            return
        own, left = done - self.earlier, None
        if own > 0:
            left = (self.clock() - self.began) / own * (self.training.epochs - done)
            if self.training.seconds:
                left = min(left, max(0.0, self.training.seconds - self.spent_before - (self.clock() - self.began)))
        last = saved.history[-1] if saved.history else None
        self.report(Progress(done / self.training.epochs, left, last, saved.best))
