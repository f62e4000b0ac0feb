"""Rows that are copied from one array to another."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def copy_row(to: Any, row: Any) -> None:
    """Write to[k] = row[k].

    An assignment of slices would be compiled with what it says to a user whose slices do not fit.
    """
    for k in range(to.shape[0]):
        to[k] = row[k]


@jit
def gather(place: Any, rows: Any, x: Any, out: Any) -> None:
    """Write out[m] = x[rows[m]]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], x[rows[m]])


@jit
def scatter(place: Any, some: Any, origins: Any, x: Any, out: Any, lengths: Any) -> None:
    """Write rows place[FIRST] … place[LAST] - 1 of out.

    Row origins[j] is x[j] for the rows j of the control ``some``, and the others are 0. lengths [N] is 1 for the former and 0 for the others.
    """
    for m in range(place[FIRST], place[LAST]):
        lengths[m] = 0
        for k in range(out.shape[1]):
            out[m, k] = 0
    for j in range(some[FIRST], some[LAST]):
        lengths[origins[j]] = 1
        copy_row(out[origins[j]], x[j])


@jit
def take_steps(place: Any, steps: int, x: Any, out: Any) -> None:
    """Write out[n · steps + t] = x[n, t] for the first ``steps`` of the steps that x has."""
    for n in range(place[FIRST], place[LAST]):
        for t in range(steps):
            copy_row(out[n * steps + t], x[n, t])


@jit
def take_part(place: Any, part: int, x: Any, out: Any) -> None:
    """Write out[m] = x[m, part]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], x[m, part])


@jit
def put_part(place: Any, part: int, x: Any, out: Any) -> None:
    """Write out[m, part] = x[m]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m, part], x[m])
