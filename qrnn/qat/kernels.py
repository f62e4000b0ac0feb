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

from qrnn.qat.chunk_loops import (
    ARGUMENTS,
    BEFORE,
    CARRIED,
    CHUNK,
    GRU,
    LIVE,
    LSTM,
    OF,
    OPTIONS,
    OWN,
    OWN_SLOPE,
    PEEPHOLE,
    PRODUCT,
    RESET,
    ROWS,
    SLOPES,
    STATE,
    UPDATE,
    VALUES,
    F,
    G,
    I,
    O,
    copy,
    fill,
    give,
    gru_units,
    lstm_units,
    put_inside,
    put_state,
    read_state,
    rnn_units,
    round_values,
    take,
)
from qrnn.qat.lookups import look_up, look_up_cell
from qrnn.qat.loop_numbers import Cell, Given, Projection, States, Wanted, Work
from qrnn.qat.products import add_products

BLOCK = 8
"""Sequences that go through time together."""


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def _add_sums(of_rows: Any, read: Any, weight: Any, bias: Any) -> None:
    """Add the gradients of a matrix [R, K] and of its bias, for those of what it gives, [T, R or more], and what it read, [T, K]."""
    add_products(weight, of_rows[:, : len(weight)].T, read)
    for t in range(len(of_rows)):
        for r in range(len(bias)):
            bias[r] += of_rows[t, r]


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _work(given: Given, rows: int) -> Work:
    """Return arrays for a block of sequences, of the type of the gradients; ``rows`` are those of the input's matrix."""
    cell, p, kind = given.cell, given.projection, given.of_h.dtype
    T, P, H = given.of_h.shape[1], given.of_h.shape[2], given.H
    projected, resets_h = len(p.weight) > 0, cell.resets and not cell.after
    w, coupled = np.zeros((ROWS, CHUNK), kind), np.zeros(1, kind)
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
    if len(given.R) > 0:
        fill(read.reshape(BLOCK * T, P), np.zeros(1, kind)[0])
    return Work(
        w, coupled, of, dh, dc, total, of_own, own_live, read_live, of_n, before, reset_value, reset_live, dz, products, read, reset,
        own, of_state,
    )  # fmt: skip


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _begin(begin: int, size: int, given: Given, wanted: Wanted, work: Work) -> int:
    """Take the gradients of the last states of a block, and 0 for the rows of steps that sequences lack; return the most steps of one."""
    zero, longest = np.zeros(1, work.of.dtype)[0], 0
    fill(work.of, zero)
    for b in range(BLOCK):
        length = given.lengths[begin + b] if b < size else 0
        longest = max(longest, length)
        fill(work.dz[b, length:], zero)
        fill(work.products[b, length:], zero)
        if b < size:
            copy(wanted.h[begin + b], work.dh[b], given.of_h.shape[2])
            copy(wanted.c[begin + b], work.dc[b], wanted.c.shape[1])
    return longest


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _states_of_step(begin: int, size: int, t: int, past: int, given: Given, work: Work) -> None:
    """Set the gradients of h after step t, and of what a projection makes it of, and the products of r's rows with the state before."""
    of, dh, read, read_live, P = work.of, work.dh, work.read, work.read_live, given.of_h.shape[2]
    of_h, h, lengths, read_by_R = given.of_h, given.h, given.lengths, len(given.R) > 0
    after, most = h.after, h.most
    for b in range(size):
        n = begin + b
        if t < lengths[n]:
            for u in range(P):
                of[b, u] = of_h[n, t, u] + dh[b, u]
            if most < np.inf:
                for u in range(P):
                    of[b, u] *= abs(after[n, t, u]) < most
            if read_by_R:
                read_state(h, n, past, given.operand, read[b, t], read_live[b])
    if len(given.projection.weight) > 0:
        fill(work.of_own, np.zeros(1, of.dtype)[0])
        add_products(work.of_own, of, given.projection.weight)
    if given.cell.after:
        for b in range(BLOCK):
            copy(given.bias, work.of_n[b], P)
        add_products(work.of_n, work.read[:, t], given.turned)


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _units_of_step(begin: int, size: int, t: int, past: int, given: Given, wanted: Wanted, work: Work) -> None:
    """Go back through the units of step t of each sequence, chunk by chunk, from their state to the arguments of the gates."""
    cell, places, H, P, p = given.cell, given.places, given.H, given.of_h.shape[2], given.projection
    projected, resets_h, is_lstm = len(p.weight) > 0, cell.resets and not cell.after, cell.family == LSTM
    w, of, of_own, dh, dc, dz, products = work.w, work.of, work.of_own, work.dh, work.dc, work.dz, work.products
    own, own_live, of_n, before, reset, coupled = (
        work.own,
        work.own_live,
        work.of_n,
        work.before,
        work.reset,
        work.coupled,
    )
    reset_value, reset_live, of_state, lengths = work.reset_value, work.reset_live, work.of_state, given.lengths
    arguments, tables, h, c, peephole, diagonal = (
        given.gates.arguments, given.gates.tables, given.h, given.c, given.peephole, given.diagonal,
    )  # fmt: skip
    of_c_arguments, of_c_tables = given.output.arguments, given.output.tables
    for b in range(size):
        n = begin + b
        if t >= lengths[n]:
            continue
        for at in range(0, H, CHUNK):
            count = min(CHUNK, H - at)
            for k in range(len(places)):
                place = places[k]
                look_up(arguments, tables, k, n, t, k * H + at, count, w, VALUES + place, SLOPES + place)
            if is_lstm:
                look_up_cell(of_c_arguments, of_c_tables, given.shift, n, t, at, count, w, OWN, OWN_SLOPE)
            if projected:
                _through_projection(own[b, t], own_live, of_own[b], p, places[-1], is_lstm, at, count, w)
            else:
                take(of[b], at, count, w, OF)
            if is_lstm:
                _through_lstm(
                    n, t, past, at, count, cell, places, H, c, peephole, wanted.peephole, dc[b], coupled[0], w
                )
            elif cell.family == GRU:
                put_state(h, n, past, at, count, w, BEFORE)
                if cell.after:
                    take(of_n[b], at, count, w, OWN)
                gru_units(w)
                if resets_h:
                    _through_reset(at, count, before[b], reset_value[b], reset[b, t], w)
            else:
                rnn_units(w)
                if len(diagonal) > 0:
                    _through_diagonal(n, past, at, count, h, diagonal, wanted.diagonal, w)
            for k in range(len(places)):
                give(w, ARGUMENTS + places[k], dz[b, t], k * H + at, count)
            if cell.after:
                give(w, ARGUMENTS + RESET, products[b, t], at, count)
                give(w, ARGUMENTS + UPDATE, products[b, t], H + at, count)
                give(w, ARGUMENTS + PRODUCT, products[b, t], 2 * H + at, count)
            if not is_lstm and not projected:
                give(w, CARRIED, dh[b], at, count)
        if is_lstm or projected:
            for u in range(P):
                dh[b, u] = 0
        if projected:
            copy(of[b], of_state[b, t], P)
        if resets_h:
            round_values(reset[b, t], given.operand.step, given.operand.limit, reset_live[b])


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _through_projection(
    own: Any, live: Any, of_own: Any, p: Projection, last: int, is_lstm: bool, at: int, count: int, w: Any
) -> None:
    """Set ``own`` to what the projection reads of units ``at`` …, and w[OF] to its gradient; ``last`` is the place of the last gate."""
    for u in range(count):
        own[np.uintp(at + u)] = w[VALUES + last, u] * (w[OWN, u] if is_lstm else 1)
    round_values(own[at : at + count], p.unit, p.most, live[0])
    round_values(own[at : at + count], p.step, p.limit, live[1])
    for u in range(count):
        w[OF, u] = of_own[np.uintp(at + u)] * live[0, u] * live[1, u]


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _through_lstm(
    n: int, t: int, past: int, at: int, count: int, cell: Cell, places: Any, H: int, c: States, peephole: Any, of_peephole: Any, dc: Any,
    coupled: Any, w: Any,
) -> None:  # fmt: skip
    """Go back through units of an LSTM, and add to the gradients of its peepholes."""
    put_state(c, n, past, at, count, w, BEFORE)
    put_inside(c, n, t, at, count, w, LIVE)
    take(dc, at, count, w, CARRIED)
    if not cell.own_forget:
        for u in range(count):
            w[VALUES + F, u] = 1 - coupled * w[VALUES + I, u]
    if len(peephole) > 0:
        for k in range(len(places)):
            take(peephole, k * H + at, count, w, PEEPHOLE + places[k])
    lstm_units(w, coupled)
    give(w, CARRIED, dc, at, count)
    if len(peephole) > 0:
        put_state(c, n, t, at, count, w, STATE)
        for k in range(len(places)):
            if places[k] != G:  # the candidate reads no c
                state = STATE if places[k] == O else BEFORE
                argument = ARGUMENTS + places[k]
                for u in range(count):
                    of_peephole[np.uintp(k * H + at + u)] += w[argument, u] * w[state, u]


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _through_reset(at: int, count: int, before: Any, value: Any, reset: Any, w: Any) -> None:
    """Keep h, r and r ⊙ h of units of a GRU whose r multiplies h; what comes to r through the rows of n is multiplied later."""
    give(w, BEFORE, before, at, count)
    give(w, VALUES + RESET, value, at, count)
    for u in range(count):
        reset[np.uintp(at + u)] = w[VALUES + RESET, u] * w[BEFORE, u]
        w[ARGUMENTS + RESET, u] = w[SLOPES + RESET, u] * w[BEFORE, u]


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _through_diagonal(
    n: int, past: int, at: int, count: int, h: States, diagonal: Any, of_diagonal: Any, w: Any
) -> None:
    """Go back through the diagonal recurrence of an RNN, and add to the gradient of its weights."""
    put_state(h, n, past, at, count, w, BEFORE)
    for u in range(count):
        w[CARRIED, u] = w[ARGUMENTS, u] * diagonal[np.uintp(at + u)]
        of_diagonal[np.uintp(at + u)] += w[ARGUMENTS, u] * w[BEFORE, u]


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _through_recurrent_matrix(begin: int, size: int, t: int, given: Given, work: Work) -> None:
    """Set ``total`` to what the rows of R give for the gradient of the state that they read."""
    R, H, total, dz, dh = given.R, given.H, work.total, work.dz, work.dh
    live, value, lengths = work.reset_live, work.reset_value, given.lengths
    zero = np.zeros(1, total.dtype)[0]
    if given.cell.resets and not given.cell.after:  # r ⊙ h goes through the rows of n first
        fill(total, zero)
        add_products(total, dz[:, t, 2 * H :], R[2 * H :])
        for b in range(size):
            if t < lengths[begin + b]:
                for u in range(H):
                    of_reset = total[b, u] * live[b, u]
                    dz[b, t, u] *= of_reset
                    dh[b, u] += of_reset * value[b, u]
        fill(total, zero)
        add_products(total, dz[:, t, : 2 * H], R[: 2 * H])
    elif len(R) > 0:
        fill(total, zero)
        add_products(total, work.products[:, t], R)


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _to_step_before(begin: int, size: int, t: int, given: Given, wanted: Wanted, work: Work) -> None:
    """Carry the gradients of states to the step before; without memory they are those of the state that every step begins with."""
    dh, dc, total, read_live, P = work.dh, work.dc, work.total, work.read_live, given.of_h.shape[2]
    read_by_R, memory, lengths = len(given.R) > 0, given.cell.memory, given.lengths
    for b in range(size):
        n = begin + b
        if t >= lengths[n]:
            continue
        if read_by_R:
            for u in range(P):
                dh[b, u] += total[b, u] * read_live[b, u]
        if not memory:
            for u in range(P):
                wanted.begun_h[n, u] += dh[b, u]
                dh[b, u] = 0
            for u in range(wanted.c.shape[1]):
                wanted.begun_c[n, u] += dc[b, u]
                dc[b, u] = 0


