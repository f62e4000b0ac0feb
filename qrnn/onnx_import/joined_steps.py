"""Slices of one tensor that come at the same steps are taken by one layer, so that what joins them streams, in exported C too.

x[:, 1:] and x[:, :-1] are steps of the same windows of two. Layers that each count rows of their own would have to meet again; one layer gives
the steps of both side by side, and each reader its part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.take_steps import TakeSteps
from qrnn.model.layer import Layer
from qrnn.onnx_import.builder import Builder

Windows = tuple[str, int, int, int]
"""The tensor that is read, the span and the stride of windows, and the number of steps that are read, or 0."""


def with_joined_steps(build: Builder, layers: list[Layer]) -> list[Layer]:
    """Return the layers of a model with one `TakeSteps` for all that take steps of the same windows of a tensor."""
    groups: dict[Windows, list[TakeSteps]] = {}
    for layer in layers:
        if isinstance(layer, TakeSteps) and not layer.exact:
            groups.setdefault(_windows(layer), []).append(layer)
    made: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, TakeSteps) or layer.exact or len(group := groups[_windows(layer)]) == 1:
            made.append(layer)
        elif layer is group[0]:
            made += _joined(build, group)
    return made


def _windows(layer: TakeSteps) -> Windows:
    return layer.input, layer.span, layer.stride, layer.until


def _joined(build: Builder, group: list[TakeSteps]) -> list[Layer]:
    """Return a layer that takes the steps of all layers of a group, and for each of these a layer that gives its part."""
    total = sum(layer.indices.size for layer in group)
    build.budget.value(f"layer '{group[0].name}': the steps of {len(group)} slices", 4 * total)
    output = build.new_tensor(f"{group[0].input}.windows", True, total, True, "layer")
    indices, offsets = (np.concatenate(arrays) for arrays in ([g.indices for g in group], [g.offsets for g in group]))
    found: list[Layer] = [replace(group[0], output=output.name, indices=indices, offsets=offsets)]
    begins = np.cumsum([0, *(layer.indices.size for layer in group)])
    for first, last, layer in zip(begins[:-1], begins[1:], group, strict=True):
        found.append(Concat(layer.name, layer.output, ((output.name, np.arange(first, last)),)))
    return found
