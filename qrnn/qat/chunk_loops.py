"""Loops over a chunk of units, of which the loop of backpropagation through time (`qrnn.qat.kernels`) is made."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.qat.lookups import read_number
from qrnn.qat.loop_numbers import Operand, States

CHUNK = 64
"""Units that are computed together. Their numbers lie in rows of one array, a known distance apart, which lets the compiler use vectors."""

LSTM, GRU, RNN = range(3)
"""The families of cells."""

VALUES, SLOPES, ARGUMENTS, OWN, OWN_SLOPE, LIVE, BEFORE, OF, CARRIED, STATE, PEEPHOLE, ROWS = (
    0, 4, 8, 12, 13, 14, 15, 16, 17, 18, 19, 23,
)  # fmt: skip
"""The rows of a chunk's numbers: values, derivatives and gradients of the arguments of up to four gates; the function of c, or R·h + b of
the candidate; 0 where c is clamped; the state before; the gradient of the state, and that which is carried on; c; weights of peepholes."""

I, F, G, O = range(4)
RESET, UPDATE, NEW, PRODUCT = range(4)
"""The places of the gates of an LSTM among four, and those of r, z and n of a GRU; the fourth is R·h + b of its candidate."""

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"reassoc", "contract", "nsz"}}


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def lstm_units(w: Any, coupled: Any) -> None:
    """Go back through units of an LSTM, whose f is 1 - i where ``coupled`` is 1, and not 0."""
    for u in range(CHUNK):
        i, g, before = w[VALUES + I, u], w[VALUES + G, u], w[BEFORE, u]
        by_o = w[OF, u] * w[OWN, u] * w[SLOPES + O, u]
        by_c = w[CARRIED, u] + w[OF, u] * w[VALUES + O, u] * w[OWN_SLOPE, u] + by_o * w[PEEPHOLE + O, u]
        by_c *= w[LIVE, u]
        by_i = by_c * (g - coupled * before) * w[SLOPES + I, u]
        by_f = by_c * before * w[SLOPES + F, u]
        w[ARGUMENTS + I, u] = by_i
        w[ARGUMENTS + F, u] = by_f
        w[ARGUMENTS + G, u] = by_c * i * w[SLOPES + G, u]
        w[ARGUMENTS + O, u] = by_o
        carried = by_i * w[PEEPHOLE + I, u] + by_f * w[PEEPHOLE + F, u]
        w[CARRIED, u] = by_c * w[VALUES + F, u] + carried


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def gru_units(w: Any) -> None:
    """Go back through units of a GRU; what goes through the rows of n to r is right where r multiplies R·h + b."""
    for u in range(CHUNK):
        of, z = w[OF, u], w[VALUES + UPDATE, u]
        by_n = of * (1 - z) * w[SLOPES + NEW, u]
        w[ARGUMENTS + RESET, u] = by_n * w[OWN, u] * w[SLOPES + RESET, u]
        w[ARGUMENTS + UPDATE, u] = of * (w[BEFORE, u] - w[VALUES + NEW, u]) * w[SLOPES + UPDATE, u]
        w[ARGUMENTS + NEW, u] = by_n
        w[ARGUMENTS + PRODUCT, u] = by_n * w[VALUES + RESET, u]
        w[CARRIED, u] = of * z


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def rnn_units(w: Any) -> None:
    """Go back through units of an RNN."""
    for u in range(CHUNK):
        w[ARGUMENTS, u] = w[OF, u] * w[SLOPES, u]
        w[CARRIED, u] = 0


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def put_state(states: States, n: int, t: int, first: int, count: int, w: Any, row: int) -> None:
    """Set w[row] to a state of ``count`` units from ``first`` on, after step t, or before the first where t < 0."""
    unit = states.unit[0]
    if t >= 0:
        for u in range(count):
            w[row, u] = states.after[n, t, np.uintp(first + u)]
    else:
        for u in range(count):
            w[row, u] = states.before[n, np.uintp(first + u)]
    for u in range(count):
        w[row, u] *= unit


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def put_inside(states: States, n: int, t: int, first: int, count: int, w: Any, row: int) -> None:
    """Set w[row] to 0 where a state after step t is clamped, else 1."""
    for u in range(count):
        w[row, u] = abs(states.after[n, t, np.uintp(first + u)]) < states.most


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def take(source: Any, at: int, count: int, w: Any, row: int) -> None:
    """Set w[row] to ``count`` numbers from source[at] on."""
    for u in range(count):
        w[row, u] = source[np.uintp(at + u)]


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def give(w: Any, row: int, target: Any, at: int, count: int) -> None:
    """Put ``count`` numbers of w[row] to target[at] and behind it."""
    for u in range(count):
        target[np.uintp(at + u)] = w[row, u]


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def read_state(states: States, n: int, t: int, operand: Operand, out: Any, live: Any) -> None:
    """Set ``out`` to a state as `put_state` gives it, but as a matrix reads it, and ``live`` to 0 where it is clamped for that."""
    unit = operand.unit[0]
    for u in range(len(out)):
        number = states.after[n, t, u] if t >= 0 else states.before[n, u]
        whole, inside = read_number(number, operand.shift, operand.limit)
        out[u] = whole
        out[u] *= unit
        live[u] = inside


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def round_values(values: Any, unit: float, limit: float, live: Any) -> None:
    """Round ``values`` to whole ``unit`` within ±``limit``, and set ``live`` to 0 where one is clamped; a unit of 0 leaves them as they are."""
    for u in range(len(values)):
        live[u] = 1
        if unit > 0:
            whole = round_half_up(values[u] / unit)
            live[u] = abs(whole) <= limit
            values[u] = min(max(whole, -limit), limit) * unit


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def fill(rows: Any, value: Any) -> None:
    """Set all numbers of some rows to ``value``."""
    for row in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[row, k] = value


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def copy(source: Any, target: Any, count: int) -> None:
    """Copy ``count`` numbers."""
    for u in range(count):
        target[u] = source[u]
