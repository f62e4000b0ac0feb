"""Weights, biases and multipliers of one matrix as integers, with the overflow bound kept row by row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.boundary import to_integers
from qrnn.model.parts import (
    ACCUMULATOR_LIMIT,
    SCALE_COLUMNS,
    FloatArray,
    Int8Array,
    Int32Array,
    Int64Array,
    QuantMatrix,
    QuantMatrix4,
    pack_nibbles,
)
from qrnn.quantization.four_bit import LARGEST_WEIGHT, four_bit_rows
from qrnn.quantization.grid import grid_steps
from qrnn.quantization.recent import Recent

WEIGHT_LIMIT = 127
BIAS_LIMIT = float(1 << 29)
"""The most accumulator units of a bias."""


def row_scales(weight: FloatArray, bias: FloatArray, bits: int = 8) -> FloatArray:
    """Return the real value of one accumulator unit of each row, [R]: max |w| / 127 (with four bits max |w| / 112).

    A row whose weights lie on a grid that the width holds keeps its step instead; see `kept_steps`. ``weight`` [R, K] is in real units per
    operand unit. The scale is raised where the bias would not fit 2^29 units; a row of zeros takes its scale from its bias alone. A raised
    row loses nothing that its sum can show: a weight's rounding is then at most 2^-30 of the bias for each unit of an operand, which is
    2^-15 of it at the largest 16-bit operand, as the sum's own 16 bits are at best.
    """
    scale = np.maximum(_OF_WEIGHTS.of(weight, bits), np.abs(bias) / BIAS_LIMIT)
    result: FloatArray = np.where(scale > 0.0, scale, 2.0**-20)
    return result


def _scales_of_weights(weight: FloatArray, bits: int) -> FloatArray:
    """Return the scales that the weights alone ask for; 0 for a row of zeros."""
    steps = kept_steps(weight, bits)
    scale = np.abs(weight).max(axis=1) / (WEIGHT_LIMIT if bits == 8 else LARGEST_WEIGHT)
    found: FloatArray = np.where(steps > 0.0, steps, scale)
    return found


_OF_WEIGHTS = Recent(_scales_of_weights)


def rows_of_bias(weight: FloatArray, bias: FloatArray, bits: int = 8) -> Int64Array:
    """Return the numbers of those rows, not all zero, whose scale the bias sets; see `row_scales`."""
    raised = row_scales(weight, bias, bits) > row_scales(weight, np.zeros(len(weight)), bits)
    rows: Int64Array = np.nonzero(raised & weight.any(axis=1))[0]
    return rows


def kept_steps(weight: FloatArray, bits: int = 8) -> FloatArray:
    """Return the step of each row of ``weight`` [R, K] that is on a grid (`qrnn.quantization.grid`) and can stay on it, 0 for the others.

    Eight bits hold every such row. Four bits hold a row where each group of columns is some q in -8…7 times an integer scale. Where all
    weights other than zero have one magnitude, so that many steps would do, the largest integer is that of other rows if the width holds
    the row so, because a small step suits the bias best.
    """
    return _STEPS.of(weight, bits)


def _kept_steps(weight: FloatArray, bits: int) -> FloatArray:
    if bits == 8:
        return grid_steps(weight, prefer=WEIGHT_LIMIT)
    steps, kept = grid_steps(weight), np.zeros(len(weight))
    of_one_magnitude = np.rint(np.abs(weight).max(axis=1) / np.where(steps > 0.0, steps, np.inf)) == 1
    for candidates in (np.where(of_one_magnitude, steps / LARGEST_WEIGHT, 0.0), steps):
        rows = np.flatnonzero((candidates > 0.0) & (kept == 0.0))
        integers = np.rint(weight[rows] / candidates[rows, None])
        held = rows[(_four_bit_integers(integers) == integers).all(axis=1)]
        kept[held] = candidates[held]
    return kept


_STEPS = Recent(_kept_steps)


def integer_weights(weight: FloatArray, scale: FloatArray, bits: int = 8) -> Int64Array:
    """Return the integers that stand for weight / scale by rows.

    They are rounded, within ±127, or are the nearest that four bits and their scales give.
    """
    if bits == 4:
        return _four_bit_integers(weight / scale[:, None])
    integers: Int64Array = to_integers(weight, scale[:, None], WEIGHT_LIMIT).astype(np.int64)
    return integers


def _four_bit_integers(rows: FloatArray) -> Int64Array:
    """Return the nearest integers to ``rows`` [R, K] that four bits and their scales give."""
    q, group_scale = four_bit_rows(rows)
    result: Int64Array = q * np.repeat(group_scale.astype(np.int64), SCALE_COLUMNS, axis=1)[:, : q.shape[1]]
    return result


def largest_row_sum(weight: FloatArray, bits: int = 8) -> float:
    """Return the largest sum of magnitudes of a row's integer weights, which bounds its accumulator per operand unit."""
    scale = row_scales(weight, np.zeros(len(weight)), bits)
    return float(np.abs(integer_weights(weight, scale, bits)).sum(axis=1).max(initial=0))


