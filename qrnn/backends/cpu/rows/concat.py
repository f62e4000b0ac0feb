"""Features of several tensors, aligned to one format."""

from __future__ import annotations

from typing import Any

from qrnn.arithmetic.fixedpoint import align16
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def align(place: Any, from_frac: int, to_frac: int, x: Any, out: Any) -> None:
    """Write out[m] = align16(x[m])."""
    for m in range(place[FIRST], place[LAST]):
        for k in range(x.shape[1]):
            out[m, k] = align16(x[m, k], from_frac, to_frac)


@jit
def concat_part(place: Any, first: int, indices: Any, from_frac: int, to_frac: int, x: Any, out: Any) -> None:
    """Write out[m, first + j] = align16(x[m, indices[j]]), or 0 for an index below 0."""
    for m in range(place[FIRST], place[LAST]):
        for j in range(indices.shape[0]):
            if indices[j] < 0:
                out[m, first + j] = 0
            else:
                out[m, first + j] = align16(x[m, indices[j]], from_frac, to_frac)
