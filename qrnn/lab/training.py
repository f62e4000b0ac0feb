"""Training as an axis of the laboratory: a configuration says for how many epochs it is trained, and a plan says on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from qrnn.errors import DataError, QuantizationError
from qrnn.finetuning.examples import examples
from qrnn.finetuning.finetune import MakeTrainer, finetune, torch_trainer
from qrnn.finetuning.goals import goal_of
from qrnn.finetuning.result import Finetuned
from qrnn.finetuning.training import Training
from qrnn.model.digest import array_digest
from qrnn.model.float_model import FloatModel
from qrnn.quantization.scheme import Scheme

AXIS = "finetune"
"""The axis whose values are numbers of epochs."""


@dataclass(frozen=True)
class Configuration(Scheme):
    """A scheme, and for how many epochs what it gives is trained; 0 for no training."""

    finetune: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.finetune) is not int or self.finetune < 0:
            raise QuantizationError(f"{AXIS}={self.finetune!r}, expected a number of epochs, or 0")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the scheme, which is what the model is quantized by."""
        fields = super().to_dict()
        del fields[AXIS]
        return fields


def configuration(scheme: Scheme) -> Configuration:
    """Return a scheme as a configuration, which is not trained unless it says so."""
    return scheme if isinstance(scheme, Configuration) else Configuration(**vars(scheme))


def epochs_of(scheme: Scheme) -> int:
    """Return for how many epochs a configuration is trained."""
    return scheme.finetune if isinstance(scheme, Configuration) else 0


@dataclass(frozen=True)
class TrainingPlan:
    """What configurations are trained on: arrays as for `qrnn.finetune`, of which a part is held out to judge epochs by.

    ``seconds`` limits the training of one configuration, 0 for no limit. ``choices`` are those of every training but for its epochs and its
    time. ``make`` makes what trains, in the place of PyTorch.
    """

    data: Mapping[str, Any]
    seconds: float = 0.0
    choices: Training = field(default_factory=Training)
    make: MakeTrainer | None = None

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the data and the choices."""
        return array_digest(dict(self.data), json.dumps({**self.choices.decisive, "seconds": self.seconds}))

    def train(
        self,
        model: FloatModel,
        calibration: Mapping[str, Any],
        scheme: Scheme,
        target: str,
        seconds: float | None = None,
    ) -> Finetuned:
        """Convert and train a configuration, for at most ``seconds`` where these are given."""
        training = replace(self.choices, epochs=epochs_of(scheme), seconds=self.seconds if seconds is None else seconds)
        return finetune(
            model, calibration, self.data, scheme=scheme, target=target, training=training, trainer=self.make
        )

    def check(self, model: FloatModel) -> None:
        """Raise DataError for data that do not fit the model, and MissingLibraryError where nothing can train."""
        replace(self.choices, seconds=self.seconds)
        examples(model, self.data, goal_of(model, self.data))
        if self.make is None:
            torch_trainer()


def check_plan(plan: TrainingPlan | None, schemes: Sequence[Scheme], model: FloatModel) -> None:
    """Refuse configurations that are trained where no plan says on what, and a plan that does not fit."""
    if any(map(epochs_of, schemes)):
        if plan is None:
            raise DataError(f"axis {AXIS!r} needs data to train on; give --train TRAIN.npz")
        plan.check(model)


def brief(found: Finetuned) -> dict[str, Any]:
    """Return what a record says of a training."""
    return {
        "goal": found.goal,
        "epochs": len(found.history),
        "best_epoch": found.best,
        "seconds": found.seconds,
        "ended": found.ended,
        "held_out": {"before": found.before.to_dict(), "after": found.after.to_dict()},
    }
