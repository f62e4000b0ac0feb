"""LSTM, GRU and RNN. Gates are brought to the canonical order here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.cells import CELLS as DECLARATIONS
from qrnn.model.kinds.recurrent.definition import Direction, InitialState, gate_blocks
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder, NodeLengths
from qrnn.onnx_import.claims import claim
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.recurrent_attributes import (
    BIAS,
    CELLS,
    FILE_PEEPHOLES,
    INITIAL_C,
    INITIAL_H,
    LENGTHS,
    PEEPHOLES,
    RECURRENT,
    WEIGHT,
    Attributes,
    Cell,
    X,
    attributes_of,
)
from qrnn.onnx_import.operators.recurrent_bands import Bands, banded_input, initial_states, written
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Claim, Roles
from qrnn.onnx_import.starts import Start, joined_parts, start_of
from qrnn.onnx_import.steps import as_steps
from qrnn.onnx_import.values import BATCH, TIME, Features, Symbol, Tensor, is_shape

LARGEST_HIDDEN = 1 << 16


def _weights(node: Node, cell: Cell, directions: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return W [D, G·H, I], R [D, G·H, H] and B [D, 2·G·H], checked against each other and against hidden_size."""
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


def _reorder(node: Node, cell: Cell, gates: tuple[str, ...], rows: FloatArray) -> FloatArray:
    """Return gate blocks [G·H, …] in the order of ``gates``, which may be fewer than the file's."""
    node.reserve(rows.size, scratch=rows.size)
    order = [cell.file_gates.index(gate) for gate in gates]
    blocks = rows.reshape((len(cell.file_gates), -1, *rows.shape[1:]))[order]
    return np.ascontiguousarray(blocks.reshape((-1, *rows.shape[1:])))


def _peepholes(node: Node, gates: tuple[str, ...], directions: int, hidden: int) -> list[FloatArray | None]:
    """Return P [D, 3·H] as the rows [G·H] of each direction, zero for the candidate; None where all are zero."""
    if node.op != "LSTM" or not node.has_input(PEEPHOLES):
        return [None] * directions
    p = node.weights(PEEPHOLES, "P")
    if p.shape != (directions, len(FILE_PEEPHOLES) * hidden):
        raise node.damaged(
            f"P has shape {list(p.shape)}, expected [{directions}, {len(FILE_PEEPHOLES) * hidden}] (one direction after the other; i, o, f)"
        )
    result: list[FloatArray | None] = []
    for blocks in p.reshape(directions, len(FILE_PEEPHOLES), hidden):
        by_gate = dict(zip(FILE_PEEPHOLES, blocks, strict=True))
        rows = np.concatenate([by_gate.get(gate, np.zeros(hidden)) for gate in gates])
        result.append(rows if rows.any() else None)
    return result


def _constant_states(node: Node, k: int, what: str, shape: tuple[int, int], batch_axis: int) -> list[InitialState]:
    """Return constant states [D, N, H] (or [N, D, H]): one for the whole batch, or N times the same."""
    array = node.weights(k, what)
    if array.ndim != 3 or tuple(np.delete(array.shape, batch_axis)) != shape or array.shape[batch_axis] == 0:
        expected = [str(size) for size in shape]
        expected.insert(batch_axis, "N")
        raise node.damaged(f"{what} has shape {list(array.shape)}, expected [{', '.join(expected)}]")
    rows = np.moveaxis(array, batch_axis, 0)
    if (rows != rows[0]).any():
        raise node.refuse(
            f"{what} '{node.input_names[k]}' holds other constants for each of {len(rows)} sequences, which binds the model to one batch; "
            "re-export with it as a graph input or equal for all"
        )
    return [InitialState(row.copy()) for row in rows[0]]


def _initial_states(node: Node, build: Builder, k: int, what: str, attributes: Attributes, hidden: int) -> list[Start]:
    """Return the initial states [D, N, H] ([N, D, H] when batch first) of each direction.

    They are constants, elements of a state input, or computed; and zeros when absent.
    """
    directions = len(attributes.reverse)
    if not node.has_input(k):
        return [Start(InitialState(np.zeros(hidden)))] * directions
    value = node.input(k)
    batch_axis = 0 if attributes.batch_first else 1
    if not isinstance(value, Features):
        return [Start(s) for s in _constant_states(node, k, what, (directions, hidden), batch_axis)]
    # one sequence, baked in, and one direction: [1, 1, H] does not say which axis is which, and it does not matter
    either = directions == 1 and sum(axis is BATCH for axis in value.axes[:2]) == 1 and 1 in build.baked[BATCH]
    sizes = [1, directions, hidden] if attributes.batch_first else [directions, 1, hidden]
    axes = tuple(build.batch if axis == batch_axis else None for axis in range(3))
    if list(value.ids.shape) != sizes or value.axes[2] is not None or (value.axes != axes and not either):
        sizes_text = ", ".join("N" if axis is BATCH else str(size) for axis, size in zip(axes, sizes, strict=True))
        raise node.refuse(f"{what} has shape {value.describe()}, expected [{sizes_text}]; re-export with this shape")
    name = node.input_names[k]
    return [start_of(node, build, what, name, ids) for ids in value.ids.reshape(directions, hidden)]


