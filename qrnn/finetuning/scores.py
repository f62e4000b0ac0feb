"""Scores of models on examples, computed with NumPy from their outputs: the loss, and for labels how many decisions are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from qrnn.accuracy.metrics import decibels
from qrnn.equations.oracle import run_oracle_batch
from qrnn.finetuning.examples import Examples
from qrnn.finetuning.goals import Goal
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

CHUNK = 64
"""The number of sequences that run at a time."""

LEAST_PROBABILITY = 2.0**-15
"""What probabilities are at least, so that their logarithms are finite: half of the least that Q1.14 tells from 0."""

Runner = Callable[[Batch], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Score:
    """How good a model is on examples: of ``total`` decisions ``wrong`` ones, and the mean ``loss``; without labels ``wrong`` is None."""

    loss: float
    wrong: int | None = None
    total: int = 0

    @property
    def key(self) -> tuple[float, float]:
        """Return what scores are compared by, less is better: the wrong decisions, and where these are equal the loss."""
        return (0.0 if self.wrong is None else float(self.wrong), self.loss)

    @property
    def percent(self) -> float | None:
        """Return the percentage of right decisions, for CTC 100 minus that of errors; None without labels."""
        return None if self.wrong is None or not self.total else 100 - 100 * self.wrong / self.total

    def __str__(self) -> str:
        """Return the score in words."""
        if self.wrong is None:
            return f"{decibels(1.0, self.loss):.2f} dB" if self.loss > 0 else "exact"
        return f"{self.total - self.wrong} of {self.total} right ({self.percent:.2f} %), loss {self.loss:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"loss": self.loss, "wrong": self.wrong, "total": self.total}


def quantized_runner(model: QuantModel) -> Runner:
    """Return a function that runs a batch on the integers that are deployed."""
    session = Session(model)
    return lambda batch: session.run_batch(batch)[0].outputs


def float_runner(model: FloatModel) -> Runner:
    """Return a function that runs a batch by the float64 oracle."""

    def run(batch: Batch) -> Mapping[str, FloatArray]:
        wide = {name: values.astype(np.float64) for name, values in batch.features.items()}
        return run_oracle_batch(model, replace(batch, features=wide)).outputs

    return run


def with_followed(found: Examples, progress: Callable[[int, int], Any] | None = None) -> Examples:
    """Return the examples with the float model's values of the goal's outputs, in float32."""
    run, pieces, done = float_runner(found.model), list[Mapping[str, FloatArray]](), 0
    names = [o.name for o in found.outputs]
    whole = {o.name: found.axis(o) for o in found.outputs}
    for piece in found.pieces(CHUNK):
        outputs = run(piece.batch)
        pieces.append({name: outputs[name].astype(np.float32) for name in names})
        done += piece.size
        if progress is not None:
            progress(done, found.size)
    followed = {}
    for name in names:
        axis, parts = whole[name], [piece[name] for piece in pieces]
        if axis is not None:
            parts = [np.pad(p, [(0, 0), (0, axis.steps - p.shape[1]), *[(0, 0)] * (p.ndim - 2)]) for p in parts]
        followed[name] = np.concatenate(parts)
    return replace(found, followed=followed)


def score(run: Runner, judged: Examples) -> Score:
    """Return the score of a model on examples.

    The loss of labels is the mean negative logarithm of their probability, for CTC by sequence; that of values is Σ (want - got)² / Σ want²
    over all outputs and valid steps.
    """
    loss, power = 0.0, 0.0
    count = wrong = total = 0
    for piece in judged.pieces(CHUNK):
        outputs = run(piece.batch)
        if not judged.goal.of_labels:
            noise, signal = squares(outputs, piece)
            loss, power = loss + noise, power + signal
        elif judged.goal.kind == "ctc":
            own = _of_sequences(outputs, piece)
            loss, wrong, total, count = loss + own.loss, wrong + (own.wrong or 0), total + own.total, count + piece.size
        else:
            places = piece.places()
            values = outputs[judged.goal.outputs[0]][places.where].reshape(len(places.labels), -1)
            chances = log_probabilities(values, judged.goal)
            loss -= float(chances[np.arange(len(chances)), places.labels].sum())
            wrong += int((decided(values, judged.goal) != places.labels).sum())
            total += len(places.labels)
            count += len(places.labels)
    if not judged.goal.of_labels:
        return Score(loss / power if power else loss)
    return Score(loss / max(count, 1), wrong, total)


def squares(outputs: Mapping[str, FloatArray], piece: Examples) -> tuple[float, float]:
    """Return Σ (want - got)² and Σ want² over the values that a piece should have."""
    noise, signal = 0.0, 0.0
    for output in piece.outputs:
        want, got = piece.wanted[output.name].astype(np.float64), outputs[output.name]
        axis = piece.axis(output)
        if axis is not None:
            want, got = axis.real(want), axis.real(got)
        noise, signal = noise + float(((want - got) ** 2).sum()), signal + float((want**2).sum())
    return noise, signal


def log_probabilities(values: FloatArray, goal: Goal) -> FloatArray:
    """Return the logarithms [M, classes] of the probabilities of the classes, from the values [M, F] of an output."""
    if goal.threshold is not None:
        if goal.values == "probabilities":
            yes = np.log(np.maximum(values[:, 0], LEAST_PROBABILITY))
            no = np.log(np.maximum(1 - values[:, 0], LEAST_PROBABILITY))
        else:
            yes, no = -np.logaddexp(0, -values[:, 0]), -np.logaddexp(0, values[:, 0])
        return np.stack([no, yes], axis=1)
    scores = np.log(np.maximum(values, LEAST_PROBABILITY)) if goal.values == "probabilities" else values
    distance = scores - scores.max(axis=-1, keepdims=True)
    found: FloatArray = distance - np.log(np.exp(distance).sum(axis=-1, keepdims=True))
    return found


def decided(values: FloatArray, goal: Goal) -> IndexArray:
    """Return the class that each row of values [M, F] decides for."""
    if goal.threshold is not None:
        return (values[:, 0] > goal.threshold).astype(np.int64)
    chosen: IndexArray = values.argmax(axis=-1)
    return chosen


def _of_sequences(outputs: Mapping[str, FloatArray], piece: Examples) -> Score:
    """Return the sum of the CTC losses of a piece, the errors and the labels."""
    goal, (output,) = piece.goal, piece.outputs
    axis, labels, counts = piece.axis(output), piece.labels, piece.label_lengths
    assert axis is not None and labels is not None and counts is not None  # noqa: PT018
    loss, wrong = 0.0, 0
    for values, length, own, count in zip(outputs[output.name], axis.lengths, labels, counts, strict=True):
        steps = values[:length].reshape(length, -1)
        loss += ctc_loss(log_probabilities(steps, goal), own[:count], goal.blank)
        read = [key for key, _ in groupby(steps.argmax(axis=-1).tolist()) if key != goal.blank]
        wrong += edit_distance(read, own[:count].tolist())
    return Score(loss, wrong, int(counts.sum()))


def ctc_loss(chances: FloatArray, labels: IndexArray, blank: int) -> float:
    """Return minus the logarithm of the probability of a label sequence, over all ways to write it with blanks and repeats.

    ``chances`` [T, classes] are logarithms of probabilities (Graves et al. 2006, equations 6 and 7).
    """
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = labels[1:] != labels[:-1]
    alpha = np.full(len(states), -np.inf)
    alpha[0] = 0.0  # before the first step, which leads to the first state or to the second
    for row in chances:
        one = np.concatenate([[-np.inf], alpha[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], alpha])[: len(states)], -np.inf)
        alpha = np.logaddexp(np.logaddexp(alpha, one), two) + row[states]
    return -float(np.logaddexp.reduce(alpha[-2:]))


def edit_distance(read: list[int], want: list[int]) -> int:
    """Return the least number of insertions, deletions and replacements that make one sequence of the other."""
    row = list(range(len(want) + 1))
    for number, got in enumerate(read, 1):
        before, row[0] = row[0], number
        for k, label in enumerate(want, 1):
            before, row[k] = row[k], min(row[k] + 1, row[k - 1] + 1, before + (got != label))
    return row[-1]
