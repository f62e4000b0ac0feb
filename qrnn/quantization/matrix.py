"""Weights, biases and multipliers of one matvec as integers, with the overflow bound kept row by row."""

from __future__ import annotations

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.boundary import to_integers
from qrnn.model.float_model import FloatArray
from qrnn.model.parts import ACCUMULATOR_LIMIT, Int8Array, Int64Array, QuantMatrix

WEIGHT_LIMIT = 127
_BIAS_LIMIT = float(1 << 29)


def row_scales(weight: FloatArray, bias: FloatArray) -> FloatArray:
    """[R]: real value of one accumulator unit, for weight [R, K] in real units per operand unit: max |w| / 127 per row.

    Raised where the bias would not fit 2^29 units; a row of zeros takes its scale from its bias alone.
    """
    scale = np.abs(weight).max(axis=1) / WEIGHT_LIMIT
    scale = np.maximum(scale, np.abs(bias) / _BIAS_LIMIT)
    result: FloatArray = np.where(scale > 0.0, scale, 2.0**-20)
    return result


def integer_weights(weight: FloatArray, scale: FloatArray) -> Int64Array:
    """round(weight / scale) by rows, within ±127."""
    q: Int64Array = to_integers(weight, scale[:, None], WEIGHT_LIMIT).astype(np.int64)
    return q


def largest_row_sum(weight: FloatArray) -> float:
    """The largest sum of magnitudes of a row's integer weights: what bounds its accumulator per operand unit."""
    scale = row_scales(weight, np.zeros(len(weight)))
    return float(np.abs(integer_weights(weight, scale)).sum(axis=1).max(initial=0))


def left_shifts(real: FloatArray) -> Int64Array:
    """[R]: the least left shift ≥ 0 for which an even multiplier below 2^31 stands for the real factor."""
    _, exponent = np.frexp(real)  # real = m · 2^exponent, m in [1/2, 1)
    shift = np.maximum(exponent + 1, 0).astype(np.int64)
    result: Int64Array = shift + (_multipliers(real, shift) >= 1 << 31)
    return result


def _multipliers(real: FloatArray, shift: Int64Array) -> Int64Array:
    """[R] even integers nearest to real · 2^(32 - shift)."""
    result: Int64Array = 2 * np.floor(real * 2.0 ** (31.0 - shift) + 0.5).astype(np.int64)
    return result


def bounded_rows(owner: str, weight: FloatArray, bias: FloatArray, out_frac: Int64Array, limit: int) -> Int8Array:
    """[R]: the least pre_shift with which each row's accumulator stays within 31 bits; see `quantize_matrix`.

    A larger pre_shift computes the row in a coarser format, shifted left again before it saturates: the bits lost lie far below what
    one unit of such a row's operands is worth.
    """
    scale = row_scales(weight, bias)
    total = _integer_bound(weight, bias, scale, limit)
    pre_shift = np.zeros(len(scale), np.int64)
    while True:
        shift = np.minimum(left_shifts(scale * 2.0 ** (out_frac - pre_shift)), 31)  # 31 fails already; more would wrap
        fails = (total << shift) >= ACCUMULATOR_LIMIT
        if not fails.any():
            return pre_shift.astype(np.int8)
        if (pre_shift[fails] >= 15).any():
            row = int(np.nonzero(fails)[0][0])
            raise QuantizationError(
                f"{owner}, row {row}: accumulator bound {int(total[row])} leaves 31 bits; use narrower activations"
            )
        pre_shift += fails


def _integer_bound(weight: FloatArray, bias: FloatArray, scale: FloatArray, limit: int) -> Int64Array:
    bound: Int64Array = np.minimum(
        np.abs(integer_weights(weight, scale)).sum(axis=1) * limit
        + np.abs(np.floor(bias / scale + 0.5)).astype(np.int64),
        1 << 31,
    )
    return bound


def quantize_matrix(
    weight: FloatArray, bias: FloatArray, out_frac: Int64Array, pre_shift: Int8Array, limit: int
) -> QuantMatrix:
    """Integers for round((weight · operand + bias) · 2^(out_frac - pre_shift)), rows [R].

    weight [R, K] in real units per operand unit (the input's scale already folded in); bias [R] real; operands within ±limit.
    """
    scale = row_scales(weight, bias)
    real = scale * 2.0 ** (out_frac - pre_shift)
    shift = left_shifts(real)
    return QuantMatrix(
        weight=integer_weights(weight, scale).astype(np.int8),
        bias=np.floor(bias / scale + 0.5).astype(np.int32),
        multiplier=_multipliers(real, shift).astype(np.int32),
        left_shift=shift.astype(np.int8),
        operand_limit=limit,
    )
