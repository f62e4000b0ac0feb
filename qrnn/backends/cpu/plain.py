"""Layers that are not fused, as `qrnn.backends.cpu.kernels` reads them: matrices, gate functions, projections, codes, scratch."""

from __future__ import annotations

from typing import Any

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


def pack_matrix(matrix: Matrix) -> tuple[Any, ...]:
    return (np.ascontiguousarray(matrix.weight), matrix.bias, matrix.multiplier, matrix.left_shift)


def _pack_peephole(peephole: QuantPeephole | None) -> tuple[Int16Array, Int8Array]:
    if peephole is None:
        return np.zeros(0, np.int16), np.zeros(0, np.int8)
    return peephole.weight, peephole.shift


def _pack_projection(p: QuantProjection | None, h_frac: int) -> tuple[Any, ...]:
    """(matrix, pre_shift, params, tables, (kind, shift, limit, in_frac, out_shift)), all of them empty where there is none."""
    matrix: tuple[Any, ...] = (
        np.zeros((0, 0), np.int8),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int8),
    )
    params, tables, pre_shift = np.zeros((0, PARAMS), np.int64), np.zeros((0, 0), np.int32), np.zeros(0, np.int8)
    if p is None:
        return matrix, pre_shift, params, tables, (NONE, 0, 0, 0, 0)
    kind = IDENTITY
    if p.function is not None:
        kind, (params, tables) = FUNCTION, pack_gates((p.function,))
    elif p.table is not None:
        kind, tables = SOFTMAX, p.table[None]
    formats = (kind, p.operand.shift, p.operand.limit, p.in_frac, p.out_frac - h_frac)
    return pack_matrix(p.matrix), p.pre_shift, params, tables, formats


def pack_direction(layer: QuantRecurrentDefinition, d: QuantDirection) -> tuple[Any, ...]:
    """(ih, hh, gates, projection, formats) of `kernels.run_sequences`."""
    return (
        pack_matrix(d.ih),
        pack_matrix(d.matrix_hh),
        (d.pre_shift, *pack_gates(d.gates), _pack_peephole(d.peephole)),
        _pack_projection(d.projection, layer.h_frac),
        pack_formats(layer, d),
    )


def traces_of(d: QuantDirection, c: Int32Array, sequences: int, steps: int) -> tuple[Int16Array, Int32Array]:
    """What `kernels.run_sequences` traces into: nothing where there are no steps."""
    pre = np.zeros((sequences, steps, len(d.pre_shift)), np.int16)
    return pre, np.zeros((sequences, steps, c.shape[1]), np.int32)


def scratch(layer: QuantRecurrentDefinition, d: QuantDirection, threads: int, tuning: Tuning) -> tuple[Any, ...]:
    """Make the scratch of one team on a direction.

    h operands [3, P] (two in turn, and r·h); h before its projection and its operands [2, H or 0] (a team of one only); of each thread its x
    operands, parts of the inputs [BLOCK, R], gate arguments, requantized R·h and gate outputs [R]; sums and weights of a projection [P]; flags.
    """
    rows, fed_back = len(d.pre_shift), layer.output_size
    return (
        np.empty((3, fed_back), np.int16),
        np.empty((2, layer.hidden_size if d.projection is not None else 0), np.int16),
        np.empty((threads, layer.input_size), np.int16),
        np.empty((threads, block_sizes.BLOCK, rows), np.int32),
        np.empty((threads, rows), np.int16),
        np.empty((threads, rows), np.int32),
        np.empty((threads, rows), np.int32),
        np.empty(fed_back, np.int32),
        np.empty(fed_back, np.int64),
        barrier_flags(threads, tuning),
    )
