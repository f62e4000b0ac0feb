"""Arrays are moved between the graph's own axes and batch first here, for graph inputs and outputs alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.float_model import GraphInput, GraphOutput

Place = GraphInput | GraphOutput
"""What has ``has_time``, ``batch_axis`` and ``time_axis``: a graph input or output."""


def to_graph(place: Place, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a batch-first array, [N, T, *shape] or [N, *shape], with the graph's own axes; N is 1 for a graph without a batch axis."""
    values = np.asarray(array)
    if place.has_time and place.time_axis is None:  # the graph makes the time axis itself, one step per call
        values = values[:, 0]
    if place.batch_axis is None:
        (one,) = values
        return one if place.time_axis is None else np.moveaxis(one, 0, place.time_axis)
    if place.time_axis is None:
        return np.moveaxis(values, 0, place.batch_axis)
    moved = np.moveaxis(values, [0, 1], [place.batch_axis, place.time_axis])
    if not is_merged(place):
        return moved
    first = min(place.batch_axis, place.time_axis)
    return moved.reshape(*moved.shape[:first], -1, *moved.shape[first + 2 :])


def from_graph(place: Place, array: npt.ArrayLike, size: int = -1) -> npt.NDArray[Any]:
    """Return an array with the graph's own axes batch first, [N, T, *shape] or [N, *shape].

    ``size`` is N, which has to be given for an output that has batch and time as one axis.
    """
    array = np.asarray(array)
    if place.batch_axis is None:
        array = array if place.time_axis is None else np.moveaxis(array, place.time_axis, 0)
        array = array[None]
    elif place.time_axis is None:
        array = np.moveaxis(array, place.batch_axis, 0)
    else:
        if is_merged(place):
            first = min(place.batch_axis, place.time_axis)
            both = (size, -1) if place.batch_axis < place.time_axis else (-1, size)
            array = array.reshape(*array.shape[:first], *both, *array.shape[first + 1 :])
        return np.moveaxis(array, [place.batch_axis, place.time_axis], [0, 1])
    return array[:, None] if place.has_time and place.time_axis is None else array


def is_merged(place: Place) -> bool:
    """Return whether the graph's own tensor has batch and time as one axis, with the steps of a sequence, or the sequences of a step, together.

    ``batch_axis`` and ``time_axis`` are then those of the tensor with both apart, one behind the other.
    """
    return isinstance(place, GraphOutput) and place.merged
