"""Examples are sequences with what belongs to them, checked against a model and a goal: inputs, labels or targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.finetuning.goals import LABEL_LENGTHS, LABELS, Goal
from qrnn.model.batch import Batch, make_batch
from qrnn.model.digest import array_digest
from qrnn.model.float_model import FloatModel, GraphOutput
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TimeAxis
from qrnn.model.user_values import as_array, check_type, real_values

FEW = 4
"""The least number of sequences of which some can be held out."""


class Places(NamedTuple):
    """Where an output is judged: ``where`` picks [M, F] of its array, and ``labels`` [M] are the right classes there."""

    where: tuple[IndexArray, ...]
    labels: IndexArray


@dataclass(frozen=True)
class Examples:
    """Sequences of a batch, each with at least one step, and what belongs to them.

    ``labels``: [N], [N, T] or, with ``label_lengths``, [N, L]. ``targets``: arrays of the goal's outputs by name, of the outputs' own
    shapes. ``followed``: what the float model gives for these outputs, where training or judging asks for it.
    """

    model: FloatModel
    goal: Goal
    batch: Batch
    labels: IndexArray | None = None
    label_lengths: IndexArray | None = None
    targets: Mapping[str, FloatArray] = field(default_factory=dict)
    followed: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def wanted(self) -> Mapping[str, FloatArray]:
        """Return the values that the goal's outputs should have: the float model's, or the targets."""
        return self.followed if self.goal.kind == "float" else self.targets

    @property
    def size(self) -> int:
        """Return the number of sequences."""
        return self.batch.size

    def take(self, rows: IndexArray) -> Examples:
        """Return some of the sequences, with the time axis cut to the longest of them."""

        def some(array: IndexArray | None) -> IndexArray | None:
            return None if array is None else array[rows]

        batch = self.batch.take(rows)
        steps = {o.name: batch.along(self.model.length_rules[o.parts[0][0]]).steps for o in self.outputs if o.has_time}

        def cut(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            return {name: v[rows][:, : steps[name]] if name in steps else v[rows] for name, v in values.items()}

        labels = some(self.labels)
        if labels is not None and self.goal.kind == "each":
            labels = labels[:, : steps[self.goal.outputs[0]]]
        return replace(
            self,
            batch=batch,
            labels=labels,
            label_lengths=some(self.label_lengths),
            targets=cut(self.targets),
            followed=cut(self.followed),
        )

    def pieces(self, size: int) -> Iterator[Examples]:
        """Iterate over runs of at most ``size`` sequences."""
        for start in range(0, self.size, size):
            yield self.take(np.arange(start, min(start + size, self.size)))

    @property
    def outputs(self) -> list[GraphOutput]:
        """Return the goal's outputs."""
        return [o for o in self.model.outputs if o.name in self.goal.outputs]

    def axis(self, output: GraphOutput) -> TimeAxis | None:
        """Return the steps of a graph output; None for one that is not over time."""
        return self.batch.along(self.model.length_rules[output.parts[0][0]]) if output.has_time else None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs as a user gives them: arrays [N, T, *shape] or [N, *shape] by graph input."""
        batch, found = self.batch, dict[str, npt.NDArray[Any]]()
        for graph_input in self.model.inputs:
            values = batch.features.get(graph_input.name, batch.states.get(graph_input.name))
            if values is not None:
                found[graph_input.name] = values.reshape(*values.shape[:-1], *graph_input.shape)
            elif graph_input.name in batch.tokens:
                found[graph_input.name] = batch.tokens[graph_input.name]
        return found

    def places(self) -> Places:
        """Return where the output of a goal of kind ``last`` or ``each`` is judged, with the labels there."""
        (output,) = self.outputs
        axis, labels = self.axis(output), self.labels
        assert labels is not None
        every = np.arange(self.size)
        if axis is None:
            return Places((every,), labels)
        if self.goal.kind == "last":
            rows = every[axis.lengths > 0]
            return Places((rows, axis.lengths[rows] - 1), labels[rows])
        rows, steps = np.nonzero(axis.mask)
        return Places((rows, steps), labels[rows, steps])

    def digest(self) -> str:
        """Return the SHA-256 of all arrays."""
        arrays = {**self.arrays(), **{f"target {name}": values for name, values in self.targets.items()}}
        arrays |= {f"lengths {name}": axis.lengths for name, axis in self.batch.axes.items()}
        arrays |= {} if self.labels is None else {"labels": self.labels}
        arrays |= {} if self.label_lengths is None else {"label lengths": self.label_lengths}
        return array_digest(arrays)


def examples(model: FloatModel, data: Mapping[str, Any], goal: Goal, what: str = "training data") -> Examples:
    """Return the sequences of ``data`` that have steps, checked against the model and the goal.

    DataError, which begins with ``what``, for arrays that do not fit: shapes and types, labels out of range, targets that are not finite,
    label sequences that are longer than their outputs.
    """
    try:
        return _examples(model, data, goal)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None


def _examples(model: FloatModel, data: Mapping[str, Any], goal: Goal) -> Examples:
    beside = {LABELS, LABEL_LENGTHS, *(o.name for o in model.outputs)}
    own = {name: array for name, array in data.items() if name not in beside}
    batch = make_batch(model.inputs, own, keep_float32=True)
    found = Examples(model, goal, batch)
    if goal.of_labels:
        found = _with_labels(found, data)
    elif goal.kind == "targets":
        targets = {o.name: _targets(found, o, data) for o in found.outputs}
        found = replace(found, targets=targets)
    kept = np.flatnonzero(batch.lengths)
    if len(kept) == 0:
        raise DataError("no sequence has a step; expected at least one")
    return found if len(kept) == batch.size else found.take(kept)


def _with_labels(found: Examples, data: Mapping[str, Any]) -> Examples:
    """Return the examples with their labels, checked."""
    goal, size = found.goal, found.size
    (output,) = found.outputs
    if data.get(LABELS) is None:
        raise DataError(f"no labels; expected them for {goal}")
    labels = as_array(LABELS, data[LABELS])
    check_type(LABELS, labels.dtype, np.integer)
    if goal.kind == "ctc":
        return _with_sequences(found, output, labels, data)
    axis = found.axis(output)
    expected = (size,) if goal.kind == "last" or axis is None else (size, axis.steps)
    if labels.shape != expected:
        raise DataError(f"labels: shape {list(labels.shape)}, expected {list(expected)}")
    labels = labels.astype(np.int64)
    judged = np.ones(labels.shape, bool) if labels.ndim == 1 or axis is None else axis.mask
    _check_classes(labels, judged, goal)
    return replace(found, labels=labels)


def _check_classes(labels: IndexArray, judged: npt.NDArray[np.bool_], goal: Goal) -> None:
    bad = judged & ((labels < 0) | (labels >= goal.classes))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"labels: value {labels[place]} at {list(place)}, expected a class of output {goal.outputs[0]!r}, 0…{goal.classes - 1}"
        )


def _with_sequences(
    found: Examples, output: GraphOutput, labels: npt.NDArray[Any], data: Mapping[str, Any]
) -> Examples:
    """Return the examples with label sequences for CTC, each of which its output is long enough for."""
    goal, size = found.goal, found.size
    if labels.ndim != 2 or labels.shape[0] != size:
        raise DataError(f"labels: shape {list(labels.shape)}, expected [{size}, L] beside {LABEL_LENGTHS}")
    if data.get(LABEL_LENGTHS) is None:
        raise DataError(f"no {LABEL_LENGTHS}; expected them for {goal}")
    counts = as_array(LABEL_LENGTHS, data[LABEL_LENGTHS])
    if counts.shape != (size,) or counts.dtype.kind not in "iu":
        raise DataError(
            f"{LABEL_LENGTHS}: {counts.dtype}{list(counts.shape)}, expected integers [{size}], one per sequence"
        )
    bad = (counts < 0) | (counts > labels.shape[1])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{LABEL_LENGTHS}: value {counts[row]} at [{row}], expected 0…{labels.shape[1]}")
    counts, labels = counts.astype(np.int64), labels.astype(np.int64)
    judged = np.arange(labels.shape[1])[None, :] < counts[:, None]
    _check_classes(labels, judged, goal)
    if (blank := judged & (labels == goal.blank)).any():
        place = [int(i) for i in np.argwhere(blank)[0]]
        raise DataError(f"labels: {goal.blank} at {place} is the blank; expected labels of other classes")
    axis = found.axis(output)
    assert axis is not None
    repeats = (judged[:, 1:] & (labels[:, 1:] == labels[:, :-1])).sum(axis=1)
    short = (counts + repeats > axis.lengths) & (axis.lengths > 0)
    if short.any():
        row = int(np.flatnonzero(short)[0])
        raise DataError(
            f"labels: sequence {row} has {counts[row]}, of which {repeats[row]} repeat the one before, and its output "
            f"{axis.lengths[row]} steps; CTC needs at least {counts[row] + repeats[row]}"
        )
    return replace(found, labels=labels, label_lengths=counts)


def _targets(found: Examples, output: GraphOutput, data: Mapping[str, Any]) -> FloatArray:
    """Return the targets of an output as float32, checked; those of padded steps are zero."""
    where = f"targets of output {output.name!r}"
    if output.name not in data:
        raise DataError(f"no {where}; expected an array under that name")
    array = as_array(where, data[output.name])
    axis = found.axis(output)
    lead = (found.size,) if axis is None else (found.size, axis.steps)
    if found.model.rows and axis is not None and array.shape[:2] != lead and array.shape[:1] == lead[:1]:
        array = array.reshape(found.size, 1, *array.shape[1:])
    shapes = [(*lead, *output.shape), (*lead, output.features)]
    if array.shape not in shapes:
        raise DataError(f"{where}: shape {list(array.shape)}, expected {list(shapes[0])}")
    check_type(where, array.dtype, np.floating)
    if axis is not None:  # what stands at padded steps does not count, not even as a number
        array = np.where(axis.mask.reshape(*lead, *(1,) * (array.ndim - 2)), array, 0)
    values: FloatArray = real_values(where, array).reshape(shapes[0]).astype(np.float32)
    return values


def held_out(found: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Return the sequences to train on, and a ``share`` of them, drawn by ``seed``, to judge on; DataError for too few."""
    if found.size < FEW:
        raise DataError(
            f"training data of {found.size} sequences, of which none can be held out; give at least {FEW}, or validation data"
        )
    order = np.random.default_rng([seed, 1]).permutation(found.size)
    count = max(1, round(share * found.size))
    return found.take(np.sort(order[count:])), found.take(np.sort(order[:count]))
