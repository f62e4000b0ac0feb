"""LSTM, GRU and RNN. Gates are brought to the canonical order here and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.model.float_model import GATES, Direction, FloatArray, InitialState, Recurrent
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node, axis_rule, operator
from qrnn.onnx_import.operators.recurrent_attributes import (
    BIAS,
    CELLS,
    INITIAL_C,
    INITIAL_H,
    LENGTHS,
    PEEPHOLES,
    RECURRENT,
    WEIGHT,
    Cell,
    X,
    activations_of,
    directions_of,
    refuse_attributes,
)
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import BATCH, TIME, Features, Tensor

LARGEST_HIDDEN = 1 << 16


def _weights(node: Node, cell: Cell, directions: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """W [D, G·H, I], R [D, G·H, H], B [D, 2·G·H], checked against each other and against hidden_size."""
    gates = len(cell.file_gates)
    w, r = node.weights(WEIGHT, "W"), node.weights(RECURRENT, "R")
    if r.ndim != 3 or w.ndim != 3:
        raise node.damaged(f"W {list(w.shape)} and R {list(r.shape)} must have 3 axes, [directions, {gates}·hidden, …]")
    hidden = r.shape[2]
    declared = int(node.take("hidden_size", hidden))
    if declared != hidden or not 0 < hidden <= LARGEST_HIDDEN:
        raise node.damaged(
            f"hidden_size={declared} but R has shape {list(r.shape)}; expected R [{directions}, {gates}·H, H], H from 1 to {LARGEST_HIDDEN}"
        )
    rows = gates * hidden
    if r.shape != (directions, rows, hidden):
        raise node.damaged(f"R has shape {list(r.shape)}, expected [{directions}, {rows}, {hidden}]")
    if w.shape[:2] != (directions, rows) or w.shape[2] == 0:
        raise node.damaged(f"W has shape {list(w.shape)}, expected [{directions}, {rows}, input size]")
    b = node.weights(BIAS, "B") if node.has_input(BIAS) else np.zeros((directions, 2 * rows))
    if b.shape != (directions, 2 * rows):
        raise node.damaged(f"B has shape {list(b.shape)}, expected [{directions}, {2 * rows}]")
    return w, r, b


def _reorder(cell: Cell, rows: FloatArray) -> FloatArray:
    """Gate blocks [G·H, …] from the file's order to the canonical one."""
    order = [cell.file_gates.index(gate) for gate in GATES[cell.kind]]
    blocks = rows.reshape((len(order), -1, *rows.shape[1:]))
    return np.ascontiguousarray(blocks[order].reshape(rows.shape))


def _initial_states(node: Node, build: Builder, k: int, what: str, directions: int, hidden: int) -> list[InitialState]:
    """Initial states [D, N, H] of each direction: constants or elements of a state input; zeros when absent."""
    zeros = InitialState(np.zeros(hidden))
    if not node.has_input(k):
        return [zeros] * directions
    value = node.input(k)
    if not isinstance(value, Features):
        array = node.weights(k, what)
        if array.shape != (directions, 1, hidden):
            raise node.damaged(
                f"{what} has shape {list(array.shape)}, expected [{directions}, 1 (one for all of the batch), {hidden}]"
            )
        return [InitialState(array[d, 0].copy()) for d in range(directions)]
    # one sequence, baked in, and one direction: [1, 1, H] does not say which axis is which, and it does not matter
    batch_first = directions == 1 and value.axes == (BATCH, None, None) and 1 in build.baked[BATCH]
    if value.ids.shape != (directions, 1, hidden) or (value.axes != (None, BATCH, None) and not batch_first):
        raise node.refuse(
            f"{what} has shape {value.describe()}, expected [{directions}, N, {hidden}]; re-export with this shape"
        )
    states = []
    for d in range(directions):
        ids = value.ids.reshape(directions, hidden)[d]
        parts = build.book.parts(ids)
        tensor = parts[0].tensor
        if len(parts) > 1 or tensor.kind not in ("state", "constant"):
            names = ", ".join(f"'{p.tensor.name}'" for p in parts)
            raise node.refuse(
                f"{what} '{node.input_names[k]}' is computed (from {names}); initial states must be constants or a graph input of "
                "their own; split the model there"
            )
        if tensor.values is not None:
            states.append(InitialState(tensor.values[parts[0].indices]))
        else:
            states.append(InitialState(np.zeros(hidden), tensor.name, parts[0].indices))
    return states


def _input(node: Node, build: Builder) -> tuple[Tensor, Any]:
    """X [T, N, I] as one tensor and the indices of its features; in a graph of one step the time axis may be any axis of size 1."""
    value = node.features(X, "X")
    right = value.axes == (TIME, BATCH, None)
    if build.one_step and value.ids.ndim == 3:
        hidden = value.axes == (None, BATCH, None) or (1 in build.baked[BATCH] and value.axes[2] is None)
        right = right or (hidden and value.ids.size == value.ids.shape[2])
    if not right:
        raise node.refuse(
            f"X has shape {value.describe()}, expected [T, N, features] with batch N and time T; "
            "re-export with batch and time as axes of the graph inputs"
        )
    tensor, indices = build.operand(node, value)
    if not tensor.has_time:
        raise node.refuse(f"X '{node.input_names[X]}' has no time axis; run this part outside the model")
    return tensor, indices


