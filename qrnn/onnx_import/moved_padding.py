"""Padding that goes along where axes change places or axes of size 1 come and go: Keras pads [N, T, F] before it makes [N, F, 1, T] of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.onnx_import.values import Features, Padding


def moved_padding(padding: Padding, padded: Features, value: Features) -> Padding | None:
    """Return what ``value`` is padded of, and how, where it is ``padded`` with its axes in another order; None where it is anything else.

    ``padding`` is that of ``padded``, whose ids follow each other in the order of its axes. Axes of size 1 may be added or left out.
    """
    if padded.axes == value.axes and np.array_equal(padded.ids, value.ids):
        return padding
    places = _places(padded, value)
    if places is None or padding.cache is not None:
        return None
    left_out = [axis for axis in range(padded.ids.ndim) if axis not in places]
    if any(
        padded.axes[axis] is not None or padded.ids.shape[axis] != 1 or any(padding.edges[axis]) for axis in left_out
    ):
        return None

    def moved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        kept = values.transpose([*left_out, *(place for place in places if place is not None)])
        kept = kept.reshape(kept.shape[len(left_out) :])
        return np.expand_dims(kept, [axis for axis, place in enumerate(places) if place is None])

    if not np.array_equal(moved(padded.ids), value.ids):
        return None
    edges = tuple((0, 0) if place is None else padding.edges[place] for place in places)
    fill = None if padding.fill is None else moved(padding.fill)
    return Padding(Features(moved(padding.value.ids), value.axes), edges, fill=fill)


def _places(padded: Features, value: Features) -> list[int | None] | None:
    """Return the axis of ``padded`` that each axis of ``value`` is, None for one of size 1 that was added; None where they are no such axes."""
    strides = [int(np.prod(padded.ids.shape[axis + 1 :])) for axis in range(padded.ids.ndim)]
    places: list[int | None] = []
    for axis, symbol in enumerate(value.axes):
        if symbol is None and value.ids.shape[axis] == 1:
            places.append(None)
            continue
        if symbol is not None:
            found = [k for k, other in enumerate(padded.axes) if other is symbol]
        else:
            step = int(np.take(value.ids, 1, axis).reshape(-1)[0] - np.take(value.ids, 0, axis).reshape(-1)[0])
            sizes = zip(strides, padded.ids.shape, strict=True)
            found = [k for k, (stride, size) in enumerate(sizes) if (stride, size) == (step, value.ids.shape[axis])]
            found = [k for k in found if padded.axes[k] is None]
        if len(found) != 1 or found[0] in places:
            return None
        places.append(found[0])
    return places
