"""The boundary is the only place where real numbers become the contract's integers and back (docs/arithmetic.md, section 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.reals import round_half_up
from qrnn.model.parts import FloatArray, Int16Array, TensorFormat


def to_integers(values: FloatArray, scale: FloatArray | float, limit: int) -> FloatArray:
    """Return clamp(floor(x / scale + 1/2), ±limit): whole numbers, still float64, for the caller to cast.

    Backends also compile it, for one value.
    """
    q: FloatArray = np.minimum(np.maximum(round_half_up(values / scale), -limit), limit)
    return q


def to_reals(q: Any, scale: Any) -> Any:
    """Return x = q · scale, which is exact for powers of two; backends also compile it, for one value."""
    return q * scale


def quantize_array(values: FloatArray, fmt: TensorFormat) -> Int16Array:
    """Return real values [..., F] as int16 of a tensor's format."""
    return to_integers(values, fmt.scales, fmt.limit).astype(np.int16)


def dequantize_array(q: npt.NDArray[Any], fmt: TensorFormat) -> FloatArray:
    """Return x = q · scale, [..., F] float64."""
    x: FloatArray = to_reals(q.astype(np.float64), fmt.scales)
    return x
