"""The boundary is the only place where real numbers become the contract's integers and back (docs/arithmetic.md, section 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.reals import round_half_up
from qrnn.model.parts import FloatArray, Int16Array, TensorFormat


def to_integers(
    values: FloatArray, scale: FloatArray | float, limit: int, offset: FloatArray | float = 0.0
) -> FloatArray:
    """Return clamp(floor(x / scale + 1/2) - offset, ±limit): whole numbers, still float64, for the caller to cast.

    The difference is exact wherever it lies within ±limit: both numbers are whole, and |offset| ≤ 2^52. Backends also compile it, for one
    value.
    """
    q: FloatArray = np.minimum(np.maximum(round_half_up(values / scale) - offset, -limit), limit)
    return q


def beyond_range(values: FloatArray, fmt: TensorFormat) -> npt.NDArray[np.bool_]:
    """Return which real values [..., F] the clamp of `to_integers` changes, by more than the half unit of rounding."""
    scales, offsets = fmt.scales_and_offsets
    beyond: npt.NDArray[np.bool_] = np.abs(values / scales - offsets) > fmt.limit + 0.5
    return beyond


def to_reals(q: Any, scale: Any, offset: Any) -> Any:
    """Return x = (q + offset) · scale, of q and offset in float64; backends also compile it, for one value.

    The sum of whole numbers is exact, so the product alone may round; for a power of two it is exact too, unless the sum is beyond 2^53.
    """
    return (q + offset) * scale


def quantize_array(values: FloatArray, fmt: TensorFormat) -> Int16Array:
    """Return real values [..., F] as int16 of a tensor's format."""
    scales, offsets = fmt.scales_and_offsets
    return to_integers(values, scales, fmt.limit, offsets).astype(np.int16)


def dequantize_array(q: npt.NDArray[Any], fmt: TensorFormat) -> FloatArray:
    """Return x = (q + offset) · scale, [..., F] float64."""
    x: FloatArray = to_reals(q.astype(np.float64), *fmt.scales_and_offsets)
    return x
