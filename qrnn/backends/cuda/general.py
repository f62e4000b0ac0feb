"""The general kernel has a block for each sequence and plain loops; it runs every cell of the contract, traces, and projections of any kind.

It uses no instruction that Numba has no name for, no shared memory and no barrier of a grid. What the step kernels of `steps` do not take,
and everything whose step kernel no GPU has confirmed (`proofs`), runs here. Weights are [K, R] int8, so that neighbouring threads, which
have neighbouring rows, read neighbouring bytes.
"""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import fixedpoint, gates
from qrnn.backends.cuda.cells import (
    PRE_SHIFT,
    evaluate,
    gru_after_unit,
    gru_before_reset,
    gru_before_unit,
    lstm_unit,
    requantized,
    rnn_hidden_state,
    rnn_unit,
    to_operand,
)
from qrnn.backends.cuda.contract import device
from qrnn.backends.cuda.launch import kernel
from qrnn.model.cell_codes import FUNCTION, GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM, NONE, SOFTMAX
from qrnn.model.cell_formats import H_LIMIT, H_SHIFT

KIND, OPERAND_SHIFT, OPERAND_LIMIT, IN_FRAC, OUT_SHIFT = 0, 1, 2, 3, 4
"""The places of a projection's formats."""

saturate16_shifted = device(fixedpoint.saturate16_shifted)
exp_weight = device(gates.exp_weight)
softmax_divide = device(gates.softmax_divide)


@cuda.jit(device=True)
def softmax_row(x: Any, in_frac: Any, table: Any, out: Any) -> None:
    """Compute the softmax of x [F] into out [F], Q1.14, by one thread; x and out may be one array."""
    largest, total = int64(-32768), int64(0)
    for k in range(x.shape[0]):
        largest = max(largest, int64(x[k]))
    for k in range(x.shape[0]):
        total += exp_weight(largest - int64(x[k]), in_frac, table)
    for k in range(x.shape[0]):
        out[k] = softmax_divide(exp_weight(largest - int64(x[k]), in_frac, table), total)


@cuda.jit(device=True)
def row_sums(weight: Any, operand: Any, rows: Any, first: Any, last: Any, sums: Any) -> None:
    """Set sums[r] = requantize(weight[:, r] · operand + bias[r]) for rows first … last - 1, shared by the block's threads."""
    for r in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        acc = int64(0)
        for k in range(weight.shape[0]):
            acc += int64(weight[k, r]) * int64(operand[k])
        sums[r] = requantized(acc, rows, r)


@cuda.jit(device=True)
def project(
    weight: Any, rows: Any, params: Any, tables: Any, formats: Any, hidden: Any, operand: Any, sums: Any, h: Any
) -> None:
    """Compute h [P] from ``hidden`` [H], by all of the block's threads.

    operand [H] and sums [P or more] are scratch.
    """
    me, threads, P = cuda.threadIdx.x, cuda.blockDim.x, h.shape[0]
    for k in range(me, hidden.shape[0], threads):
        operand[k] = to_operand(int64(hidden[k]), formats[OPERAND_SHIFT], formats[OPERAND_LIMIT])
    cuda.syncthreads()
    row_sums(weight, operand, rows, 0, P, sums)
    for p in range(me, P, threads):  # each thread has the rows that it has just summed
        sums[p] = saturate16_shifted(int64(sums[p]), rows[PRE_SHIFT, p])
        if formats[KIND] == FUNCTION:
            sums[p] = evaluate(int64(sums[p]), params, tables, 0)
    cuda.syncthreads()
    if formats[KIND] == SOFTMAX:
        if me == 0:
            softmax_row(sums[:P], formats[IN_FRAC], tables[0], sums[:P])
        cuda.syncthreads()
    for p in range(me, P, threads):
        h[p] = rnn_hidden_state(int64(sums[p]), formats[OUT_SHIFT])