def _input(node: Node, build: Builder, batch_first: bool) -> tuple[Tensor, Any]:
    """Return X [T, N, I] ([N, T, I] when batch first) as one tensor and the indices of its features.

    In a graph of one step the time axis may be any axis of size 1.
    """
    value = node.features(X, "X")
    if value.axes.count(None) == 2 and value.ids.ndim == 3:  # one vector, as many times as there are steps
        value = as_steps(node, build, value, 1 if batch_first else 0, None) or value
    batch = build.batch
    right = value.axes == ((batch, TIME, None) if batch_first else (TIME, batch, None))
    right = right and value.ids.size == value.ids.shape[2]
    if build.one_step and value.ids.ndim == 3:
        hidden = value.axes == ((batch, None, None) if batch_first else (None, batch, None))
        hidden = hidden or (1 in build.baked[BATCH] and value.axes[2] is None)
        right = right or (hidden and value.ids.size == value.ids.shape[2])
    if not right:
        raise node.refuse(
            f"X has shape {value.describe()}, expected {'[N, T, features]' if batch_first else '[T, N, features]'} with batch N and "
            "time T; re-export with batch and time as axes of the graph inputs"
        )
    tensor, indices = build.operand(node, value)
    if not tensor.has_time:
        raise node.refuse(f"X '{node.input_names[X]}' has no time axis; run this part outside the model")
    return tensor, indices


def _columns(
    node: Node, build: Builder, weight: FloatArray, tensor: Tensor, indices: Any, banded: Bands | None
) -> FloatArray:
    """Return the columns of weight_ih for the features of X: those of a tensor, or of a band."""
    return weight if banded is not None else build.spread_columns(node, weight, tensor, indices)


def lengths_input(node: Node, build: Builder, k: int = LENGTHS) -> str | None:
    """Return the graph input that is sequence_lens, input ``k``, or None without one.

    Constants are accepted only where they say that no sequence is shorter than X.
    """
    if not node.has_input(k):
        return None
    value, name = node.input(k), node.input_names[k]
    parts = build.book.parts(value.ids) if isinstance(value, Features) else []
    if len(parts) == 1 and parts[0].tensor.kind == "lengths":
        return parts[0].tensor.name
    if is_shape(value) and all(rule_of(size) == build.length_rule(node.input(0)) for size in value.reshape(-1)):
        return None  # as many as there are
    if isinstance(value, Features) or is_shape(value):
        raise node.refuse(
            f"sequence_lens '{name}' is not a graph input; re-export with sequence_lens as a graph input [N] or without it"
        )
    lengths, baked = set(node.ints(k, "sequence_lens")), build.baked_steps(build.length_rule(node.input(0)))
    if lengths and lengths == baked:
        return None
    steps = ", ".join(str(size) for size in sorted(baked)) or "any number of"
    raise node.refuse(
        f"sequence_lens '{name}' is the constant {sorted(lengths)} where X has {steps} steps, which binds the model to one batch; "
        "re-export with sequence_lens as a graph input [N] or without it"
    )


