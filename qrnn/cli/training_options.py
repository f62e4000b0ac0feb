"""The options by which ``qrnn sweep`` and ``qrnn tune`` train configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import read_arrays
from qrnn.errors import DataError

if TYPE_CHECKING:
    from qrnn.lab.training import TrainingPlan
    from qrnn.model.float_model import FloatModel

TrainOption = Annotated[
    Path | None,
    typer.Option(
        metavar="TRAIN.npz", help="What configurations are trained on, as for finetune; a part of it is held out."
    ),
]

TrainSecondsOption = Annotated[
    float,
    typer.Option(
        help="The most seconds of training: of one configuration (sweep), of all together (tune); 0: no limit."
    ),
]

TrainEpochsOption = Annotated[int, typer.Option(help="The epochs of every training.")]

TrainSeedOption = Annotated[int, typer.Option(help="The seed of every training.")]


def training_words(train: Path | None, seconds: float, seed: int) -> tuple[str, ...]:
    """Return the options of ``qrnn finetune`` that a training in the laboratory has."""
    if train is None:
        return ()
    named = (("--seconds", seconds), ("--seed", seed))
    return ("--data", str(train), *(word for name, value in named if value for word in (name, f"{value:g}")))


def training_plan(
    train: Path | None, model: FloatModel, seconds: float, seed: int, epochs: int | None = None
) -> TrainingPlan | None:
    """Return on what configurations are trained; None without ``--train``, beside which alone the other options mean something."""
    from qrnn.cli.finetune import training_names
    from qrnn.finetuning.training import Training
    from qrnn.lab.training import TrainingPlan

    if train is None:
        if seconds or seed:
            raise DataError(
                "--train-seconds and --train-seed are given without --train; expected TRAIN.npz beside them"
            )
        return None
    choices = Training(seed=seed) if epochs is None else Training(epochs=epochs, seed=seed)
    return TrainingPlan(read_arrays(train, model.inputs, training_names(model)), seconds, choices)