@numba.njit(inline="always", **OPTIONS)  # type: ignore[untyped-decorator]
def _sums_of_sequence(b: int, n: int, given: Given, wanted: Wanted, work: Work) -> None:
    """Give the gradients of the first state, and add those of matrices and biases over all steps of a sequence."""
    length, H = given.lengths[n], given.H
    dz, products, read = work.dz[b, :length], work.products[b, :length], work.read[b, :length]
    copy(work.dh[b], wanted.h[n], given.of_h.shape[2])
    copy(work.dc[b], wanted.c[n], wanted.c.shape[1])
    _add_sums(dz, given.x[n, :length], wanted.weight_ih, wanted.bias_ih)
    if len(given.R) > 0:
        resets_h, whole = given.cell.resets and not given.cell.after, wanted.weight_hh
        _add_sums(products, read, whole[: 2 * H] if resets_h else whole, wanted.bias_hh)
        if resets_h:
            add_products(whole[2 * H :], dz[:, 2 * H :].T, work.reset[b, :length])
    if len(given.projection.weight) > 0:
        _add_sums(work.of_state[b, :length], work.own[b, :length], wanted.projection, wanted.projection_bias)
    if len(wanted.x) > 0:
        add_products(wanted.x[n, :length], dz, given.weight_ih)


@numba.njit(**OPTIONS)  # type: ignore[untyped-decorator]
def back(first: int, last: int, given: Given, wanted: Wanted) -> None:
    """Go back through time, from the last step of each sequence to its first; see `qrnn.qat.loop_numbers`."""
    work = _work(given, len(wanted.bias_ih))
    for begin in range(first, last, BLOCK):
        size = min(BLOCK, last - begin)
        longest = _begin(begin, size, given, wanted, work)
        for t in range(longest - 1, -1, -1):
            past = t - 1 if given.cell.memory else -1
            _states_of_step(begin, size, t, past, given, work)
            _units_of_step(begin, size, t, past, given, wanted, work)
            _through_recurrent_matrix(begin, size, t, given, work)
            _to_step_before(begin, size, t, given, wanted, work)
        for b in range(size):
            _sums_of_sequence(b, begin + b, given, wanted, work)
