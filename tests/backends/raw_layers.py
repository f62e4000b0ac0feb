"""Recurrent layers of random integers, up to the ends of what a model file may hold: more than any conversion makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.model.float_model import GraphInput
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.definition import CellKind, Forget, gate_blocks
from qrnn.model.kinds.recurrent.quantized import C_FRAC_MAX, QuantDirection, QuantPeephole, QuantProjection
from qrnn.model.parts import (
    CELL_MAX,
    SCALE_COLUMNS,
    SCALE_LIMIT,
    STATE_MAX,
    AnyMatrix,
    GateFunction,
    Operand,
    QuantInitialState,
    QuantMatrix,
    QuantMatrix4,
    TensorFormat,
    pack_nibbles,
)
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.gate_tables import exp_table

Rng = np.random.Generator


def ends(rng: Rng, low: int, high: int, *shape: int) -> Any:
    """Integers in low … high, a third of them at the ends."""
    drawn = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 1 / 3, np.where(rng.random(shape) < 0.5, low, high), drawn)


def _number(rng: Rng, low: int, high: int) -> int:
    return int(ends(rng, low, high, 1)[0])


def gate_function(rng: Rng, in_frac: int, out_frac: int) -> GateFunction:
    """A function of any kind, with parameters of any size."""
    kind, table = int(rng.integers(4)), np.zeros(0, np.int32)
    values: tuple[int, ...]
    if kind in (g.ODD, g.TABLE):
        bits = int(rng.integers(9, 16))
        offset = int(rng.choice([0, 1 << 14, -(1 << 14)]))
        largest = 32768 if kind == g.TABLE else abs(offset) or 32767
        size = (1 << ((15 if kind == g.ODD else 16) - bits)) + 1
        table = np.clip(ends(rng, -largest, largest, size), -32767, 32767 if largest > 32766 else largest).astype(
            np.int32
        )
        low, high = np.sort(ends(rng, -32768, 32767, 2)).tolist()
        values = (offset, bits, _number(rng, 0, 32767)) if kind == g.ODD else (low, bits, high)
    else:
        slope = _number(rng, -32767, 32767)
        room = (1 << 31) - 1 - (1 << 15) - abs(slope) * 32768
        low, high = np.sort(ends(rng, -32768, 32768, 2)).tolist()
        values = (slope, _number(rng, -room, room), _number(rng, 0, 15), low, high)
        if kind == g.THRESHOLD:
            values = (_number(rng, -32768, 32767), int(rng.integers(-1, 2)), _number(rng, 0, 9), high, low)
    params = np.zeros(g.PARAMS, np.int64)
    params[: 3 + len(values)] = kind, in_frac, out_frac, *values
    return GateFunction("drawn", params, table)


def matrix(rng: Rng, rows: int, columns: int, limit: int) -> QuantMatrix:
    """Weights, biases and multipliers up to the end of what the overflow proof allows."""
    weight = ends(rng, -127, 127, rows, columns).astype(np.int8)
    return QuantMatrix(weight, *_row_parameters(rng, weight.astype(np.int64), limit), limit)


def matrix4(rng: Rng, rows: int, columns: int, limit: int) -> QuantMatrix4:
    """The same with weights of four bits."""
    q = ends(rng, -8, 7, rows, columns).astype(np.int8)
    shape = (rows, -(-columns // SCALE_COLUMNS))
    scale = (ends(rng, 1, SCALE_LIMIT, *shape) * rng.choice([-1, 1], shape)).astype(np.int8)
    weight = q.astype(np.int64) * np.repeat(scale, SCALE_COLUMNS, axis=1)[:, :columns]
    return QuantMatrix4(pack_nibbles(q), scale, columns, *_row_parameters(rng, weight, limit), limit)


def any_matrix(rng: Rng, rows: int, columns: int, limit: int) -> AnyMatrix:
    """One or the other."""
    return (matrix if rng.random() < 0.7 else matrix4)(rng, rows, columns, limit)


def _row_parameters(rng: Rng, weight: Any, limit: int) -> tuple[Any, Any, Any]:
    rows = len(weight)
    room = (1 << 31) - 1 - np.abs(weight).sum(axis=1) * limit
    bias = (ends(rng, -1, 1, rows) * room * rng.random(rows)).astype(np.int64)
    bias = np.where(rng.random(rows) < 0.5, bias >> 20, bias)
    bound = np.maximum(np.abs(weight).sum(axis=1) * limit + np.abs(bias), 1)
    shift = np.floor(np.log2(((1 << 31) - 1) / bound)).astype(np.int64)
    shift = np.where(rng.random(rows) < 0.5, np.clip(shift, 0, 30), 0)
    multiplier = (2 * ends(rng, 0, (1 << 30) - 1, rows)) >> (1 + rng.integers(0, 24, rows)) << 1
    return bias.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.int8)


def _operand(rng: Rng) -> Operand:
    return Operand(_number(rng, 0, 15), int(rng.choice([1, 127, 8191, 32767])))


def _pre_shift(rng: Rng, rows: int) -> Any:
    return np.where(rng.random(rows) < 0.7, 0, ends(rng, 0, 15, rows)).astype(np.int8)


@dataclass(frozen=True)
class _Formats:
    """Fraction bits that fit each other: of each role's argument and value, h, c and h before a projection."""

    arguments: dict[str, int]
    values: dict[str, int]
    h: int
    c: int
    hidden: int


