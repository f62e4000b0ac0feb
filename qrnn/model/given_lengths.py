"""The lengths of sequences that stand beside a user's arrays, for each time axis of a model, are found and checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput
from qrnn.model.parts import IndexArray
from qrnn.model.time import TIME, TimeAxis
from qrnn.model.user_values import as_array, first_bad

RESERVED = ("lengths", "labels")
"""Names that a user's arrays may have beside those of the graph inputs: no graph input has one of them, but that of a model's own lengths."""

LENGTHS_OF = "lengths."
"""What the names of the lengths of single time axes begin with, for a model with several: ``lengths.past``, among a user's arrays."""


def time_axes(graph_inputs: tuple[GraphInput, ...]) -> tuple[str, ...]:
    """Return the names of a model's time axes in the order of its inputs; the one name `TIME` where no input is over time."""
    return tuple(dict.fromkeys(i.axis for i in graph_inputs if i.has_time)) or (TIME,)


def check_sizes(sizes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Return (N, T) of inputs of sizes [N] or [N, T] over one time axis; T is 1 where none has time. DataError where sizes differ."""
    first = next(iter(sizes))
    count = sizes[first][0]
    for name, own in sizes.items():
        if own[0] != count:
            raise DataError(f"input {name!r} has {own[0]} sequences, input {first!r} has {count}; expected the same N")
    timed = {name: own[1] for name, own in sizes.items() if len(own) > 1}
    steps = next(iter(timed.values()), 1)
    for name, own_steps in timed.items():
        if own_steps != steps:
            raise DataError(f"input {name!r} has {own_steps} steps, others have {steps}; expected the same T")
    return count, steps


def lengths_names(graph_inputs: tuple[GraphInput, ...]) -> list[str]:
    """Return under which names lengths may stand beside a user's arrays: ``lengths``, and for several time axes one name for each."""
    axes = time_axes(graph_inputs)
    return ["lengths"] if len(axes) == 1 else [f"{LENGTHS_OF}{axis}" for axis in axes]


def is_beside(graph_inputs: tuple[GraphInput, ...], name: str) -> bool:
    """Return whether an array of this name stands beside those of the graph inputs: lengths or labels."""
    return name in (*RESERVED, *lengths_names(graph_inputs)) and name not in {i.name for i in graph_inputs}


def lengths_in(graph_inputs: tuple[GraphInput, ...], data: Mapping[str, Any]) -> Any:
    """Return the lengths that stand beside a user's arrays, as `lengths_by_axis` takes them; None where there are none."""
    axes = time_axes(graph_inputs)
    found = {axis: data[f"{LENGTHS_OF}{axis}"] for axis in axes if f"{LENGTHS_OF}{axis}" in data}
    if len(axes) == 1 or not found:
        return data.get("lengths")
    if "lengths" in data:
        raise DataError(f"lengths: given beside {LENGTHS_OF}{next(iter(found))!s}; give one array for each time axis")
    return found


def lengths_by_axis(axes: tuple[str, ...], lengths: Any) -> dict[str, Any]:
    """Return the lengths that a user gave for each time axis, as a mapping or, for one axis, as an array; None where none were given."""
    if isinstance(lengths, Mapping):
        if not lengths:
            raise DataError(f"lengths: an empty mapping, expected arrays for some of the time axes {list(axes)}")
        if unknown := sorted(str(name) for name in lengths.keys() - set(axes)):
            raise DataError(f"lengths: {unknown[0]!r} is no time axis of the model; expected some of {list(axes)}")
        return {axis: lengths.get(axis) for axis in axes}
    if lengths is not None and len(axes) > 1:
        raise DataError(
            f"lengths: one array for a model with the time axes {list(axes)}; give a mapping from their names to arrays, or in a file an "
            f"array {LENGTHS_OF}{axes[0]} and so on"
        )
    return dict.fromkeys(axes, lengths)


def checked_axes(
    graph_inputs: tuple[GraphInput, ...],
    sizes: Mapping[str, tuple[int, ...]],
    counts: Mapping[str, Any],
    first: int = 0,
) -> dict[str, TimeAxis]:
    """Return each time axis, with the steps that its inputs have.

    ``sizes``: [N] or [N, T] of each input; ``counts``: the lengths that a user gave for each axis, None for whole sequences. DataError for
    sizes or lengths that do not fit.
    """
    axis_of = {i.name: i.axis for i in graph_inputs if i.has_time}
    count, _ = check_sizes({name: size[:1] for name, size in sizes.items()})
    found = {}
    for axis, given in counts.items():
        own = {name: size for name, size in sizes.items() if axis_of.get(name) == axis}
        steps = check_sizes(own)[1] if own else 1
        where = "lengths" if len(counts) == 1 else f"lengths of {axis!r}"
        found[axis] = TimeAxis(checked_lengths(given, count, steps, where, first), steps)
    return found


def checked_lengths(lengths: Any, count: int, steps: int, where: str = "lengths", first: int = 0) -> IndexArray:
    """Return ``lengths`` [count], in 0 … steps, as int64; ``steps`` for every sequence where they are None. DataError names ``where``."""
    if lengths is None:
        return np.full(count, steps, np.int64)
    array = as_array(where, lengths)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(f"{where}: {array.dtype}{list(array.shape)}, expected integers [{count}], one per sequence")
    first_bad(where, array, (array < 0) | (array > steps), f"0…{steps} (the number of steps T)", first)
    return array.astype(np.int64)
