"""LSTM, GRU and RNN nodes whose rows are bands: over the bands of each step, or over time for each band with shared weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.kinds.over_bands import OverBands
from qrnn.model.kinds.per_band import PerBand
from qrnn.model.kinds.recurrent.definition import Direction, InitialState
from qrnn.onnx_import.banding import banded
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.recurrent_attributes import X
from qrnn.onnx_import.values import BATCH, BATCH_TIME, MERGED, TIME, Banded, Features, Symbol, Tensor


@dataclass(frozen=True)
class Bands:
    """X of such a node: ``tensor`` has the features of each of ``count`` bands one after the other.

    ``over``: whether the node runs over the bands of each step. ``sequence`` and ``rows`` are the axes of X that it takes for time and batch.
    """

    tensor: Tensor
    count: int
    features: int
    over: bool
    sequence: Symbol | None
    rows: Symbol | None


def banded_input(node: Node, build: Builder, batch_first: bool) -> Bands | None:
    """Return X where its rows or its steps are bands; None for X of sequences over time."""
    value = node.features(X, "X")
    if value.ids.ndim != 3 or value.axes[2] is not None:
        return None
    sequence, rows = (1, 0) if batch_first else (0, 1)
    count, size = value.ids.shape[sequence], value.ids.shape[rows]
    symbol, steps = value.axes[rows], value.axes[sequence]
    if 1 in build.baked[BATCH]:  # one sequence: the batch of 1 may be part of either axis
        if steps in MERGED and symbol is None and size > 1:
            symbol, steps = banded((size, BATCH)), TIME
        elif isinstance(steps, Banded) and steps.factors == (BATCH,) and symbol is TIME:
            symbol, steps = BATCH_TIME, None
        elif build.one_step and steps is BATCH and symbol is None and size > 1:
            symbol, steps = banded((size, BATCH)), None  # of one step: the axis of size 1 is that of the step
    time = steps is TIME or (build.one_step and steps is None and count == 1)
    if isinstance(symbol, Banded):
        if not time or symbol.factors != (BATCH,):
            raise node.refuse(
                f"X has shape {value.describe()}; a recurrent layer may run over time for each band [T, N·bands, features], or over the "
                "bands of each step [bands, N·T, features]; re-export with one of these"
            )
        bands, over = size, False
    elif symbol in MERGED or (build.one_step and symbol is BATCH and count > 1):
        if steps is not None:
            return None
        bands, over = count, True
    else:
        return None
    features = value.ids.shape[2]
    tensor, indices = build.operand(node, Features(value.ids.reshape(-1), (None,)))  # the other axis has size 1
    if not tensor.has_time:
        raise node.refuse(f"X '{node.input_names[X]}' has no time axis; run this part outside the model")
    if not np.array_equal(indices, np.arange(tensor.features)):
        tensor, _ = build.gathered(node, indices + tensor.start)
    return Bands(tensor, bands, features, over, steps, symbol)


def initial_states(
    node: Node, build: Builder, k: int, what: str, bands: Bands, count: int, hidden: int, batch_first: bool
) -> list[InitialState]:
    """Return the initial states of each of ``count`` directions: constants, or for each band elements of a graph input; zeros when absent.

    Over bands they are [H]; for each band, [B·H].
    """
    times = 1 if bands.over else bands.count
    if not node.has_input(k):
        return [InitialState(np.zeros(times * hidden))] * count
    value = node.input(k)
    name = node.input_names[k]
    tensor: Tensor | None = None
    if isinstance(value, Features):
        parts = build.book.parts(value.ids)
        if len(parts) != 1 or parts[0].tensor.kind not in ("state", "constant"):
            raise node.refuse(
                f"{what} '{name}' is computed; initial states must be constants or a graph input of their own"
            )
        tensor, ids = parts[0].tensor, parts[0].indices.reshape(value.ids.shape)
        values = np.zeros(value.ids.shape) if tensor.values is None else tensor.values[ids]
    else:
        values = node.weights(k, what)
        ids = np.zeros(values.shape, np.int64)
    if values.ndim == 3 and batch_first:
        values, ids = values.transpose(1, 0, 2), ids.transpose(1, 0, 2)
    if values.ndim != 3 or values.shape[::2] != (count, hidden):
        raise node.refuse(f"{what} '{name}' has shape {list(values.shape)}, expected [{count}, rows, {hidden}]")
    rows = values.shape[1]
    if tensor is not None and tensor.kind == "state":
        if bands.over or rows != bands.count:
            raise node.refuse(
                f"{what} '{name}' is a graph input; a layer over the bands of each step begins with constants, and one for each band with "
                f"a state for each of {bands.count} bands"
            )
        return [InitialState(np.zeros(times * hidden), tensor.name, own.reshape(-1)) for own in ids]
    if rows % times == 0 and (values.reshape(count, -1, times, hidden) == values[:, None, :times]).all():
        return [InitialState(own[:times].reshape(-1).copy()) for own in values]
    if (values != values[:, :1]).any():
        raise node.refuse(
            f"{what} '{name}' holds other constants for each of {rows} rows, which binds the model to one batch; re-export with it equal for "
            "all"
        )
    return [InitialState(np.tile(own[0], times)) for own in values]


def written(
    node: Node,
    build: Builder,
    bands: Bands,
    fields: Mapping[str, Any],
    groups: Sequence[tuple[Direction, ...]],
    hidden: int,
    batch_first: bool,
) -> tuple[Features, ...]:
    """Append the layers of a node, one for each group of its directions, and return Y, Y_h and, of layers with c for each band, Y_c."""
    B, has_cell_state = bands.count, groups[0][0].c_0 is not None
    outputs: list[list[Any]] = [[], [], []]
    for number, group in enumerate(groups):
        D, part = len(group), f".{number}" if len(groups) > 1 else ""
        y = build.result(node, B * D * hidden, True, part=part)
        own = {
            "name": node.name,
            "input": bands.tensor.name,
            "output": y.name,
            "directions": group,
            "bands": B,
            **fields,
        }
        by_band = y.ids.reshape(B, D, hidden).transpose(1, 0, 2)
        outputs[0].append(by_band)
        if bands.over:
            build.layers.append(OverBands(**own, h_n="", c_n="" if has_cell_state else None))
            ends = [by_band[d, 0 if direction.reverse else B - 1] for d, direction in enumerate(group)]
            outputs[1].append(np.stack(ends)[:, None])
            continue
        h_n = build.result(node, B * D * hidden, False, 1, "h_n", part)
        h_n.steps = y if D == 1 else None
        c_n = build.result(node, B * D * hidden, False, 2, "c_n", part) if has_cell_state else None
        build.layers.append(PerBand(**own, h_n=h_n.name, c_n=None if c_n is None else c_n.name))
        for place, final, states in ((1, h_n, [d.h_0 for d in group]), (2, c_n, [d.c_0 for d in group])):
            if final is None:
                continue
            outputs[place].append(final.ids.reshape(D, B, hidden))
            for d, state in enumerate(states):
                _record_carries(build, final, state, d * B * hidden)
    ids, *finals = (np.concatenate(found) for found in outputs if found)  # [D, B, H], then [D, rows, H] each
    axes: tuple[Symbol | None, ...]
    if bands.over:  # [D, B, H] is Y [B, D, rows, H]
        y_ids, axes = ids.transpose(1, 0, 2)[:, :, None], (None, None, bands.rows, None)
    else:  # it is Y [T, D, rows, H]
        y_ids, axes = ids[None], (bands.sequence, None, bands.rows, None)
    results = [Features(y_ids, axes)] + [Features(found, (None, bands.rows, None)) for found in finals]
    if not batch_first:
        return tuple(results)
    orders = [(2, 0, 1, 3)] + [(1, 0, 2)] * (len(results) - 1)
    return tuple(
        Features(r.ids.transpose(order), tuple(r.axes[k] for k in order))
        for r, order in zip(results, orders, strict=True)
    )


def _record_carries(build: Builder, final: Tensor, state: InitialState | None, first: int) -> None:
    """Record which state input elements the final states from ``first`` on would be carried to."""
    if state is None or state.source is None or state.indices is None:
        return
    source = build.states[state.source]
    for unit, element in enumerate(state.indices):
        build.carries.setdefault(int(element) + source.start, set()).add(final.start + first + unit)