@operator("LSTM", "GRU", "RNN")
def recurrent(node: Node, build: Builder) -> tuple[Features, ...]:
    """Import LSTM, GRU or RNN.

    The results are Y [T, D, N, H], Y_h [D, N, H] and, for LSTM, Y_c [D, N, H]; when batch first Y [N, T, D, H], Y_h and Y_c [N, D, H].
    """
    cell = CELLS[node.op]
    attributes = attributes_of(node, build)
    banded = banded_input(node, build, attributes.batch_first)
    turned = node.backwards and (banded is None or not banded.over)
    reverse = tuple(direction != turned for direction in attributes.reverse)
    count = len(reverse)
    w, r, b = _weights(node, cell, count)
    rows, hidden = r.shape[1], r.shape[2]
    gates = gate_blocks(cell.kind, attributes.forget)
    peepholes = _peepholes(node, gates, count, hidden)
    if banded is None:
        tensor, indices = _input(node, build, attributes.batch_first)
    else:
        tensor, indices = banded.tensor, np.arange(banded.features)
    if indices.size != w.shape[2]:
        raise node.damaged(f"W has shape {list(w.shape)} but X has {indices.size} features")
    lengths = lengths_input(node, build) or node.lengths or None
    if banded is not None and lengths is not None:
        raise node.refuse("has sequence_lens beside rows that are bands; re-export without it")
    if banded is None or not banded.over:
        over = build.rule_of(tensor).axes
        build.lengths_of.append(NodeLengths(node.where, lengths, any(reverse) and not build.one_step, over))

    def starts(k: int, what: str) -> list[Start]:
        if banded is None:
            return _initial_states(node, build, k, what, attributes, hidden)
        states = initial_states(node, build, k, what, banded, count, hidden, attributes.batch_first)
        return [Start(state) for state in states]

    h_starts = starts(INITIAL_H, "initial_h")
    has_cell_state = DECLARATIONS[cell.kind].has_cell_state
    c_starts = starts(INITIAL_C, "initial_c") if has_cell_state else []
    h_0 = [start.state for start in h_starts]
    c_0 = [start.state for start in c_starts] if has_cell_state else [None] * count
    constant = any(state is not None and state.source is None for state in [*h_0, *c_0])
    if build.one_step and build.stream and any(reverse) and constant:
        raise node.refuse(
            "runs in reverse in a graph of one step per call, which cannot be streamed; leave out --stream, or re-export "
            "with a dynamic time axis"
        )
    directions = tuple(
        Direction(
            reverse=reverse[d],
            weight_ih=_columns(node, build, _reorder(node, cell, gates, w[d]), tensor, indices, banded),
            weight_hh=_reorder(node, cell, gates, r[d]),
            bias_ih=_reorder(node, cell, gates, b[d, :rows]),
            bias_hh=_reorder(node, cell, gates, b[d, rows:]),
            activations=attributes.activations[d],
            h_0=h_0[d],
            c_0=c_0[d],
            peephole=peepholes[d],
        )
        for d in range(count)
    )
    fields: dict[str, Any] = {
        "cell": cell.kind,
        "linear_before_reset": attributes.linear_before_reset,
        "forget": attributes.forget,
        "clip": attributes.clip,
    }
    if banded is not None and (banded.over or not turned or count == 1):
        apart = build.one_step and not banded.over
        each = [(replace(d, reverse=False),) for d in directions] if apart else [directions]
        return written(node, build, banded, fields, each, hidden, attributes.batch_first)
    if banded is not None:
        raise node.refuse("runs in both directions over bands whose steps are in reverse; reverse them back before")
    swapped = count == 2 and directions[0].reverse  # in a graph of whole sequences whose steps are in reverse
    if swapped and not build.one_step:
        directions, h_starts, c_starts = directions[::-1], h_starts[::-1], c_starts[::-1]
    # one step has the same result either way, so that its directions are layers of their own, each with a memory or without
    groups = [(replace(d, reverse=False),) for d in directions] if build.one_step else [directions]
    made = []
    for number, group in enumerate(groups):
        own = slice(number, number + 1) if len(groups) > 1 else slice(None)
        begins = joined_parts(h_starts[own], hidden), joined_parts(c_starts[own], hidden)
        made.append(
            _add_layer(node, build, tensor, group, hidden, begins, fields, f".{number}" if len(groups) > 1 else "")
        )
    y_ids, *final_ids = (np.concatenate([t.ids for t in tensors]) for tensors in zip(*made, strict=True))
    if swapped and not build.one_step:
        y_ids, *final_ids = (ids.reshape(count, hidden)[::-1].reshape(-1) for ids in (y_ids, *final_ids))
    return _outputs(build.batch, attributes.batch_first, (count, hidden), y_ids, final_ids)


def _add_layer(
    node: Node,
    build: Builder,
    x: Tensor,
    directions: tuple[Direction, ...],
    hidden: int,
    begins: tuple[Any, Any],
    fields: dict[str, Any],
    part: str,
) -> tuple[Tensor, ...]:
    """Add the layer of some directions of a node, and return its tensors Y, h_n and, where the cell has one, c_n.

    ``begins`` are the computed parts of h_0 and c_0; ``part`` is appended to the names of the tensors.
    """
    size, cell_states = len(directions) * hidden, [d.c_0 for d in directions if d.c_0 is not None]
    y = build.result(node, size, True, part=part)
    h_n = build.result(node, size, False, 1, "h_n", part)
    h_n.steps = y
    c_n = build.result(node, size, False, 2, "c_n", part) if cell_states else None
    build.layers.append(
        Recurrent(
            name=node.name,
            input=x.name,
            output=y.name,
            h_n=h_n.name,
            c_n=c_n.name if c_n else None,
            directions=directions,
            h_start=begins[0],
            c_start=begins[1],
            **fields,
        )
    )
    _record_carries(build, h_n, [d.h_0 for d in directions], hidden)
    if c_n is None:
        return y, h_n
    _record_carries(build, c_n, cell_states, hidden)
    return y, h_n, c_n


