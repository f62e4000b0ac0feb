"""Rows of bands that are laid out as rows of sequences, for recurrent layers over bands and for each band."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.copying import copy_row


@jit
def spread(place: Any, bands: int, rows: Any, each: Any, each_rows: Any) -> None:
    """Make every row ``bands`` rows, in the control ``each`` too: each_rows[m · bands + b] = rows[m] · bands + b."""
    each[FIRST] = place[FIRST] * bands
    each[LAST] = place[LAST] * bands
    for m in range(place[FIRST], place[LAST]):
        for b in range(bands):
            each_rows[m * bands + b] = rows[m] * bands + b


@jit
def take_bands(place: Any, x: Any, out: Any) -> None:
    """out[n, b, t] = x[n, t, b]."""
    for n in range(place[FIRST], place[LAST]):
        for b in range(out.shape[1]):
            for t in range(out.shape[2]):
                copy_row(out[n, b, t], x[n, t, b])


@jit
def put_bands(place: Any, number: int, y: Any, out: Any) -> None:
    """out[n, t, b, number] = y[n, b, t]."""
    for n in range(place[FIRST], place[LAST]):
        for b in range(y.shape[1]):
            for t in range(y.shape[2]):
                copy_row(out[n, t, b, number], y[n, b, t])


@jit
def put_parts(place: Any, number: int, y: Any, out: Any) -> None:
    """out[m, b, number] = y[m, b]."""
    for m in range(place[FIRST], place[LAST]):
        for b in range(y.shape[1]):
            copy_row(out[m, b, number], y[m, b])


@jit
def begin(place: Any, start: Any, out: Any) -> None:
    """out[m] = start."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], start)
