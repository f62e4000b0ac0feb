"""The losses that a training minimizes, in PyTorch: those of `qrnn.finetuning.scores`, with gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from qrnn.finetuning.examples import Examples
from qrnn.finetuning.goals import Goal
from qrnn.finetuning.scores import LEAST_PROBABILITY
from qrnn.model.parts import FloatArray, IndexArray


def powers(piece: Examples) -> dict[str, float]:
    """Return the mean square of the values that each of the goal's outputs should have, 1 for an output that should be zero."""
    found = {}
    for output in piece.outputs:
        if output.name in piece.wanted:
            axis, values = piece.axis(output), piece.wanted[output.name]
            real = values if axis is None else axis.real(values)
            found[output.name] = float(np.mean(np.square(real, dtype=np.float64))) or 1.0
    return found


def loss_of(
    outputs: Mapping[str, torch.Tensor], piece: Examples, power: Mapping[str, float], distill: float
) -> torch.Tensor:
    """Return the loss of a piece of the examples: (1 - ``distill``) of that of labels or targets, and ``distill`` of following the float model.

    ``power`` is what `powers` gives for all examples. The loss of classes that follow the float model is the divergence of their
    probabilities from the float model's (Hinton et al. 2015, at temperature 1), that of values the mean square distance over ``power``.
    """
    if piece.goal.kind == "float":
        return distance(outputs, piece, piece.followed, power)
    own = of_labels(outputs, piece) if piece.goal.of_labels else distance(outputs, piece, piece.targets, power)
    if not piece.followed or distill == 0:
        return own
    away = divergence(outputs, piece) if piece.goal.of_labels else distance(outputs, piece, piece.followed, power)
    return (1 - distill) * own + distill * away


def of_labels(outputs: Mapping[str, torch.Tensor], piece: Examples) -> torch.Tensor:
    """Return the mean negative logarithm of the probability of the labels; for CTC the mean over sequences."""
    values = outputs[piece.goal.outputs[0]]
    if piece.goal.kind != "ctc":
        places = piece.places()
        chances = log_probabilities(_rows(values[_index(places.where)]), piece.goal)
        return functional.nll_loss(chances, torch.from_numpy(places.labels))
    (output,) = piece.outputs
    axis, labels, counts = piece.axis(output), piece.labels, piece.label_lengths
    assert axis is not None and labels is not None and counts is not None  # noqa: PT018
    chances = log_probabilities(values.reshape(-1, piece.goal.classes), piece.goal).reshape(*values.shape[:2], -1)
    losses = functional.ctc_loss(
        chances.transpose(0, 1),
        torch.from_numpy(labels),
        torch.from_numpy(axis.lengths),
        torch.from_numpy(counts),
        blank=piece.goal.blank,
        reduction="none",
    )
    return losses.mean()


def divergence(outputs: Mapping[str, torch.Tensor], piece: Examples) -> torch.Tensor:
    """Return how far the classes' probabilities are from those of the float model, where classes are decided."""
    name = piece.goal.outputs[0]
    (output,) = piece.outputs
    axis = piece.axis(output)
    if piece.goal.kind == "ctc" and axis is not None:
        index: tuple[IndexArray, ...] = np.nonzero(axis.mask)
    else:
        index = piece.places().where
    got = log_probabilities(_rows(outputs[name][_index(index)]), piece.goal)
    want = log_probabilities(_rows(torch.from_numpy(piece.followed[name][index])), piece.goal)
    return functional.kl_div(got, want, reduction="batchmean", log_target=True)


def distance(
    outputs: Mapping[str, torch.Tensor], piece: Examples, wanted: Mapping[str, FloatArray], power: Mapping[str, float]
) -> torch.Tensor:
    """Return the mean square distance of outputs from ``wanted`` over valid steps, each over its ``power``; the mean of all outputs."""
    parts = []
    for output in piece.outputs:
        axis, got = piece.axis(output), outputs[output.name]
        want = torch.from_numpy(wanted[output.name])
        if axis is not None:
            mask = torch.from_numpy(axis.mask)
            got, want = got[mask], want[mask]
        parts.append(functional.mse_loss(got.reshape(want.shape), want) / power.get(output.name, 1.0))
    return torch.stack(parts).mean()


def log_probabilities(values: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Return the logarithms [M, classes] of the probabilities of the classes, from the values [M, F] of an output."""
    if goal.threshold is not None:
        first = values[:, 0]
        if goal.values == "probabilities":
            yes, no = torch.log(first + LEAST_PROBABILITY), torch.log(1 - first + LEAST_PROBABILITY)
        else:
            yes, no = functional.logsigmoid(first), functional.logsigmoid(-first)
        return torch.stack([no, yes], dim=1)
    scores = torch.log(values + LEAST_PROBABILITY) if goal.values == "probabilities" else values
    return functional.log_softmax(scores, dim=-1)


def _rows(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(len(values), -1)


def _index(index: tuple[IndexArray, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(i) for i in index)