def _formats(rng: Rng, roles: tuple[str, ...], projected: int | None) -> _Formats:
    arguments = {role: _number(rng, 0, 15) for role in roles}
    values = {role: _number(rng, 0, 15) for role in roles}
    c = C_FRAC_MAX
    if "output" in roles:
        most = min(C_FRAC_MAX, values["i"] + values["g"])
        c = _number(rng, 0, most)
        arguments["output"] = _number(rng, 0, min(15, c))
        own = values["o"] + values["output"]
    else:
        own = values["n" if "n" in roles else "h"]
    own = min(15, own)
    h = _number(rng, 0, own if projected is None else projected)
    return _Formats(arguments, values, h, c, h if projected is None else _number(rng, 0, own))


def raw_model(rng: Rng) -> QuantModel:
    """One recurrent layer of random integers alone, from x to y, h_n and c_n."""
    cell: CellKind = str(rng.choice(("lstm", "gru", "rnn")))  # those for which every backend has a kernel
    forget: Forget = str(rng.choice(get_args(Forget))) if cell == "lstm" else "gate"  # type: ignore[assignment]
    blocks = gate_blocks(cell, forget)
    roles = (*blocks, "output") if cell == "lstm" else blocks
    kind = int(rng.integers(6)) if cell != "gru" else 5  # a projection: identity, function, softmax; from 3 on none
    H, I, D = int(rng.integers(1, 7)), int(rng.integers(1, 5)), int(rng.integers(1, 3))
    P = int(rng.integers(1, 7)) if kind < 3 else H
    out = (_number(rng, 0, 15), _number(rng, 0, 15), 14)[kind] if kind < 3 else None
    x_op, h_op = _operand(rng), _operand(rng)
    formats = _formats(rng, roles, out)
    directions = []
    for number in range(D):
        functions = tuple(gate_function(rng, formats.arguments[role], formats.values[role]) for role in roles)
        peephole = projection = None
        if cell == "lstm" and rng.random() < 0.5:
            weight, shift = ends(rng, -32768, 32767, len(blocks) * H), ends(rng, 0, 46, len(blocks) * H)
            peephole = QuantPeephole(weight.astype(np.int16), shift.astype(np.int8))
        if out is not None:
            function = gate_function(rng, _number(rng, 0, 15), out) if kind == 1 else None
            in_frac = function.in_frac if function is not None else out if kind == 0 else _number(rng, 0, 15)
            operand = _operand(rng)
            projection = QuantProjection(
                matrix(rng, P, H, operand.limit), _pre_shift(rng, P), operand, formats.hidden, in_frac,
                function, exp_table() if kind == 2 else None,
            )  # fmt: skip
        directions.append(
            QuantDirection(
                bool(rng.integers(2)) if D == 1 else bool(number),
                any_matrix(rng, len(blocks) * H, I, x_op.limit),
                any_matrix(rng, len(blocks) * H, P, h_op.limit),
                _pre_shift(rng, len(blocks) * H),
                functions,
                QuantInitialState(ends(rng, -32767, 32767, P).astype(np.int32)),
                QuantInitialState(ends(rng, -CELL_MAX, CELL_MAX, H).astype(np.int32)) if cell == "lstm" else None,
                peephole,
                projection,
            )
        )
    c_n = "c_n" if cell == "lstm" else None
    layer = QuantRecurrent(
        "rnn", cell, "x", "y", "h_n", c_n, tuple(directions), bool(rng.integers(2)),
        formats.h, formats.c, x_op, h_op, forget,
    )  # fmt: skip
    return alone(layer)


