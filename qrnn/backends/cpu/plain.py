"""Layers that are not fused, as `qrnn.backends.cpu.kernels` reads them: matrices, gate functions, projections, codes, scratch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qrnn.arithmetic.gates import PARAMS
from qrnn.backends.cpu import block_sizes
from qrnn.backends.cpu.threads.team import barrier_flags
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.cell_codes import FUNCTION, IDENTITY, NONE, SOFTMAX
from qrnn.model.cell_formats import pack_formats
from qrnn.model.kinds.recurrent.quantized import (
    QuantDirection,
    QuantPeephole,
    QuantProjection,
    QuantRecurrentDefinition,
)
from qrnn.model.parts import Int8Array, Int16Array, Int32Array, Matrix, pack_gates


class PlainMatrix(NamedTuple):
    """A matrix as plain loops read it: weight [R, K] int8 and, for each row, bias int32, multiplier int32 and left_shift int8."""

    weight: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    left_shift: Int8Array


class PlainGates(NamedTuple):
    """The gate functions of a direction: pre_shift [R] int8, and parameters and tables as `pack_gates` makes them."""

    pre_shift: Int8Array
    params: Any
    tables: Any
    peephole: tuple[Int16Array, Int8Array]
    """Weights and shifts [R]; empty without peepholes."""


class PlainProjection(NamedTuple):
    """A projection; its arrays are empty where there is none."""

    matrix: PlainMatrix
    pre_shift: Int8Array
    params: Any
    tables: Any
    formats: tuple[int, int, int, int, int]
    """Kind, shift and limit of its operand, fraction bits of its function's argument, and how many more its result has than h."""


class PlainDirection(NamedTuple):
    """Everything of one direction that `kernels.run_sequences` reads, in the order of its arguments."""

    ih: PlainMatrix
    hh: PlainMatrix
    gates: PlainGates
    projection: PlainProjection
    formats: Any


class PlainScratch(NamedTuple):
    """Scratch of the thread team that shares a sequence in `kernels.run_sequences`."""

    operands: Int16Array
    """[3, P]: operands of h, of this step and of the next in turn, and of r·h."""
    hidden: Int16Array
    """[2, H], or [2, 0] without a projection: h before its projection, and its operands. Such a direction has a team of one."""
    input_operands: Int16Array
    """The operands of x of each worker, [workers, I]."""
    input_products: Int32Array
    """The inputs' part of `BLOCK` steps of each worker, [workers, BLOCK, R]."""
    arguments: Int16Array
    """The arguments of the gate functions of each worker, [workers, R]."""
    recurrent_products: Int32Array
    """The requantized R·h of each worker, [workers, R]."""
    gate_values: Int32Array
    """The values of the gate functions of each worker, [workers, R]."""
    sums: Int32Array
    """Sums of a projection, [P]."""
    weights: Any
    """Weights of a projection's softmax, [P] int64."""
    flags: Any
    """`barrier_flags`."""


def pack_matrix(matrix: Matrix) -> PlainMatrix:
    """Return a matrix as plain loops read it."""
    return PlainMatrix(np.ascontiguousarray(matrix.weight), matrix.bias, matrix.multiplier, matrix.left_shift)


def _pack_peephole(peephole: QuantPeephole | None) -> tuple[Int16Array, Int8Array]:
    if peephole is None:
        return np.zeros(0, np.int16), np.zeros(0, np.int8)
    return peephole.weight, peephole.shift


def _pack_projection(p: QuantProjection | None, h_frac: int) -> PlainProjection:
    matrix = PlainMatrix(
        np.zeros((0, 0), np.int8),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int8),
    )
    params, tables, pre_shift = np.zeros((0, PARAMS), np.int64), np.zeros((0, 0), np.int32), np.zeros(0, np.int8)
    if p is None:
        return PlainProjection(matrix, pre_shift, params, tables, (NONE, 0, 0, 0, 0))
    kind = IDENTITY
    if p.function is not None:
        kind, (params, tables) = FUNCTION, pack_gates((p.function,))
    elif p.table is not None:
        kind, tables = SOFTMAX, p.table[None]
    formats = (kind, p.operand.shift, p.operand.limit, p.in_frac, p.out_frac - h_frac)
    return PlainProjection(pack_matrix(p.matrix), p.pre_shift, params, tables, formats)


def pack_direction(layer: QuantRecurrentDefinition, d: QuantDirection) -> PlainDirection:
    """Return everything of one direction that `kernels.run_sequences` reads."""
    return PlainDirection(
        pack_matrix(d.ih),
        pack_matrix(d.matrix_hh),
        PlainGates(d.pre_shift, *pack_gates(d.gates), _pack_peephole(d.peephole)),
        _pack_projection(d.projection, layer.h_frac),
        pack_formats(layer, d),
    )


def traces_of(d: QuantDirection, c: Int32Array, sequences: int, steps: int) -> tuple[Int16Array, Int32Array]:
    """Make the arrays that `kernels.run_sequences` traces into; they are empty where there are no steps."""
    pre = np.zeros((sequences, steps, len(d.pre_shift)), np.int16)
    return pre, np.zeros((sequences, steps, c.shape[1]), np.int32)


def scratch(layer: QuantRecurrentDefinition, d: QuantDirection, workers: int, tuning: Tuning) -> PlainScratch:
    """Make the scratch of one team on a direction."""
    rows, fed_back = len(d.pre_shift), layer.output_size
    return PlainScratch(
        operands=np.empty((3, fed_back), np.int16),
        hidden=np.empty((2, layer.hidden_size if d.projection is not None else 0), np.int16),
        input_operands=np.empty((workers, layer.input_size), np.int16),
        input_products=np.empty((workers, block_sizes.BLOCK, rows), np.int32),
        arguments=np.empty((workers, rows), np.int16),
        recurrent_products=np.empty((workers, rows), np.int32),
        gate_values=np.empty((workers, rows), np.int32),
        sums=np.empty(fed_back, np.int32),
        weights=np.empty(fed_back, np.int64),
        flags=barrier_flags(workers, tuning),
    )
