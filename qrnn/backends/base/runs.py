"""What runs of a model take and give: states, tensors, and how many steps of each came out.

Arrays are batch first. ``lengths`` [N] int64 counts each sequence's valid steps; everything past them is written as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.model.batch import shortest
from qrnn.model.given_lengths import time_axes
from qrnn.model.parts import IndexArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel

LayerState = tuple[npt.NDArray[Any], ...]
"""The arrays of a layer's state, [N, *shape] each, in the order of `QuantLayer.states`. A recurrent layer has h [N, D, P] int16 and c
[N, D, H] int32, which has no elements for cells without c."""


class DeviceResult(NamedTuple):
    """What `Engine.run_on_device` gives: graph outputs and final states on the device, and `Ran.lengths` of all tensors on the host."""

    outputs: dict[str, Any]
    states: dict[str, LayerState]
    lengths: Mapping[str, IndexArray]


class Ran(NamedTuple):
    """What a run of a model gives: every tensor, every state after it, and how many steps of each tensor came out.

    ``lengths`` [N] counts the valid steps of a tensor over time; for any other, it is 1 where the tensor was computed from at least one
    step, and else 0.
    """

    tensors: Mapping[str, Int16Array | Int32Array]
    states: dict[str, LayerState]
    lengths: Mapping[str, IndexArray]


@dataclass
class Trace:
    """The integers inside the recurrent layers of a run, by name: ``layer[d].pre`` [N, T, G·H] int16, ``.h`` int16 and ``.c`` int32 [N, T, H].

    They are in time order, and zero on padding. ``pre`` holds the saturated arguments of the gate functions.
    """

    arrays: dict[str, Int16Array | Int32Array] = field(default_factory=dict)


def every_length(model: QuantModel, known: Mapping[str, IndexArray]) -> dict[str, IndexArray]:
    """Return `Ran.lengths` of every tensor from those of the graph inputs and of all tensors over time."""
    found = dict(known)
    for layer in model.layers:
        read = found[layer.inputs[0]]
        for name in layer.outputs:
            if not model.tensors[name].has_time:
                found[name] = read if layer.by_rows else np.minimum(read, 1)
    return found


def given_lengths(model: QuantModel, lengths: IndexArray | Mapping[str, IndexArray]) -> dict[str, IndexArray]:
    """Return how many steps each graph input has, [N], by name: those of its time axis, and 1 for an input without time."""
    some = next(iter(lengths.values())) if isinstance(lengths, Mapping) else lengths
    ones = np.ones(len(some), np.int64)
    by_axis = lengths if isinstance(lengths, Mapping) else dict.fromkeys(time_axes(model.inputs), lengths)
    return {i.name: by_axis[i.axis] if i.has_time else ones for i in model.inputs}


def stepped(x: npt.NDArray[Any], lengths: IndexArray, zero: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Return x [N, F] with ``zero`` [F] for sequences of no steps, as a graph reads their last value, while their state stays as it is."""
    if shortest(lengths) > 0:
        return x
    return np.where(lengths[:, None] > 0, x, x.dtype.type(0) if zero is None else zero)
