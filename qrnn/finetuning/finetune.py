"""`qrnn.finetune`: a trained float model becomes a model of integers that was trained as what it is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qrnn.accuracy.metrics import decibels
from qrnn.conversion import DEFAULT_SCHEME, quantize
from qrnn.errors import DataError, UnsupportedError
from qrnn.finetuning.checkpoint import Checkpoint
from qrnn.finetuning.examples import Examples, examples, held_out
from qrnn.finetuning.goals import Goal, goal_of, outputs_to_follow
from qrnn.finetuning.loop import Report, Trainer, train
from qrnn.finetuning.result import Finetuned, Measures
from qrnn.finetuning.scores import float_runner, quantized_runner, score, with_followed
from qrnn.finetuning.training import Training
from qrnn.model.digest import array_digest
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.system.extras import missing_library
from qrnn.system.version import __version__


@dataclass(frozen=True)
class Job:
    """What a trainer is made for: a float model, how it is converted, what it is trained on, and the model ``untrained`` to start from."""

    real: FloatModel
    calibration: Mapping[str, Any]
    scheme: Scheme
    target: str
    examples: Examples
    training: Training
    untrained: QuantModel


MakeTrainer = Callable[[Job], Trainer]


def finetune(
    model: FloatModel | str | os.PathLike[str],
    calibration: Mapping[str, Any] | str,
    data: Mapping[str, Any],
    *,
    validation: Mapping[str, Any] | None = None,
    scheme: Scheme | None = None,
    target: str = "generic",
    training: Training | None = None,
    output: str | None = None,
    blank: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
    trainer: MakeTrainer | None = None,
) -> Finetuned:
    """Convert a float model as `qrnn.quantize` does and train what that gives, through the integers that the device computes.

    Parameters
    ----------
    model: a float model, or the path of an ONNX or Keras file. Its weights are where training begins.
    calibration, scheme, target: as for `qrnn.quantize`.
    data: arrays by graph input, batch first, optionally with ``lengths``; and what to train towards. ``labels`` [N] are a class for each
        sequence, decided at its last step, [N, T] one for each step, and [N, L] with ``label_lengths`` [N] a sequence of classes without
        times (CTC, whose class of no label is ``blank``). Arrays under the names of graph outputs are targets, by the mean square. With
        neither, the model is trained to give what the float model gives (distillation).
    validation: such arrays that nothing is trained on, by which epochs are judged; without them, a part of ``data`` is held out.
    training: how long and in which steps; None stands for `Training`'s defaults.
    output: the graph output that labels belong to, or that alone is trained; the first one that decides when left out.
    checkpoint: a file that is written after every epoch, and from which an interrupted training goes on.
    progress: called with a `qrnn.finetuning.loop.Progress` after each step.
    trainer: makes what trains, in the place of PyTorch with `qrnn.qat`.

    Returns the best of the models after each epoch and the one without training, by the wrong decisions on the validation data and then by
    their loss: never one that is worse than without training. The same arguments give the same model on the same machine.

    Raises MissingLibraryError where PyTorch is not installed, DataError for data that do not fit the model (a label that is out of range,
    lengths that differ), UnsupportedError for a model with parts that stay in float or layers that cannot be trained, and what `qrnn.quantize`
    raises.
    """
    make = trainer or torch_trainer()
    real = opened(model)
    if isinstance(calibration, str):
        raise DataError(
            f"calibration={calibration!r}, expected arrays by input name: training needs the formats of real data"
        )
    training = training or Training()
    goal = goal_of(real, data, output, blank)
    found = examples(real, data, goal)
    if validation is None:
        own, judged = held_out(found, training.held_out, training.seed)
    else:
        own, judged = found, examples(real, validation, _same_goal(real, validation, goal, output), "validation data")
    untrained = quantize(real, calibration, scheme, target, progress=False)
    if goal.kind == "float" or training.distill > 0:
        own = with_followed(own)
    if goal.kind == "float":
        judged = with_followed(judged)
    saving = None
    if checkpoint is not None:
        saving = Checkpoint(Path(checkpoint), identity_of(real, untrained, calibration, own, judged, training))
    before = score(quantized_runner(untrained), judged)
    outcome = train(
        make(Job(real, calibration, scheme or DEFAULT_SCHEME, target, own, training, untrained)),
        lambda made: score(quantized_runner(made), judged),
        (untrained, before),
        training,
        saving,
        progress,
    )
    kept = f"trained for {len(outcome.history)} epochs, {goal}; epoch {outcome.best} kept"
    return Finetuned(
        with_decision(outcome.model, kept) if outcome.best else outcome.model,
        untrained,
        str(goal),
        Measures(before, sqnr_of(untrained, judged)),
        Measures(outcome.score, sqnr_of(outcome.model, judged)),
        None if goal.kind == "float" else score(float_runner(real), judged),
        outcome.history,
        outcome.best,
        outcome.ended,
        own.size,
        judged.size,
    )


def with_decision(model: QuantModel, text: str) -> QuantModel:
    """Return the model with one more decision in its provenance, which ``qrnn inspect`` shows."""
    provenance = replace(model.provenance, decisions=(*model.provenance.decisions, text))
    return replace(model, provenance=provenance)


def opened(model: Any) -> FloatModel:
    """Return the float model of a file, or ``model`` itself where it is one; errors name what cannot be trained."""
    from qrnn.trained_files import load_trained

    if isinstance(model, FloatModel):
        return model
    refusal = getattr(model, "refusal", None)
    if callable(refusal):
        raise UnsupportedError(refusal("finetune"))
    if isinstance(model, QuantModel):
        raise DataError(
            "finetune: a QuantModel, whose weights are rounded; give the float model or the file that it was made from"
        )
    if not isinstance(model, (str, os.PathLike)):
        raise DataError(
            f"finetune: {type(model).__name__}, expected a FloatModel or the path of an ONNX or Keras file; "
            "qrnn.from_torch makes a FloatModel of a PyTorch module"
        )
    return load_trained(model)


def torch_trainer() -> MakeTrainer:
    """Return what makes the trainer in PyTorch; MissingLibraryError where that is not installed."""
    try:
        from qrnn.finetuning.trainer import TorchTrainer, begin_with
    except ModuleNotFoundError as error:
        raise missing_library(error, "fine-tuning") from None

    def make(job: Job) -> Trainer:
        from qrnn.qat import prepare

        chosen = job.training.learned_scales
        learned = job.scheme.weights == 4 if chosen is None else chosen
        module = prepare(job.real, job.calibration, job.scheme, job.target, learned)
        resolved = Scheme(**job.untrained.provenance.scheme)
        if {"rounding", "bias"} & set(resolved.methods) and resolved.weights != 16:
            begin_with(module, job.untrained)
        return TorchTrainer(module, job.examples, job.training, job.calibration)

    return make


def _same_goal(model: FloatModel, validation: Mapping[str, Any], goal: Goal, output: str | None) -> Goal:
    """Return the goal of the validation data, which has to be that of the training data."""
    found = goal_of(model, validation, output, goal.blank)
    if found.kind != goal.kind or found.outputs != goal.outputs:
        raise DataError(f"validation data: {found}, but the training data: {goal}; expected the same of both")
    return found


def sqnr_of(model: QuantModel, judged: Examples) -> dict[str, float | None]:
    """Return the SQNR in dB of each output that is no recurrent state, against the float model; None for one that is exact."""
    found: dict[str, float | None] = {}
    followed = with_followed(replace(judged, goal=Goal("float", outputs_to_follow(judged.model)), labels=None))
    run = quantized_runner(model)
    for name in followed.goal.outputs:
        alone = replace(followed, goal=Goal("float", (name,)), followed={name: followed.followed[name]})
        noise = score(run, alone).loss
        db = decibels(1.0, noise)
        found[name] = db if math.isfinite(db) else None
    return found


def identity_of(
    real: FloatModel,
    untrained: QuantModel,
    calibration: Mapping[str, Any],
    own: Examples,
    judged: Examples,
    training: Training,
) -> dict[str, str]:
    """Return what a checkpoint belongs to: everything that the trained weights depend on, as texts."""
    from qrnn.model.file import model_digest

    return {
        "qrnn": __version__,
        "model": real.source_sha256 or real.name,
        "conversion": model_digest(untrained),
        "scheme": json.dumps(untrained.provenance.scheme, sort_keys=True, default=str),
        "calibration": array_digest(dict(calibration)),
        "training data": own.digest(),
        "validation data": judged.digest(),
        "goal": str(own.goal),
        **{f"choice of {name}": json.dumps(value) for name, value in training.decisive.items()},
    }
