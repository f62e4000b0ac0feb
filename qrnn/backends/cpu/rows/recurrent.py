"""Directions of recurrent layers by the plain loops of `qrnn.backends.cpu.kernels`, which are given sequences here."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu import kernels
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.copying import copy_row


@jit
def sequences(
    place: Any, rows: Any, cell: int, forget: int, ih: Any, hh: Any, gates: Any, projection: Any, formats: Any, x: Any,
    h: Any, c: Any, y: Any, lengths: Any, own: Any, trace: Any, scratch: Any,
) -> None:  # fmt: skip
    """Run `kernels.run_sequences` for one step of streams, with x [M, 1, I] and y [M, 1, P].

    The state of stream m is h[rows[m]], c[rows[m]]. own (h [M, P], c [M, H or 0]) is scratch; lengths [M] are 1.
    """
    h_own, c_own = own
    for m in range(place[FIRST], place[LAST]):
        copy_row(h_own[m], h[rows[m]])
        copy_row(c_own[m], c[rows[m]])
    span = (place[FIRST], place[LAST], 0, 1)
    kernels.run_sequences(
        cell, forget, False, ih, hh, gates, projection, formats, x, lengths, h_own, c_own, y, trace, scratch, span
    )
    for m in range(place[FIRST], place[LAST]):
        copy_row(h[rows[m]], h_own[m])
        copy_row(c[rows[m]], c_own[m])


@jit
def whole_sequences(
    place: Any, team: Any, cell: int, forget: int, reverse: bool, ih: Any, hh: Any, gates: Any, projection: Any, formats: Any, x: Any,
    lengths: Any, h: Any, c: Any, y: Any, trace: Any, scratch: Any,
) -> None:  # fmt: skip
    """Run `kernels.run_sequences` on sequences place[FIRST] … place[LAST] - 1, as thread team[0] of team[1]."""
    span = (place[FIRST], place[LAST], team[0], team[1])
    kernels.run_sequences(
        cell, forget, reverse, ih, hh, gates, projection, formats, x, lengths, h, c, y, trace, scratch, span
    )
