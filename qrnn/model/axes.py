"""Arrays are moved between the graph's own axes and batch first here, for graph inputs and outputs alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.float_model import GraphInput, GraphOutput

Place = GraphInput | GraphOutput
"""What has ``has_time``, ``batch_axis`` and ``time_axis``: a graph input or output."""


def to_graph(place: Place, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a batch-first array, [N, T, *shape] or [N, *shape], with the graph's own axes."""
    array = np.asarray(array)
    if not place.has_time:
        return np.moveaxis(array, 0, place.batch_axis)
    if place.time_axis is None:  # the graph makes the time axis itself, one step per call
        return np.moveaxis(array[:, 0], 0, place.batch_axis)
    return np.moveaxis(array, [0, 1], [place.batch_axis, place.time_axis])


def from_graph(place: Place, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return an array with the graph's own axes batch first, [N, T, *shape] or [N, *shape]."""
    array = np.asarray(array)
    if place.has_time and place.time_axis is not None:
        return np.moveaxis(array, [place.batch_axis, place.time_axis], [0, 1])
    array = np.moveaxis(array, place.batch_axis, 0)
    return array[:, None] if place.has_time else array
