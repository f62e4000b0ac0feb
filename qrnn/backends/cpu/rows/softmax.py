"""Softmax of rows."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu import kernels
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def softmax(place: Any, table: Any, in_frac: int, x: Any, out: Any, weights: Any) -> None:
    """Write `kernels.softmax_rows` of each row; weights [F] int64 is scratch."""
    for m in range(place[FIRST], place[LAST]):
        kernels.softmax_rows(table, in_frac, x[m], out[m], weights)
