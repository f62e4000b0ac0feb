"""The loops of the CPU backend. All arithmetic is the contract's; these functions own order, layout and threads.

A thread team shares one sequence: each worker owns the hidden units [u0, u1) of every gate and meets the others once in every step. A team
of one worker is the ordinary case. Axes: t steps, r rows (gate · H + unit), u units, k columns.
"""

from __future__ import annotations

from typing import Any

from numba import int32

from qrnn.arithmetic.cells import (
    candidate_after_reset,
    coupled_forget,
    gru_hidden_state,
    lstm_cell_state,
    lstm_hidden_state,
    lstm_output_argument,
    preactivation,
    reset_operand,
    rnn_hidden_state,
)
from qrnn.arithmetic.cells import peephole as peephole_part
from qrnn.arithmetic.fixedpoint import (
    Q15_ONE,
    requantize,
    saturate16_shifted,
    to_operand,
)
from qrnn.arithmetic.gates import evaluate, exp_weight, softmax_divide
from qrnn.backends.cpu.block_sizes import BLOCK
from qrnn.backends.cpu.functions import LANES, emit_rows
from qrnn.backends.cpu.jit import emitted, jit
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.threads.team_loops import wait_for_all
from qrnn.model.cell_codes import COUPLED, FUNCTION, GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM, ONE, OWN_GATE, SOFTMAX
from qrnn.model.cell_formats import (
    ARGUMENT,
    CANDIDATE,
    FORGET_FRAC,
    H_LIMIT,
    H_SHIFT,
    HIDDEN,
    INPUT_FRAC,
    PRODUCT,
    RESET_FRAC,
    UPDATE_FRAC,
    X_LIMIT,
    X_SHIFT,
)


@jit
def matvec(weight: Any, x: Any, acc: Any, r0: int, r1: int) -> None:
    """Write acc[r] = weight[r] · x for rows r0 … r1 - 1, by a plain loop. What is not fused (`qrnn.backends.cpu.blocks`) is done here.

    weight [R, K] int8, x [K] int16, acc [R] int32. Sums cannot overflow (proved), so any order gives the same bits.
    """
    for r in range(r0, r1):
        total = int32(0)
        for k in range(weight.shape[1]):
            total = int32(total + int32(weight[r, k]) * int32(x[k]))
        acc[r] = total


@jit
def requantized_rows(matrix: Any, x: Any, out: Any, r0: int, r1: int) -> None:
    """Write out[r] = requantize(weight[r] · x + bias[r], multiplier[r], left_shift[r]), int32, for rows r0 … r1 - 1."""
    weight, bias, multiplier, left_shift = matrix
    matvec(weight, x, out, r0, r1)
    for r in range(r0, r1):
        out[r] = requantize(out[r] + bias[r], multiplier[r], left_shift[r])


_evaluate_int16 = emitted(lambda b, values, blocks: emit_rows(b, 16, values, blocks), 2)
_evaluate_int32 = emitted(lambda b, values, blocks: emit_rows(b, 32, values, blocks), 2)


@jit
def activate(params: Any, tables: Any, role: int, pre: Any, out: Any, r0: int, r1: int) -> None:
    """Write out[r] = gate function ``role`` at pre[r], int32 from int16, `LANES` at once; see `activate_in_place`."""
    whole = (r1 - r0) // LANES
    values = (address(params) + role * params.strides[0], address(tables) + role * tables.strides[0])
    _evaluate_int16((*values, address(pre) + r0 * pre.itemsize, address(out) + r0 * out.itemsize), whole)
    for r in range(r0 + whole * LANES, r1):
        out[r] = evaluate(pre[r], params, tables, role)


@jit
def activate_in_place(params: Any, tables: Any, role: int, out: Any, r0: int, r1: int) -> None:
    """Write out[r] = gate function ``role`` at out[r], int32 that hold int16."""
    whole = (r1 - r0) // LANES
    values = (address(params) + role * params.strides[0], address(tables) + role * tables.strides[0])
    at = address(out) + r0 * out.itemsize
    _evaluate_int32((*values, at, at), whole)
    for r in range(r0 + whole * LANES, r1):
        out[r] = evaluate(out[r], params, tables, role)


@jit
def gate_rows(hh: Any, gates: Any, gate: int, xs: Any, now: Any, work: Any, H: int, u0: int, u1: int) -> None:
    """Compute sums, arguments and outputs of one gate for units u0 … u1 - 1 of H.

    They are made from the inputs' part xs and the operands ``now``.
    """
    hs, pre, out = work
    a, b = gate * H + u0, gate * H + u1
    requantized_rows(hh, now, hs, a, b)
    for r in range(a, b):
        pre[r] = preactivation(xs[r], hs[r], gates[0][r])
    activate(gates[1], gates[2], gate, pre, out, a, b)


