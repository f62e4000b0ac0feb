"""Lengths of sequences by the value of the steps that pad them, for inputs of which the model knows it (`GraphInput.padding`).

Keras's masks are such values: a Masking layer, or an Embedding whose token 0 is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TimeAxis


def is_padded(graph_inputs: tuple[GraphInput, ...]) -> bool:
    """Return whether some input has a value of steps that pad it."""
    return any(i.padding is not None for i in graph_inputs)


def without_padding(graph_inputs: tuple[GraphInput, ...]) -> tuple[GraphInput, ...]:
    """Return the inputs without such values, for streams: each call is a step there, and a caller leaves out what only pads."""
    return tuple(replace(i, padding=None) for i in graph_inputs) if is_padded(graph_inputs) else graph_inputs


def require_lengths(graph_inputs: tuple[GraphInput, ...], lengths: object, why: str) -> None:
    """Raise DataError where the value of padding says how long sequences are, and no ``lengths`` do; ``why`` it cannot be looked for."""
    padded = (i for i in graph_inputs if i.padding is not None and i.kind == "features")
    if lengths is None and (named := next(padded, None)):
        raise DataError(
            f"input {named.name!r}: steps of {named.padding:g} at the end of a sequence are padding, and {why}; give lengths"
        )


def left_out(
    graph_inputs: tuple[GraphInput, ...], arrays: Mapping[str, FloatArray | IndexArray], axes: Mapping[str, TimeAxis]
) -> dict[str, TimeAxis]:
    """Return the time axes without the steps that pad sequences in ``arrays``, [N, T, F] of features or [N, T] of tokens.

    DataError where such a step comes before a real one, and where inputs of one time axis have different lengths.
    """
    found = dict(axes)
    said: dict[str, str] = {}
    for graph_input in graph_inputs:
        name, value = graph_input.name, graph_input.padding
        if value is None or name not in arrays or not graph_input.has_time:
            continue
        axis = axes[graph_input.axis]
        own = _lengths(name, arrays[name], value, axis)
        before = said.setdefault(graph_input.axis, name)
        if before != name and not np.array_equal(found[graph_input.axis].lengths, own):
            row = int(np.flatnonzero(found[graph_input.axis].lengths != own)[0])
            raise DataError(
                f"inputs {before!r} and {name!r} of sequence {row} have {int(found[graph_input.axis].lengths[row])} and {int(own[row])} steps "
                "before their padding; pad both alike"
            )
        found[graph_input.axis] = replace(axis, lengths=own)
    return found


def _lengths(name: str, array: FloatArray | IndexArray, value: float, axis: TimeAxis) -> IndexArray:
    """Return the lengths of sequences, no more than those of ``axis``; values are compared in float32, as the model does."""
    steps = np.arange(axis.steps)
    with np.errstate(over="ignore"):
        other = array.astype(np.float32) != np.float32(value) if array.dtype.kind == "f" else array != value
    real = (other.any(axis=2) if other.ndim == 3 else other) & (steps < axis.lengths[:, None])
    own = np.where(real.any(axis=1), axis.steps - np.argmax(real[:, ::-1], axis=1), 0).astype(np.int64)
    inside = ~real & (steps < own[:, None])
    if inside.any():
        row, step = (int(k) for k in np.argwhere(inside)[0])
        raise DataError(
            f"input {name!r}: step {step} of sequence {row} is padding (all values are {value:g}), and step {int(own[row]) - 1} behind it is "
            "not; only steps at the end of a sequence are left out, so move the padding there, or leave such steps out of the data"
        )
    return own
