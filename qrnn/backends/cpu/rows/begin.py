"""Initial states that are computed, put in the place of the states of sequences that have not begun."""

from __future__ import annotations

from typing import Any

from qrnn.arithmetic.cells import begin_state
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def begin(
    place: Any, rows: Any, begun: Any, x: Any, indices: Any, positions: Any, left_shift: int, right_shift: int, low: int, high: int,
    state: Any,
) -> None:  # fmt: skip
    """Write state[n, positions[k]] = begin_state(x[m, indices[k]]) for the sequence n = rows[m] of each row m.

    States are written where begun[n, 0] is 0.
    """
    for m in range(place[FIRST], place[LAST]):
        n = rows[m]
        if begun[n, 0] == 0:
            for k in range(indices.shape[0]):
                state[n, positions[k]] = begin_state(x[m, indices[k]], left_shift, right_shift, low, high)


@jit
def mark(place: Any, rows: Any, begun: Any) -> None:
    """Set begun[rows[m], 0] = 1."""
    for m in range(place[FIRST], place[LAST]):
        begun[rows[m], 0] = 1