@jit
def add_peepholes(peephole: Any, c: Any, xs: Any, r0: int, u0: int, u1: int) -> None:
    """Add the cell's part of a gate whose rows begin at r0 to xs[r0 + u], for units u = u0 … u1 - 1.

    Nothing is added where there are no peepholes.
    """
    weight, shift = peephole
    if weight.shape[0] > 0:
        for u in range(u0, u1):
            xs[r0 + u] += peephole_part(c[u], weight[r0 + u], shift[r0 + u])


@jit
def lstm_step(
    forget: int, hh: Any, gates: Any, formats: Any, xs: Any, h: Any, c: Any, now: Any, work: Any, u0: int, u1: int
) -> None:
    """Compute h, c [H] of units u0 … u1 - 1. Gate blocks are i, f, g, o, without f unless ``forget`` is OWN_GATE."""
    out = work[2]
    H, peephole = c.shape[0], gates[3]
    g, o = (2, 3) if forget == OWN_GATE else (1, 2)
    for gate in range(o):
        if gate != g:
            add_peepholes(peephole, c, xs, gate * H, u0, u1)
        gate_rows(hh, gates, gate, xs, now, work, H, u0, u1)
    forget_frac, product = formats[FORGET_FRAC], formats[PRODUCT]
    for u in range(u0, u1):
        i = out[u]
        f = out[H + u]
        if forget == COUPLED:
            f = coupled_forget(i, formats[INPUT_FRAC])
        elif forget == ONE:
            f = Q15_ONE
        c[u] = lstm_cell_state(i, f, out[g * H + u], c[u], forget_frac, product)
    add_peepholes(peephole, c, xs, o * H, u0, u1)
    gate_rows(hh, gates, o, xs, now, work, H, u0, u1)
    for u in range(u0, u1):  # i is used up, so its places serve the output activation.
        out[u] = lstm_output_argument(c[u], formats[ARGUMENT])
    activate_in_place(gates[1], gates[2], o + 1, out, u0, u1)
    for u in range(u0, u1):
        h[u] = lstm_hidden_state(out[o * H + u], out[u], formats[HIDDEN])


@jit
def gru_reset_after_step(
    hh: Any, gates: Any, formats: Any, xs: Any, h: Any, now: Any, work: Any, u0: int, u1: int
) -> None:
    """Compute h [H] of units u0 … u1 - 1 for linear_before_reset = 1, in one matvec phase."""
    hs, pre, out = work
    H = h.shape[0]
    gate_rows(hh, gates, 0, xs, now, work, H, u0, u1)
    gate_rows(hh, gates, 1, xs, now, work, H, u0, u1)
    requantized_rows(hh, now, hs, 2 * H + u0, 2 * H + u1)
    for u in range(u0, u1):
        row = 2 * H + u
        pre[row] = candidate_after_reset(xs[row], hs[row], out[u], formats[RESET_FRAC], gates[0][row])
    activate(gates[1], gates[2], 2, pre, out, 2 * H + u0, 2 * H + u1)
    for u in range(u0, u1):
        h[u] = gru_hidden_state(out[H + u], out[2 * H + u], h[u], formats[UPDATE_FRAC], formats[CANDIDATE])


@jit
def gru_reset_before_r(
    hh: Any, gates: Any, formats: Any, xs: Any, h: Any, now: Any, reset: Any, work: Any, u0: int, u1: int
) -> None:
    """Compute r, z, and the operands of r·h into ``reset`` [H]: the first phase for linear_before_reset = 0."""
    out = work[2]
    H = h.shape[0]
    gate_rows(hh, gates, 0, xs, now, work, H, u0, u1)
    gate_rows(hh, gates, 1, xs, now, work, H, u0, u1)
    for u in range(u0, u1):
        reset[u] = reset_operand(out[u], h[u], formats[RESET_FRAC], formats[H_SHIFT], formats[H_LIMIT])


@jit
def gru_reset_before_n(
    hh: Any, gates: Any, formats: Any, xs: Any, h: Any, reset: Any, work: Any, u0: int, u1: int
) -> None:
    """Compute n from all of ``reset``, then h: the second phase for linear_before_reset = 0."""
    out = work[2]
    H = h.shape[0]
    gate_rows(hh, gates, 2, xs, reset, work, H, u0, u1)
    for u in range(u0, u1):
        h[u] = gru_hidden_state(out[H + u], out[2 * H + u], h[u], formats[UPDATE_FRAC], formats[CANDIDATE])


@jit
def rnn_step(hh: Any, gates: Any, formats: Any, xs: Any, h: Any, now: Any, work: Any, u0: int, u1: int) -> None:
    """Compute h [H] of units u0 … u1 - 1."""
    out = work[2]
    gate_rows(hh, gates, 0, xs, now, work, h.shape[0], u0, u1)
    for u in range(u0, u1):
        h[u] = rnn_hidden_state(out[u], formats[HIDDEN])


@jit
def softmax_rows(table: Any, in_frac: int, x: Any, out: Any, weights: Any) -> None:
    """Write the softmax of x [F] to out [F], Q1.14. x and out may be one array; weights [F] int64 is scratch."""
    F = x.shape[0]
    largest, total = -32768, 0
    for k in range(F):
        largest = max(largest, x[k])
    for k in range(F):
        weights[k] = exp_weight(largest - x[k], in_frac, table)
        total += weights[k]
    for k in range(F):
        out[k] = softmax_divide(weights[k], total)


