"""The compiled loop of backpropagation through time, for rows ``first`` … ``last`` - 1 of a batch, by docs/training_equations.md.

One loop serves every cell: what differs between cells is what a step does with the numbers of its own units, which stands in a function for
each family. All real arrays have one type, float32 or float64. Steps are in the order of processing. A sequence ends after ``lengths``
steps. Sequences go back `BLOCK` at a time, so that each row of a matrix is read once for all of them, and what they need of the forward pass
is read step by step.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.qat.lookups import look_up, look_up_cell, read_number
from qrnn.qat.loop_numbers import Given, Operand, States, Wanted
from qrnn.qat.products import add_products

BLOCK = 8
"""Sequences that go through time together."""

CHUNK = 64
"""Units that are computed together. Their numbers lie in rows of one array, a known distance apart, which lets the compiler use vectors."""

LSTM, GRU, RNN = range(3)
"""The families of cells."""

_VALUES, _SLOPES, _ARGUMENTS, _OWN, _OWN_SLOPE, _LIVE, _BEFORE, _OF, _CARRIED, _STATE, _PEEPHOLE, _ROWS = (
    0, 4, 8, 12, 13, 14, 15, 16, 17, 18, 19, 23,
)  # fmt: skip
"""The rows of a chunk's numbers: values, derivatives and gradients of the arguments of up to four gates; the function of c, or R·h + b of
the candidate; 0 where c is clamped; the state before; the gradient of the state, and that which is carried on; c; weights of peepholes."""

_I, _F, _G, _O = range(4)
_R, _Z, _N, _PRODUCT = range(4)

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"reassoc", "contract", "nsz"}}


@numba.njit(inline="always", **_OPTIONS)  # type: ignore[untyped-decorator]
def _lstm(w: Any, coupled: Any) -> None:
    """Go back through units of an LSTM, whose f is 1 - i where ``coupled`` is 1, and not 0."""
    for u in range(CHUNK):
        i, g, before = w[_VALUES + _I, u], w[_VALUES + _G, u], w[_BEFORE, u]
        by_o = w[_OF, u] * w[_OWN, u] * w[_SLOPES + _O, u]
        by_c = w[_CARRIED, u] + w[_OF, u] * w[_VALUES + _O, u] * w[_OWN_SLOPE, u] + by_o * w[_PEEPHOLE + _O, u]
        by_c *= w[_LIVE, u]
        by_i = by_c * (g - coupled * before) * w[_SLOPES + _I, u]
        by_f = by_c * before * w[_SLOPES + _F, u]
        w[_ARGUMENTS + _I, u] = by_i
        w[_ARGUMENTS + _F, u] = by_f
        w[_ARGUMENTS + _G, u] = by_c * i * w[_SLOPES + _G, u]
        w[_ARGUMENTS + _O, u] = by_o
        carried = by_i * w[_PEEPHOLE + _I, u] + by_f * w[_PEEPHOLE + _F, u]
        w[_CARRIED, u] = by_c * w[_VALUES + _F, u] + carried


@numba.njit(inline="always", **_OPTIONS)  # type: ignore[untyped-decorator]
def _gru(w: Any) -> None:
    """Go back through units of a GRU; what goes through the rows of n to r is right where r multiplies R·h + b."""
    for u in range(CHUNK):
        of, z = w[_OF, u], w[_VALUES + _Z, u]
        by_n = of * (1 - z) * w[_SLOPES + _N, u]
        w[_ARGUMENTS + _R, u] = by_n * w[_OWN, u] * w[_SLOPES + _R, u]
        w[_ARGUMENTS + _Z, u] = of * (w[_BEFORE, u] - w[_VALUES + _N, u]) * w[_SLOPES + _Z, u]
        w[_ARGUMENTS + _N, u] = by_n
        w[_ARGUMENTS + _PRODUCT, u] = by_n * w[_VALUES + _R, u]
        w[_CARRIED, u] = of * z


@numba.njit(inline="always", **_OPTIONS)  # type: ignore[untyped-decorator]
def _rnn(w: Any) -> None:
    """Go back through units of an RNN."""
    for u in range(CHUNK):
        w[_ARGUMENTS, u] = w[_OF, u] * w[_SLOPES, u]
        w[_CARRIED, u] = 0


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _real(states: States, n: int, t: int, first: int, count: int, w: Any, row: int) -> None:
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


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _inside(states: States, n: int, t: int, first: int, count: int, w: Any, row: int) -> None:
    """Set w[row] to 0 where a state after step t is clamped, else 1."""
    for u in range(count):
        w[row, u] = abs(states.after[n, t, np.uintp(first + u)]) < states.most


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _take(source: Any, at: int, count: int, w: Any, row: int) -> None:
    """Set w[row] to ``count`` numbers from source[at] on."""
    for u in range(count):
        w[row, u] = source[np.uintp(at + u)]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _give(w: Any, row: int, target: Any, at: int, count: int) -> None:
    """Put ``count`` numbers of w[row] to target[at] and behind it."""
    for u in range(count):
        target[np.uintp(at + u)] = w[row, u]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _read(states: States, n: int, t: int, operand: Operand, out: Any, live: Any) -> None:
    """Set ``out`` to a state as `_real` gives it, but as a matrix reads it, and ``live`` to 0 where it is clamped for that."""
    unit = operand.unit[0]
    for u in range(len(out)):
        number = states.after[n, t, u] if t >= 0 else states.before[n, u]
        whole, inside = read_number(number, operand.shift, operand.limit)
        out[u] = whole
        out[u] *= unit
        live[u] = inside


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _rounded(values: Any, unit: float, limit: float, live: Any) -> None:
    """Round ``values`` to whole ``unit`` within ±``limit``, and set ``live`` to 0 where one is clamped; a unit of 0 leaves them as they are."""
    for u in range(len(values)):
        live[u] = 1
        if unit > 0:
            whole = round_half_up(values[u] / unit)
            live[u] = abs(whole) <= limit
            values[u] = min(max(whole, -limit), limit) * unit


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _fill(rows: Any, value: Any) -> None:
    """Set all numbers of some rows to ``value``."""
    for row in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[row, k] = value


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _copy(source: Any, target: Any, count: int) -> None:
    """Copy ``count`` numbers."""
    for u in range(count):
        target[u] = source[u]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def back(first: int, last: int, given: Given, wanted: Wanted) -> None:
    """Go back through time, from the last step of each sequence to its first; see `qrnn.qat.loop_numbers`."""
    cell, R, p, kind = given.cell, given.R, given.projection, given.of_h.dtype
    lengths, places = given.lengths, given.places
    T, P, H, rows = given.of_h.shape[1], given.of_h.shape[2], given.H, len(wanted.bias_ih)
    projected, read_by_R, resets_h = len(p.weight) > 0, len(R) > 0, cell.resets and not cell.after
    is_lstm, sees, diagonal = cell.family == LSTM, len(given.peephole) > 0, len(given.diagonal) > 0
    w, zero, coupled = np.zeros((_ROWS, CHUNK), kind), np.zeros(1, kind)[0], np.zeros(1, kind)
    if cell.coupled:
        coupled[0] = 1
    of, dh, total = np.zeros((BLOCK, P), kind), np.empty((BLOCK, P), kind), np.empty((BLOCK, P), kind)
    of_own, dc, own_live = np.empty((BLOCK, H), kind), np.empty((BLOCK, H), kind), np.empty((2, H), kind)
    read_live, of_n, reset_live = np.empty((BLOCK, P), kind), np.empty((BLOCK, P), kind), np.empty((BLOCK, P), kind)
    before, reset_value = np.empty((BLOCK, P), kind), np.empty((BLOCK, P), kind)
    dz, read = np.empty((BLOCK, T, rows), kind), np.empty((BLOCK, T, P), kind)
    products = np.empty((BLOCK, T, rows), kind) if cell.after else dz
    reset = np.empty((BLOCK, T * resets_h, P), kind)
    own, of_state = np.empty((BLOCK, T * projected, H), kind), np.empty((BLOCK, T * projected, P), kind)
    if read_by_R:
        _fill(read.reshape(BLOCK * T, P), zero)
    for begin in range(first, last, BLOCK):
        size, longest = min(BLOCK, last - begin), 0
        _fill(of, zero)
        for b in range(BLOCK):
            length = lengths[begin + b] if b < size else 0
            longest = max(longest, length)
            _fill(dz[b, length:], zero)
            _fill(products[b, length:], zero)
            if b < size:
                _copy(wanted.h[begin + b], dh[b], P)
                _copy(wanted.c[begin + b], dc[b], wanted.c.shape[1])
        for t in range(longest - 1, -1, -1):
            past = t - 1 if cell.memory else -1
            for b in range(size):
                n = begin + b
                if t < lengths[n]:
                    for u in range(P):
                        of[b, u] = given.of_h[n, t, u] + dh[b, u]
                    if given.h.most < np.inf:
                        for u in range(P):
                            of[b, u] *= abs(given.h.after[n, t, u]) < given.h.most
                    if read_by_R:
                        _read(given.h, n, past, given.operand, read[b, t], read_live[b])
            if projected:
                _fill(of_own, zero)
                add_products(of_own, of, p.weight)
            if cell.after:
                for b in range(BLOCK):
                    _copy(given.bias, of_n[b], P)
                add_products(of_n, read[:, t], given.turned)
            for b in range(size):
                n = begin + b
                if t >= lengths[n]:
                    continue
                for at in range(0, H, CHUNK):
                    count = min(CHUNK, H - at)
                    for gate in range(len(places)):
                        look_up(
                            given.gates.arguments, given.gates.tables, gate, n, t, gate * H + at, count, w, _VALUES + places[gate],
                            _SLOPES + places[gate],
                        )  # fmt: skip
                    if is_lstm:
                        output = given.output
                        look_up_cell(output.arguments, output.tables, given.shift, n, t, at, count, w, _OWN, _OWN_SLOPE)
                        _real(given.c, n, past, at, count, w, _BEFORE)
                        _inside(given.c, n, t, at, count, w, _LIVE)
                        _take(dc[b], at, count, w, _CARRIED)
                        if not cell.own_forget:
                            for u in range(count):
                                w[_VALUES + _F, u] = 1 - coupled[0] * w[_VALUES + _I, u]
                    if projected:
                        last_gate = _VALUES + places[-1]
                        for u in range(count):
                            own[b, t, np.uintp(at + u)] = w[last_gate, u] * (w[_OWN, u] if is_lstm else 1)
                        _rounded(own[b, t, at : at + count], p.unit, p.most, own_live[0])
                        _rounded(own[b, t, at : at + count], p.step, p.limit, own_live[1])
                        for u in range(count):
                            w[_OF, u] = of_own[b, np.uintp(at + u)] * own_live[0, u] * own_live[1, u]
                    else:
                        _take(of[b], at, count, w, _OF)
                    if is_lstm:
                        if sees:
                            for gate in range(len(places)):
                                _take(given.peephole, gate * H + at, count, w, _PEEPHOLE + places[gate])
                        _lstm(w, coupled[0])
                        _give(w, _CARRIED, dc[b], at, count)
                        if sees:
                            _real(given.c, n, t, at, count, w, _STATE)
                            for gate in range(len(places)):
                                if places[gate] != 2:  # the candidate reads no c
                                    state = _STATE if places[gate] == 3 else _BEFORE
                                    argument = _ARGUMENTS + places[gate]
                                    for u in range(count):
                                        wanted.peephole[np.uintp(gate * H + at + u)] += w[argument, u] * w[state, u]
                    elif cell.family == GRU:
                        _real(given.h, n, past, at, count, w, _BEFORE)
                        if cell.after:
                            _take(of_n[b], at, count, w, _OWN)
                        _gru(w)
                        if resets_h:
                            _give(w, _BEFORE, before[b], at, count)
                            _give(w, _VALUES + _R, reset_value[b], at, count)
                            for u in range(count):
                                reset[b, t, np.uintp(at + u)] = w[_VALUES + _R, u] * w[_BEFORE, u]
                                # of r's argument; what comes through the rows of n is multiplied below
                                w[_ARGUMENTS + _R, u] = w[_SLOPES + _R, u] * w[_BEFORE, u]
                    else:
                        _rnn(w)
                        if diagonal:
                            _real(given.h, n, past, at, count, w, _BEFORE)
                            for u in range(count):
                                w[_CARRIED, u] = w[_ARGUMENTS, u] * given.diagonal[np.uintp(at + u)]
                                wanted.diagonal[np.uintp(at + u)] += w[_ARGUMENTS, u] * w[_BEFORE, u]
                    for gate in range(len(places)):
                        _give(w, _ARGUMENTS + places[gate], dz[b, t], gate * H + at, count)
                    if cell.after:
                        _give(w, _ARGUMENTS + _R, products[b, t], at, count)
                        _give(w, _ARGUMENTS + _Z, products[b, t], H + at, count)
                        _give(w, _ARGUMENTS + _PRODUCT, products[b, t], 2 * H + at, count)
                    if not is_lstm and not projected:
                        _give(w, _CARRIED, dh[b], at, count)
                if is_lstm or projected:
                    for u in range(P):
                        dh[b, u] = 0
                if projected:
                    _copy(of[b], of_state[b, t], P)
                if resets_h:
                    _rounded(reset[b, t], given.operand.step, given.operand.limit, reset_live[b])
            if resets_h:  # r ⊙ h goes through the rows of n first
                _fill(total, zero)
                add_products(total, dz[:, t, 2 * H :], R[2 * H :])
                for b in range(size):
                    if t < lengths[begin + b]:
                        for u in range(H):
                            of_reset = total[b, u] * reset_live[b, u]
                            dz[b, t, u] *= of_reset
                            dh[b, u] += of_reset * reset_value[b, u]
                _fill(total, zero)
                add_products(total, dz[:, t, : 2 * H], R[: 2 * H])
            elif read_by_R:
                _fill(total, zero)
                add_products(total, products[:, t], R)
            for b in range(size):
                n = begin + b
                if t >= lengths[n]:
                    continue
                if read_by_R:
                    for u in range(P):
                        dh[b, u] += total[b, u] * read_live[b, u]
                if not cell.memory:
                    for u in range(P):
                        wanted.begun_h[n, u] += dh[b, u]
                        dh[b, u] = 0
                    for u in range(wanted.c.shape[1]):
                        wanted.begun_c[n, u] += dc[b, u]
                        dc[b, u] = 0
        for b in range(size):
            n, length = begin + b, lengths[begin + b]
            _copy(dh[b], wanted.h[n], P)
            _copy(dc[b], wanted.c[n], wanted.c.shape[1])
            _add_sums(dz[b, :length], given.x[n, :length], wanted.weight_ih, wanted.bias_ih)
            if read_by_R:
                whole = wanted.weight_hh
                _add_sums(products[b, :length], read[b, :length], whole[: 2 * H] if resets_h else whole, wanted.bias_hh)
                if resets_h:
                    add_products(whole[2 * H :], dz[b, :length, 2 * H :].T, reset[b, :length])
            if projected:
                _add_sums(of_state[b, :length], own[b, :length], wanted.projection, wanted.projection_bias)
            if len(wanted.x) > 0:
                add_products(wanted.x[n, :length], dz[b, :length], given.weight_ih)


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _add_sums(of_rows: Any, read: Any, weight: Any, bias: Any) -> None:
    """Add the gradients of a matrix [R, K] and of its bias, for those of what it gives, [T, R or more], and what it read, [T, K]."""
    add_products(weight, of_rows[:, : len(weight)].T, read)
    for t in range(len(of_rows)):
        for r in range(len(bias)):
            bias[r] += of_rows[t, r]