@dataclass(frozen=True)
class FusableShape:
    """A layer that fused steps take: its cell and sizes, and the limits of its operands (127: bytes, more: 16 bits)."""

    cell: CellKind
    linear_before_reset: bool
    hidden: int
    inputs: int
    x_limit: int = 127
    h_limit: int = 127
    directions: tuple[bool, ...] = (False,)
    simple: bool = False
    """What `qrnn.backends.cpu.packed.is_simple` means."""
    tables: bool = False
    """Every gate function is an odd table, neither turned round nor clipped, and no row has a left_shift."""
    weights: int = 8
    """Bits of the weights."""


def fusable_function(
    rng: Rng, low: int, high: int, in_frac: int, out_frac: int = 15, simple: bool = False, tables: bool = False
) -> GateFunction:
    """A function of any kind, an odd table most often or, with ``tables``, always; with values in ``low`` … ``high``, up to both ends.

    ``simple``: a table's segments are no more than are looked up in registers.
    """
    kind = g.ODD if tables or rng.random() < 0.4 else int(rng.choice([g.RAMP, g.TABLE, g.THRESHOLD]))
    table, values = np.zeros(0, np.int32), (0,)
    if kind == g.ODD:
        bits = int(rng.choice([8, 8, 9, 12, 15] if simple else [5, 8, 8, 9, 12, 15, 15]))
        offset = 0 if low < 0 else int(rng.choice([1 << 14, (1 << 14) if tables else -(1 << 14)]))
        most = abs(offset) or 32767
        table = _walk(rng, -most, most, 1 << (15 - bits))
        values = (offset, bits, _number(rng, 0, 32767) if rng.random() < 0.5 and not tables else 0)
    elif kind == g.TABLE:
        bits = int(rng.choice([9, 9, 10, 13, 15] if simple else [6, 9, 9, 10, 13, 15, 15]))
        table = _walk(rng, max(low, -32767), min(high, 32767), 1 << (16 - bits))
        first, last = np.sort(ends(rng, -32768, 32767, 2)).tolist()
        values = (first, bits, last)
    else:
        slope = _number(rng, -32767, 32767)
        room = (1 << 31) - 1 - (1 << 15) - abs(slope) * 32768
        first, last = np.sort(ends(rng, low, high, 2)).tolist()
        values = (slope, _number(rng, -room, room), _number(rng, 0, 15), first, last)
        if kind == g.THRESHOLD:  # a line that falls may leave its bounds, and one that rises begins anywhere
            at, rises = _number(rng, -32768, 32766), int(rng.integers(2))
            begin = _number(rng, low, last)
            values = (at, rises, begin - rises * (at + 1), last, first)
    params = np.zeros(g.PARAMS, np.int64)
    params[: 3 + len(values)] = kind, in_frac, out_frac, *values
    return GateFunction("drawn", params, table)


def _walk(rng: Rng, low: int, high: int, segments: int) -> Any:
    """Entries within low … high, each less than 32768 from the next: small steps and large ones."""
    entries = [_number(rng, max(low, -200), min(high, 200))]
    for step in ends(rng, -32767, 32767, segments).tolist():
        entries.append(min(high, max(low, entries[-1] + (step if rng.random() < 0.5 else step >> 9))))
    return np.array(entries, np.int32)


