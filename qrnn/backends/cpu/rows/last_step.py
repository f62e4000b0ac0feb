"""The last steps of sequences."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.copying import copy_row


@jit
def last_step(place: Any, steps: int, x: Any, out: Any) -> None:
    """Write out[n] = x[n · steps + steps - 1]."""
    for n in range(place[FIRST], place[LAST]):
        copy_row(out[n], x[n * steps + steps - 1])