@jit
def project(projection: Any, hidden: Any, operand: Any, sums: Any, weights: Any, h: Any) -> None:
    """Compute h [P] from ``hidden`` [H]; operand [H] int16, sums [P] int32 and weights [P] int64 are scratch."""
    matrix, pre_shift, params, tables, formats = projection
    kind, shift, limit, in_frac, out_shift = formats
    for k in range(hidden.shape[0]):
        operand[k] = to_operand(hidden[k], shift, limit)
    P = h.shape[0]
    requantized_rows(matrix, operand, sums, 0, P)
    for r in range(P):
        sums[r] = saturate16_shifted(sums[r], pre_shift[r])
    if kind == FUNCTION:
        activate_in_place(params, tables, 0, sums, 0, P)
    elif kind == SOFTMAX:
        softmax_rows(tables[0], in_frac, sums, sums, weights)
    for r in range(P):
        h[r] = rnn_hidden_state(sums[r], out_shift)


@jit
def run_sequences(
    cell: int,
    forget: int,
    reverse: bool,
    ih: Any,
    hh: Any,
    gates: Any,
    projection: Any,
    formats: Any,
    x: Any,
    lengths: Any,
    h: Any,
    c: Any,
    y: Any,
    trace: Any,
    scratch: Any,
    place: Any,
) -> None:
    """Run sequences place[0] … place[1] - 1 of one direction, as thread place[2] of place[3].

    ih, hh: `plain.PlainMatrix`; gates: `plain.PlainGates`; projection: `plain.PlainProjection`; formats [12] int64 (`pack_formats`);
    x [N, T, I] int16; h [N, P], c [N, H or 0]: initial states, replaced by the final ones; y [N, T, P];
    trace (pre [N, T, R] int16, c [N, T, H] int32), of zero steps when not wanted; scratch: `plain.PlainScratch`.
    """
    n0, n1, me, threads = place
    operands, hidden, x_scratch, all_xs, all_pre, all_hs, all_out, sums, weights, flags = scratch
    pre_trace, c_trace = trace
    projected = hidden.shape[1] > 0
    P, R, I = h.shape[1], hh[0].shape[0], x.shape[2]
    H = hidden.shape[1] if projected else P
    u0, u1 = me * H // threads, (me + 1) * H // threads
    p0, p1 = (0, P) if projected else (u0, u1)
    h_shift, h_limit, x_shift, x_limit = formats[H_SHIFT], formats[H_LIMIT], formats[X_SHIFT], formats[X_LIMIT]
    x_operands = x_scratch[me]
    xs, pre = all_xs[me], all_pre[me]
    work = (all_hs[me], pre, all_out[me])
    epoch = 0
    for n in range(n0, n1):
        length = lengths[n]
        for u in range(p0, p1):
            operands[0, u] = to_operand(h[n, u], h_shift, h_limit)
        epoch += 1
        wait_for_all(flags, me, threads, epoch)
        for step in range(length):
            t = length - 1 - step if reverse else step
            slot = step % BLOCK
            if slot == 0:
                for ahead in range(min(BLOCK, length - step)):
                    t_ahead = t - ahead if reverse else t + ahead
                    for k in range(I):
                        x_operands[k] = to_operand(x[n, t_ahead, k], x_shift, x_limit)
                    for gate in range(R // H):
                        requantized_rows(ih, x_operands, xs[ahead], gate * H + u0, gate * H + u1)
            now, following = operands[step % 2], operands[(step + 1) % 2]
            h_now = hidden[0] if projected else h[n]
            if cell == LSTM:
                lstm_step(forget, hh, gates, formats, xs[slot], h_now, c[n], now, work, u0, u1)
            elif cell == GRU_RESET_AFTER:
                gru_reset_after_step(hh, gates, formats, xs[slot], h_now, now, work, u0, u1)
            elif cell == GRU_RESET_BEFORE:
                gru_reset_before_r(hh, gates, formats, xs[slot], h_now, now, operands[2], work, u0, u1)
                epoch += 1
                wait_for_all(flags, me, threads, epoch)
                gru_reset_before_n(hh, gates, formats, xs[slot], h_now, operands[2], work, u0, u1)
            else:
                rnn_step(hh, gates, formats, xs[slot], h_now, now, work, u0, u1)
            if projected:
                project(projection, h_now, hidden[1], sums, weights, h[n])
            for u in range(p0, p1):
                y[n, t, u] = h[n, u]
                following[u] = to_operand(h[n, u], h_shift, h_limit)
            if pre_trace.shape[1] > 0:
                for gate in range(R // H):
                    for r in range(gate * H + u0, gate * H + u1):
                        pre_trace[n, t, r] = pre[r]
                for u in range(u0, min(u1, c.shape[1])):
                    c_trace[n, t, u] = c[n, u]
            epoch += 1
            wait_for_all(flags, me, threads, epoch)