def left_shifts(real: FloatArray) -> Int64Array:
    """Return the least left shift ≥ 0 of each row, [R], for which an even multiplier below 2^31 stands for the real factor."""
    _, exponent = np.frexp(real)  # real = m · 2^exponent, m in [1/2, 1)
    shift = np.maximum(exponent + 1, 0).astype(np.int64)
    result: Int64Array = shift + (_multipliers(real, shift) >= 1 << 31)
    return result


def _multipliers(real: FloatArray, shift: Int64Array) -> Int64Array:
    """Return the even integers [R] nearest to real · 2^(32 - shift)."""
    result: Int64Array = 2 * round_half_up(real * 2.0 ** (31.0 - shift)).astype(np.int64)
    return result


def bounded_rows(
    owner: str, weight: FloatArray, bias: FloatArray, out_frac: Int64Array, limit: int, bits: int = 8
) -> Int8Array:
    """Return the least pre_shift of each row, [R], with which its accumulator stays within 31 bits; see `quantize_matrix`.

    A larger pre_shift computes the row in a coarser format, shifted left again before it saturates: the bits lost lie far below what one
    unit of such a row's operands is worth.
    """
    scale = row_scales(weight, bias, bits)
    total = _integer_bound(weight, bias, scale, limit, bits)
    pre_shift = np.zeros(len(scale), np.int64)
    while True:
        shift = np.minimum(left_shifts(scale * 2.0 ** (out_frac - pre_shift)), 31)  # 31 fails already; more would wrap
        fails = (total << shift) >= ACCUMULATOR_LIMIT
        if not fails.any():
            return pre_shift.astype(np.int8)
        if (pre_shift[fails] >= 15).any():
            row = int(np.nonzero(fails)[0][0])
            reach = float(np.abs(weight[row]).sum() * limit + abs(bias[row]))
            raise QuantizationError(
                f"{owner}, row {row}: within the calibrated ranges its sum reaches {reach:.3g}, which no 32-bit accumulator holds; expected "
                "inputs of ordinary size: scale what the layer reads (standardized features are best), or look for stray values in the "
                "calibration data"
            )
        pre_shift += fails


def _integer_bound(weight: FloatArray, bias: FloatArray, scale: FloatArray, limit: int, bits: int) -> Int64Array:
    bound: Int64Array = np.minimum(
        np.abs(integer_weights(weight, scale, bits)).sum(axis=1) * limit
        + np.abs(round_half_up(bias / scale)).astype(np.int64),
        1 << 31,
    )
    return bound


def quantize_matrix(
    weight: FloatArray, bias: FloatArray, out_frac: Int64Array, pre_shift: Int8Array, limit: int
) -> QuantMatrix:
    """Return the integers that compute round((weight · operand + bias) · 2^(out_frac - pre_shift)), rows [R].

    weight [R, K] is in real units per operand unit (the input's scale already folded in), bias [R] is real, and operands are within ±limit.
    """
    scale = row_scales(weight, bias)
    rows = _row_parameters(scale, bias, out_frac - pre_shift)
    return QuantMatrix(integer_weights(weight, scale).astype(np.int8), *rows, operand_limit=limit)


def quantize_matrix4(
    weight: FloatArray, bias: FloatArray, out_frac: Int64Array, pre_shift: Int8Array, limit: int
) -> QuantMatrix4:
    """Return what `quantize_matrix` does, with weights of four bits."""
    scale = row_scales(weight, bias, 4)
    rows = _row_parameters(scale, bias, out_frac - pre_shift)
    q, group_scale = four_bit_rows(weight / scale[:, None])
    return QuantMatrix4(pack_nibbles(q), group_scale, q.shape[1], *rows, operand_limit=limit)


def factor_parameters(real: FloatArray) -> tuple[Int32Array, Int8Array]:
    """Return the multipliers and left shifts with which `requantize` multiplies by the factors ``real`` [R]."""
    shift = left_shifts(real)
    return _multipliers(real, shift).astype(np.int32), shift.astype(np.int8)


def short_multipliers(multiplier: Int32Array) -> Int32Array:
    """Return the multipliers of a matrix, [R], as the nearest multiples of the least 2^s with which all of them are below 2^(16 + s)."""
    largest = int(multiplier.max(initial=0))
    shift = max(largest.bit_length() - 16, 1)  # multipliers are even
    found = np.minimum(round_half_up(multiplier / 2.0**shift).astype(np.int64), (1 << 16) - 1) << shift
    result: Int32Array = found.astype(np.int32)
    return result


class _RowParameters(NamedTuple):
    """The integers of each row beside its weights, in the order of the fields of `QuantMatrix`."""

    bias: Int32Array
    multiplier: Int32Array
    left_shift: Int8Array


def _row_parameters(scale: FloatArray, bias: FloatArray, frac: Int64Array) -> _RowParameters:
    """Return the integers of each row beside its weights.

    Accumulators count in units of ``scale``, and the sums have ``frac`` fraction bits.
    """
    integer_bias = round_half_up(bias / scale).astype(np.int32)
    return _RowParameters(integer_bias, *factor_parameters(scale * 2.0**frac))
