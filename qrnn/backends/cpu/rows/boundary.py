"""The boundary of a model: real values and tokens in, real values out; rows of tensors [M, F]."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST, STATUS
from qrnn.backends.cpu.real_rows import quantize_rows
from qrnn.model.boundary import to_reals


@jit
def quantize(place: Any, x: Any, out: Any, scaling: Any, limit: int) -> None:
    """Quantize x [M, F] float64 or float32 → out [M, F] int16.

    place[STATUS] is set to 1 where a value is not of float32's range, as NaN is not.
    """
    if quantize_rows(scaling, limit, x, out, place[FIRST], place[LAST]):
        place[STATUS] = 1


@jit
def check_tokens(place: Any, tokens: Any, vocabulary: int) -> None:
    """Set place[STATUS] = 1 where one of tokens [M] is not in 0 … vocabulary - 1."""
    for m in range(place[FIRST], place[LAST]):
        if not 0 <= tokens[m] < vocabulary:
            place[STATUS] = 1


@jit
def dequantize_whole(place: Any, out: Any, q: Any, scale: Any, offset: Any) -> None:
    """Write out[m] = (q[m] + offset[0]) · scale[0], which is exact for a power of two."""
    one, plus = scale[0], offset[0]
    for m in range(place[FIRST], place[LAST]):
        for k in range(q.shape[1]):
            out[m, k] = to_reals(q[m, k], one, plus)


@jit
def dequantize_float32(place: Any, out: Any, q: Any, scale: Any) -> None:
    """Write out[m] = q[m] · scale[0] in float32, for numbers with which that is exact.

    See `qrnn.backends.cpu.scales.exact_float32`.
    """
    one = scale[0]
    for m in range(place[FIRST], place[LAST]):
        for k in range(q.shape[1]):
            out[m, k] = np.float32(q[m, k]) * one


@jit
def dequantize(place: Any, out: Any, q: Any, scale: Any, offset: Any, indices: Any, positions: Any) -> None:
    """Write out[m, positions[j]] = (q[m, indices[j]] + offset) · scale; both are [1], or have one number for each feature of q."""
    for m in range(place[FIRST], place[LAST]):
        for j in range(indices.shape[0]):
            k = indices[j]
            f = k if scale.shape[0] > 1 else 0
            out[m, positions[j]] = to_reals(q[m, k], scale[f], offset[f])
