"""A user's arrays on their way to the parts of a model, and from one part to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qrnn.errors import DataError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.places import Known, input_place
from qrnn.model.batch import Batch
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.given_lengths import RESERVED, time_axes
from qrnn.model.time import TIME
from qrnn.model.user_values import as_array

if TYPE_CHECKING:
    from qrnn.hybrid.division import Division


def model_inputs(
    division: Division, known: Known, given: Mapping[str, Any], fixed: Mapping[str, Any]
) -> tuple[GraphInput, ...]:
    """Return the inputs of the whole graph: as the integer parts have them, and by the data for those that float parts alone read."""
    flow = division.whole.flow
    found: dict[str, GraphInput] = {}
    for part in division.parts:
        if part.model is not None:
            found.update({i.name: i for i in part.model.inputs if i.name in flow.inputs and i.name not in found})
    caches = {c.input for part in division.parts if part.model is not None for c in part.model.caches}
    read = {name for part in division.parts for name in part.graph.inputs} - caches
    names = [name for name in flow.inputs if name in read and name not in fixed]
    for name in names:
        if name in found:
            continue
        if name in RESERVED:
            raise DataError(
                f"input {name!r}: {' and '.join(RESERVED)} are reserved for arrays beside the inputs; rename it in the graph"
            )
        if name not in given:
            raise DataError(
                f"input {name!r} is missing; expected arrays of the graph's inputs {names} (the data has {sorted(given)})"
            )
        place = input_place(name, known, np.shape(as_array(f"input {name!r}", given[name])))
        rows = any(i.rows for i in found.values())
        found[name] = GraphInput(
            name, "features", place.shape, place.has_time, 0, place.batch_axis, place.time_axis, rows and place.has_time
        )
    return _with_axes(tuple(found[name] for name in names if name in found), given)


def _with_axes(inputs: tuple[GraphInput, ...], given: Mapping[str, Any]) -> tuple[GraphInput, ...]:
    """Return inputs with a time axis of its own for each that has another number of steps than those before."""
    steps: dict[str, int] = {}
    found = []
    for own in inputs:
        if own.has_time and own.name in given and not own.rows:
            count = np.shape(given[own.name])[1]
            if steps.setdefault(own.axis, count) != count and own.axis == TIME:
                own = replace(own, axis=own.name)
        found.append(own)
    return tuple(found)


def as_place(given: GraphInput) -> GraphOutput:
    """Return where batch and time lie in an input of the graph, as of any tensor of a float part."""
    return GraphOutput(given.name, given.shape, given.has_time, (), given.batch_axis, given.time_axis)


def carried_inputs(inputs: tuple[GraphInput, ...], batch: Batch) -> dict[str, Carried]:
    """Return a checked batch as the tensors that parts read."""
    found: dict[str, Carried] = {}
    axes = batch.axes
    for own in inputs:
        values: Any = batch.features.get(own.name, batch.tokens.get(own.name, batch.states.get(own.name)))
        if own.kind == "lengths":
            values = axes[own.axis].lengths
        if values is None:
            continue
        lead = 2 if own.has_time else 1
        shaped = values.reshape(*values.shape[:lead], *own.shape)
        found[own.name] = Carried(shaped, axes[own.axis].lengths if own.has_time else None)
    return found


def part_data(inputs: tuple[GraphInput, ...], carried: Mapping[str, Carried], batch: Batch) -> dict[str, Any]:
    """Return the arrays that an integer part takes, with the ``lengths`` of its sequences where they are not all whole.

    Several time axes have a mapping of lengths. DataError where tensors over one time axis have different numbers of steps.
    """
    arrays: dict[str, Any] = {}
    lengths: dict[str, Any] = {}
    first: dict[str, str] = {}
    for own in inputs:
        if own.kind == "lengths" or own.name not in carried:
            continue
        values, counts = carried[own.name]
        if counts is not None and own.has_time:
            known = lengths.setdefault(own.axis, counts)
            if not np.array_equal(known, counts):
                n = int(np.nonzero(known != counts)[0][0])
                raise DataError(
                    f"tensors {first[own.axis]!r} and {own.name!r} have {int(known[n])} and {int(counts[n])} steps in sequence {n}, expected "
                    "the same number; give sequences of which the float parts make as many"
                )
            first.setdefault(own.axis, own.name)
            values = values[:, : max(1, int(counts.max(initial=0)))]
        arrays[own.name] = values.astype(np.int64) if own.kind == "tokens" else values
    whole = all(
        (lengths[own.axis] == arrays[own.name].shape[1]).all() for own in inputs if own.has_time and own.name in arrays
    )
    if lengths and not whole:
        arrays["lengths"] = lengths if len(time_axes(inputs)) > 1 else next(iter(lengths.values()))
    return arrays
