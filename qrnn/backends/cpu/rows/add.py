"""Sums of two tensors."""

from __future__ import annotations

from typing import Any

from qrnn.arithmetic.fixedpoint import add16
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def add(place: Any, a_shift: int, b_shift: int, out_shift: int, a: Any, b: Any, out: Any) -> None:
    """Write out[m] = add16(a[m], b[m])."""
    for m in range(place[FIRST], place[LAST]):
        for k in range(a.shape[1]):
            out[m, k] = add16(a[m, k], b[m, k], a_shift, b_shift, out_shift)