def fusable_model(rng: Rng, shape: FusableShape) -> QuantModel:
    """One recurrent layer of random integers that fused steps take, from x to y, h_n and c_n."""
    cell, H, I = shape.cell, shape.hidden, shape.inputs
    blocks = gate_blocks(cell, "gate")
    roles = (*blocks, "output") if cell == "lstm" else blocks
    x_op, h_op = Operand(_number(rng, 0, 15), shape.x_limit), Operand(_number(rng, 0, 15), shape.h_limit)
    finer = 2 if shape.simple else 1
    c_frac = _number(rng, finer, C_FRAC_MAX)
    out_frac = _number(rng, 0, 15) if cell == "rnn" else 15
    in_frac = _number(rng, 0, min(15, c_frac - finer))
    rows, directions = len(blocks) * H, []
    make = matrix if shape.weights == 8 else matrix4
    for reverse in shape.directions:
        functions = []
        for role in roles:
            low, high = (-32768, 32768) if cell == "rnn" else (0, 32768) if role in "iforz" else (-32767, 32767)
            if shape.simple and cell == "rnn":
                low, high = -32767, 32767
            functions.append(fusable_function(rng, low, high, in_frac, out_frac, shape.simple, shape.tables))
        directions.append(
            QuantDirection(
                reverse,
                make(rng, rows, I, x_op.limit),
                make(rng, rows, H, h_op.limit),
                np.zeros(rows, np.int8) if shape.simple else _pre_shift(rng, rows),
                tuple(functions),
                QuantInitialState(ends(rng, -32767, 32767, H).astype(np.int32)),
                QuantInitialState(ends(rng, -CELL_MAX, CELL_MAX, H).astype(np.int32)) if cell == "lstm" else None,
            )
        )
    for d in directions if shape.tables else ():
        for part in (d.ih, d.hh):
            part.left_shift[:] = 0
    c_n = "c_n" if cell == "lstm" else None
    usual = shape.simple and cell != "rnn" and (shape.tables or rng.random() < 0.7)
    h_frac = 15 if usual else _number(rng, 0, out_frac)
    layer = QuantRecurrent(
        "rnn", cell, "x", "y", "h_n", c_n, tuple(directions), shape.linear_before_reset,
        h_frac, c_frac, x_op, h_op,
    )  # fmt: skip
    return alone(layer)


def dense_model(rng: Rng, inputs: int, rows: int, limit: int) -> QuantModel:
    """A dense layer of random integers, from x to y."""
    operand = Operand(_number(rng, 0, 15), limit)
    layer = QuantDense("dense", "x", "y", matrix(rng, rows, inputs, limit), _pre_shift(rng, rows), operand, 5)
    return _model(layer, {"x": int16(0, inputs), "y": int16(layer.out_frac, rows)})


def with_zeros(rng: Rng, model: QuantModel, block: tuple[int, int], density: float) -> QuantModel:
    """Return a model of one layer with zeros in blocks of its matrices of int8, each kept with the probability ``density``.

    A recurrent layer's blocks begin with each gate.
    """

    def zeroed(m: Any, gates: int) -> QuantMatrix:
        rows, columns = m.weight.shape
        shape = (gates, -(-rows // gates // block[0]), -(-columns // block[1]))
        kept = (rng.random(shape) < density).repeat(block[0], axis=1).repeat(block[1], axis=2)
        mask = kept[:, : rows // gates, :columns].reshape(rows, columns)
        return QuantMatrix(m.weight * mask.astype(np.int8), m.bias, m.multiplier, m.left_shift, m.operand_limit)

    (layer,) = model.layers
    if isinstance(layer, QuantDense):
        return replace(model, layers=(replace(layer, matrix=zeroed(layer.matrix, 1)),))
    assert isinstance(layer, QuantRecurrent)
    directions = []
    for d in layer.directions:
        gates = len(d.ih.bias) // layer.hidden_size
        directions.append(replace(d, ih=zeroed(d.ih, gates), hh=zeroed(d.matrix_hh, gates)))
    return replace(model, layers=(replace(layer, directions=tuple(directions)),))


def alone(layer: QuantRecurrent) -> QuantModel:
    """A model of this layer and nothing else."""
    D, H, P, I = len(layer.directions), layer.hidden_size, layer.output_size, layer.input_size
    y = int16(layer.h_frac, D * P)
    tensors = {"x": int16(0, I), "y": y, "h_n": replace(y, has_time=False)}
    if layer.c_n is not None:
        tensors[layer.c_n] = TensorFormat(D * H, False, 32, (2.0**-layer.c_frac,), CELL_MAX)
    return _model(layer, tensors)


def int16(frac: int, features: int) -> TensorFormat:
    """The format of a fixed-point tensor over time."""
    return TensorFormat(features, True, 16, (2.0**-frac,), STATE_MAX)


def _model(layer: QuantRecurrent | QuantDense, tensors: dict[str, TensorFormat]) -> QuantModel:
    """One layer with its tensors."""
    provenance = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
    return QuantModel(
        "raw", (GraphInput("x", "features", (tensors["x"].features,), True),), (layer,), (), tensors, False, provenance
    )
