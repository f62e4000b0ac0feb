"""The parameters of a cell's step loop that every cell has: what a `StepLoop` is given of matrices, functions, peepholes and projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.arithmetic.gates import PARAMS
from qrnn.model.kinds.recurrent.cell import QuantSettings
from qrnn.model.kinds.recurrent.quantized_direction import QuantDirection, QuantNorm, QuantPeephole, QuantProjection
from qrnn.model.layer_facts import Scratch
from qrnn.model.parts import Matrix, Operand, pack_gates

NO_HEAD, IDENTITY, FUNCTION, SOFTMAX = 0, 1, 2, 3
"""What a projection does to its sums; the first where there is none."""


def matrix_parts(matrix: Matrix) -> tuple[Any, ...]:
    """Return a matrix as weight [R, K] int8, bias [R] int32, multiplier [R] int32 and left_shift [R] int8."""
    return matrix.weight, matrix.bias, matrix.multiplier, matrix.left_shift


def operand_parts(operand: Operand) -> tuple[int, int]:
    """Return the shift and the limit of an operand."""
    return operand.shift, operand.limit


def input_parts(layer: QuantSettings, d: QuantDirection) -> tuple[Any, ...]:
    """Return what every step reads first: the matrix of x with its operand, pre_shift [R] int8, and the functions' params and tables."""
    return *matrix_parts(d.ih), *operand_parts(layer.x_operand), d.pre_shift, *pack_gates(d.gates)


def recurrent_parts(layer: QuantSettings, d: QuantDirection) -> tuple[Any, ...]:
    """Return the matrix of h with its operand."""
    return *matrix_parts(d.matrix_hh), *operand_parts(layer.h_operand)


def mantissa_parts(weights: QuantPeephole | None) -> tuple[Any, ...]:
    """Return whether there are any weights (0 or 1), their weight [R] int16 and their shift [R] int8.

    Where there are none, the arrays have one row that nothing reads.
    """
    if weights is None:
        return 0, np.zeros(1, np.int16), np.zeros(1, np.int8)
    return 1, weights.weight, weights.shift


def diagonal_parts(d: QuantDirection) -> tuple[Any, ...]:
    """Return the weight [G·H] int16 and the shift [G·H] int8 of a diagonal recurrence."""
    assert d.diagonal is not None
    return d.diagonal.weight, d.diagonal.shift


def norm_parts(groups: Sequence[QuantNorm], begins: Sequence[int]) -> tuple[Any, ...]:
    """Return what a loop over groups needs of numbers that lie side by side.

    For each group: where it begins and ends, its variance's shift and its epsilon, [K] int64. For each number: gain int16, gain_shift int8
    and bias int32, in the order of their places, whatever the groups' order is.
    """
    found = [group.parameters for group in groups]
    ends = [begin + p.features for begin, p in zip(begins, found, strict=True)]
    by_group = begins, ends, [p.variance_shift for p in found], [p.epsilon for p in found]
    placed = [found[k] for k in np.argsort(begins)]
    by_number = (np.concatenate([getattr(p, name) for p in placed]) for name in ("gain", "gain_shift", "bias"))
    return *(np.array(column, np.int64) for column in by_group), *by_number


def head_kind(p: QuantProjection | None) -> int:
    """Return which of the numbers `NO_HEAD`, `IDENTITY`, `FUNCTION` and `SOFTMAX` says what a projection does to its sums."""
    if p is None:
        return NO_HEAD
    if p.table is not None:
        return SOFTMAX
    return IDENTITY if p.function is None else FUNCTION


def head_parts(p: QuantProjection | None, h_frac: int) -> tuple[Any, ...]:
    """Return what a step reads of a projection.

    These are its kind, matrix, operand, pre_shift [P], the function's params and tables, the softmax's in_frac and table, and the shift from
    the value to h's fraction bits; arrays of one entry that nothing reads stand in the place of what there is none of.
    """
    if p is None:
        matrix: tuple[Any, ...] = np.zeros((1, 1), np.int8), *(np.zeros(1, t) for t in (np.int32, np.int32, np.int8))
        operand, pre_shift, in_frac, shift = (0, 1), np.zeros(1, np.int8), 0, 0
    else:
        matrix, operand, pre_shift = matrix_parts(p.matrix), operand_parts(p.operand), p.pre_shift
        in_frac, shift = p.in_frac, p.out_frac - h_frac
    if p is not None and p.function is not None:
        params, tables = pack_gates((p.function,))
    else:
        params, tables = np.zeros((1, PARAMS), np.int64), np.zeros((1, 1), np.int32)
    table = np.zeros(1, np.int32) if p is None or p.table is None else p.table
    return head_kind(p), *matrix, *operand, pre_shift, params, tables, in_frac, table, shift


def head_scratch(layer: QuantSettings) -> tuple[Scratch, ...]:
    """Return arrays for h before the projection, [H], for it as an operand, [H], and for what the projection makes of it, [P]."""
    hidden = (layer.hidden_size,)
    return Scratch(hidden, np.int16), Scratch(hidden, np.int16), Scratch((layer.output_size,), np.int32)


def gate_scratch(layer: QuantSettings) -> Scratch:
    """Return an array for the arguments of the gates, [G·H]."""
    return Scratch((len(layer.gates) * layer.hidden_size,), np.int16)