def _lengths(node: Node, build: Builder) -> str | None:
    if not node.has_input(LENGTHS):
        return None
    value = node.input(LENGTHS)
    parts = build.book.parts(value.ids) if isinstance(value, Features) else []
    if len(parts) != 1 or parts[0].tensor.kind != "lengths":
        raise node.refuse(
            f"sequence_lens '{node.input_names[LENGTHS]}' is not a graph input; re-export with sequence_lens as a graph input [N] or without it"
        )
    return parts[0].tensor.name


@operator("LSTM", "GRU", "RNN")
def recurrent(node: Node, build: Builder) -> tuple[Features, ...]:
    """Y [T, D, N, H], Y_h [D, N, H] and, for LSTM, Y_c [D, N, H]."""
    cell = CELLS[node.op]
    refuse_attributes(node)
    reverse = directions_of(node)
    count = len(reverse)
    linear_before_reset = bool(node.take("linear_before_reset", 0)) if node.op == "GRU" else False
    activations = activations_of(node, cell, count)
    w, r, b = _weights(node, cell, count)
    rows, hidden = r.shape[1], r.shape[2]
    tensor, indices = _input(node, build)
    if indices.size != w.shape[2]:
        raise node.damaged(f"W has shape {list(w.shape)} but X has {indices.size} features")
    if build.one_step and any(reverse):
        raise node.refuse("runs in reverse in a graph of one step per call; re-export with a dynamic time axis")
    build.lengths_of[node.where] = (_lengths(node, build), any(reverse))
    h_0 = _initial_states(node, build, INITIAL_H, "initial_h", count, hidden)
    lstm = cell.kind == "lstm"
    c_0 = _initial_states(node, build, INITIAL_C, "initial_c", count, hidden) if lstm else [None] * count
    directions = tuple(
        Direction(
            reverse=reverse[d],
            weight_ih=build.spread_columns(node, _reorder(cell, w[d]), tensor, indices),
            weight_hh=_reorder(cell, r[d]),
            bias_ih=_reorder(cell, b[d, :rows]),
            bias_hh=_reorder(cell, b[d, rows:]),
            activations=activations[d],
            h_0=h_0[d],
            c_0=c_0[d],
        )
        for d in range(count)
    )
    y = build.result(node, count * hidden, True)
    h_n = build.result(node, count * hidden, False, 1, "h_n")
    h_n.steps = y
    finals = [(h_n, h_0)]
    c_n = None
    if lstm:
        c_n = build.result(node, count * hidden, False, 2, "c_n")
        finals.append((c_n, [c for c in c_0 if c is not None]))
    build.layers.append(
        Recurrent(
            name=node.name,
            cell=cell.kind,
            input=tensor.name,
            output=y.name,
            h_n=h_n.name,
            c_n=c_n.name if c_n else None,
            directions=directions,
            linear_before_reset=linear_before_reset,
        )
    )
    for final, initial in finals:
        _record_carries(build, final, initial, hidden)
    outputs = [Features(y.ids.reshape(1, count, 1, hidden), (TIME, None, BATCH, None))]
    outputs += [Features(f.ids.reshape(count, 1, hidden), (None, BATCH, None)) for f, _ in finals]
    return tuple(outputs)


def _record_carries(build: Builder, final: Tensor, initial: list[InitialState], hidden: int) -> None:
    """Which state input elements each final state would be carried to."""
    by_name = {t.name: t for t in build.book.tensors if t.kind == "state"}
    for d, state in enumerate(initial):
        if state.source is None or state.indices is None:
            continue
        source = by_name[state.source]
        for unit, element in enumerate(state.indices):
            build.carries.setdefault(int(element) + source.start, set()).add(final.start + d * hidden + unit)


@axis_rule("LSTM", "GRU", "RNN")
def recurrent_axes(node: Node, roles: Roles) -> tuple[AxisTensor | None, ...]:
    """Where the axes get their names: X [T, N, F], initial states [D, N, H], sequence_lens [N]."""
    for k in (WEIGHT, RECURRENT, BIAS, PEEPHOLES):
        if node.has_input(k):
            roles.mark(node.input(k), "weight", node.name)
    x = node.input(X)
    if isinstance(x, AxisTensor) and x.rank == 3:
        time, batch = x.axes[0], x.axes[1]
        if time.source is None and not roles.is_time(time):
            roles.made_time.append(time)
        roles.same(time, roles.time, node.name)
        roles.same(batch, roles.batch, node.name)
        roles.mark(x, "features", node.name)
    for k in (INITIAL_H, INITIAL_C):
        value = node.input(k)
        if isinstance(value, AxisTensor):
            roles.mark(value, "state", node.name)
            if value.rank == 3:
                roles.same(value.axes[1], roles.batch, node.name)
    lengths = node.input(LENGTHS)
    if isinstance(lengths, AxisTensor):
        roles.mark(lengths, "lengths", node.name)
        if lengths.rank == 1:
            roles.same(lengths.axes[0], roles.batch, node.name)
    count = 2 if node.take("direction", "forward") == "bidirectional" else 1
    r = node.input(RECURRENT)
    hidden = int(r.shape[2]) if isinstance(r, np.ndarray) and r.ndim == 3 else None
    state = AxisTensor((roles.made(count, node.name), roles.batch, roles.made(hidden, node.name)))
    y = AxisTensor((roles.time, roles.made(count, node.name), roles.batch, roles.made(hidden, node.name)))
    return (y, state, state)