@kernel(512)
def run_general(
    cell: Any, forget: Any, reverse: Any, weight: Any, rows: Any, params: Any, tables: Any, peephole: Any, formats: Any,
    v_weight: Any, v_rows: Any, v_params: Any, v_tables: Any, v_formats: Any, xs: Any, lengths: Any, h: Any, c: Any,
    y: Any, column: Any, pre: Any, c_trace: Any, nothing: Any, hidden: Any, operand: Any, sums: Any, first: Any, begin: Any, end: Any,
) -> None:  # fmt: skip
    """Take steps begin … end - 1 of sequence first + blockIdx.x, for one direction; gridDim.x is at most the scratch's first axis.

    weight [P, R] int8; the arguments v_… are a projection, of no columns where there is none; xs [steps, N, R] int32, requantized, from
    step ``begin`` on; h [N, P] int16, c [N, H or 0] int32 are states, which are replaced; y [N, T, …] int16 is written from feature
    ``column`` on; pre [N, T or 0, R], c_trace [N, T or 0, H]; nothing [0] int16; scratch for M sequences: hidden [M, H] int16, operand
    [M, 2, max(P, H)] int32, sums [M, max(R, P)] int32.
    """
    place, me, threads = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    n = first + place
    R, P, H = weight.shape[1], h.shape[1], hidden.shape[1]
    projected = v_formats[KIND] != NONE
    now, other, own, inner = operand[place, 0], operand[place, 1], sums[place], hidden[place]
    h_shift, h_limit = formats[H_SHIFT], formats[H_LIMIT]
    length = lengths[n]
    traced = pre.shape[1] > 0
    for k in range(me, P, threads):
        now[k] = to_operand(int64(h[n, k]), h_shift, h_limit)
    cuda.syncthreads()
    for step in range(begin, min(end, length)):
        t = length - 1 - step if reverse else step
        x = xs[step - begin, n]
        places = pre[n, t] if traced else nothing
        row_sums(weight, now, rows, 0, 2 * H if cell == GRU_RESET_BEFORE else R, own)
        cuda.syncthreads()
        if cell == GRU_RESET_BEFORE:
            for u in range(me, H, threads):
                z, other[u] = gru_before_reset(
                    int64(x[u]), int64(x[H + u]), int64(own[u]), int64(own[H + u]), int64(h[n, u]), u, H,
                    rows, params, tables, formats, places,
                )  # fmt: skip
                own[H + u] = z
            cuda.syncthreads()
            row_sums(weight, other, rows, 2 * H, 3 * H, own)
            cuda.syncthreads()
        for u in range(me, H, threads):
            if cell == LSTM:
                x3, h3 = int64(0), int64(0)
                if R == 4 * H:
                    x3, h3 = int64(x[3 * H + u]), int64(own[3 * H + u])
                c[n, u], inner[u] = lstm_unit(
                    forget, int64(x[u]), int64(x[H + u]), int64(x[2 * H + u]), x3,
                    int64(own[u]), int64(own[H + u]), int64(own[2 * H + u]), h3, int64(c[n, u]), u, H,
                    rows, params, tables, peephole, formats, places,
                )  # fmt: skip
            elif cell == GRU_RESET_AFTER:
                inner[u] = gru_after_unit(
                    int64(x[u]), int64(x[H + u]), int64(x[2 * H + u]), int64(own[u]), int64(own[H + u]), int64(own[2 * H + u]),
                    int64(h[n, u]), u, H, rows, params, tables, formats, places,
                )  # fmt: skip
            elif cell == GRU_RESET_BEFORE:
                inner[u] = gru_before_unit(
                    int64(x[2 * H + u]), int64(own[2 * H + u]), int64(own[H + u]), int64(h[n, u]), u, H,
                    rows, params, tables, formats, places,
                )  # fmt: skip
            else:
                inner[u] = rnn_unit(int64(x[u]), int64(own[u]), u, rows, params, tables, formats, places)
            if traced and cell == LSTM:
                c_trace[n, t, u] = c[n, u]
        cuda.syncthreads()
        if projected:
            project(v_weight, v_rows, v_params, v_tables, v_formats, inner, other, own, h[n])
        for k in range(me, P, threads):
            value = int64(h[n, k]) if projected else int64(inner[k])
            h[n, k] = value
            y[n, t, column + k] = value
            now[k] = to_operand(value, h_shift, h_limit)
        cuda.syncthreads()