def _outputs(
    batch: Symbol | None, batch_first: bool, sizes: tuple[int, int], y_ids: IndexArray, final_ids: Sequence[IndexArray]
) -> tuple[Features, ...]:
    """Return the ids of Y and of the final states, [D · H] with ``sizes`` (D, H), in the shapes that a node gives."""
    count, hidden = sizes
    if batch_first:
        outputs = [Features(y_ids.reshape(1, 1, count, hidden), (batch, TIME, None, None))]
        outputs += [Features(ids.reshape(1, count, hidden), (batch, None, None)) for ids in final_ids]
    else:
        outputs = [Features(y_ids.reshape(1, count, 1, hidden), (TIME, None, batch, None))]
        outputs += [Features(ids.reshape(count, 1, hidden), (None, batch, None)) for ids in final_ids]
    return tuple(outputs)


def _record_carries(build: Builder, final: Tensor, initial: list[InitialState], hidden: int) -> None:
    """Record which state input elements each final state would be carried to."""
    for d, state in enumerate(initial):
        if state.source is None or state.indices is None:
            continue
        source = build.states[state.source]
        for unit, element in enumerate(state.indices):
            build.carries.setdefault(int(element) + source.start, set()).add(final.start + d * hidden + unit)


@axis_rule("LSTM", "GRU", "RNN")
def recurrent_axes(node: Node, roles: Roles) -> tuple[AxisTensor | None, ...]:
    """Name the axes: X is [T, N, F], initial states are [D, N, H], sequence_lens is [N]; with layout=1, N comes first in all."""
    first = int(node.take("layout", 0)) == 1
    for k in (WEIGHT, RECURRENT, BIAS, PEEPHOLES):
        if node.has_input(k):
            roles.mark(node.input(k), "weight", node.name)
    x = node.input(X)
    if isinstance(x, AxisTensor) and x.rank == 3:
        batch, time = x.axes[:2] if first else x.axes[1::-1]
        given = (v for k in (INITIAL_H, INITIAL_C) if isinstance(v := node.input(k), AxisTensor) and v.rank == 3)
        states = tuple(v.axes[0 if first else 1] for v in given)
        claim(roles, Claim(node.name, time, batch, node.peek("direction", "forward") != "bidirectional", states))
        roles.mark(x, "features", node.name)
        roles.features.add(x.axes[2])
        if isinstance(w := node.input(WEIGHT), np.ndarray) and w.ndim == 3:
            roles.used_as(x.axes[2], int(w.shape[2]))
    for k in (INITIAL_H, INITIAL_C):
        value = node.input(k)
        if isinstance(value, AxisTensor):
            roles.mark(value, "state", node.name)
    lengths = node.input(LENGTHS)
    if isinstance(lengths, AxisTensor):
        roles.mark(lengths, "lengths", node.name)
        if lengths.rank == 1:
            roles.same(lengths.axes[0], roles.batch, node.name)
    count = 2 if node.take("direction", "forward") == "bidirectional" else 1
    r = node.input(RECURRENT)
    hidden = int(r.shape[2]) if isinstance(r, np.ndarray) and r.ndim == 3 else None
    for value in (node.input(INITIAL_H), node.input(INITIAL_C)):
        if isinstance(value, AxisTensor) and value.rank == 3 and hidden is not None:
            roles.used_as(value.axes[1 if first else 0], count)
            roles.used_as(value.axes[2], hidden)
    time, batch = roles.time, roles.batch
    if isinstance(x, AxisTensor) and x.rank == 3:  # a Reshape of Y may name baked sizes
        time, sequences = x.axes[1::-1] if first else x.axes[:2]
        if sequences.parts or time.size is not None or sequences.size is not None:  # what `claim` leaves open
            batch = sequences
    # axes of their own: in a graph of one step Y_h may be the X of the next node, its first axis the time
    d, h, d_n, h_n = (roles.made(size, node.name) for size in (count, hidden, count, hidden))
    if first:
        y, state = (batch, time, d, h), (batch, d_n, h_n)
    else:
        y, state = (time, d, batch, h), (d_n, batch, h_n)
    return AxisTensor(y), AxisTensor(state), AxisTensor(state)
