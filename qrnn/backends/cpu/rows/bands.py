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
def group(place: Any, copies: int, each: Any) -> None:
    """Make the control ``each`` that of the groups of ``copies`` rows in which those of ``place`` lie."""
    each[FIRST] = place[FIRST] // copies
    each[LAST] = (place[LAST] + copies - 1) // copies


@jit
def take_copies(place: Any, x: Any, out: Any) -> None:
    """Write out[m // G, b, m % G] = x[m, b]; x [M, B, I], out [⌈M / G⌉, B, G, I]."""
    for m in range(place[FIRST], place[LAST]):
        for b in range(x.shape[1]):
            copy_row(out[m // out.shape[2], b, m % out.shape[2]], x[m, b])


@jit
def put_copies(place: Any, number: int, y: Any, out: Any) -> None:
    """Write out[m, b, number] = y[m // G, b, m % G]; y [⌈M / G⌉, B, G, P], out [M, B, D, P]."""
    for m in range(place[FIRST], place[LAST]):
        for b in range(out.shape[1]):
            copy_row(out[m, b, number], y[m // y.shape[2], b, m % y.shape[2]])


@jit
def take_bands(place: Any, x: Any, out: Any) -> None:
    """Write out[n, b, t] = x[n, t, b]."""
    for n in range(place[FIRST], place[LAST]):
        for b in range(out.shape[1]):
            for t in range(out.shape[2]):
                copy_row(out[n, b, t], x[n, t, b])


@jit
def put_bands(place: Any, number: int, y: Any, out: Any) -> None:
    """Write out[n, t, b, number] = y[n, b, t]."""
    for n in range(place[FIRST], place[LAST]):
        for b in range(y.shape[1]):
            for t in range(y.shape[2]):
                copy_row(out[n, t, b, number], y[n, b, t])


@jit
def begin(place: Any, start: Any, out: Any) -> None:
    """Write out[m] = start."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], start)
