"""Compiled loops of `qrnn.qat.retrace`, for sequences ``first`` … ``last`` - 1; their steps are those of docs/arithmetic.md, section 4.

``of_x`` and ``of_h`` [N, T, G·H] hold the exact sums of W·x and R·h, whole numbers; ``ih_…`` and ``hh_…`` are the rows' bias, multiplier
and left shift. Importing this module registers the contract's functions with Numba (`qrnn.backends.cpu.jit`).
"""

from __future__ import annotations

from typing import Any

import numba

from qrnn.arithmetic.cells import (
    candidate_after_reset,
    coupled_forget,
    lstm_cell_state,
    peephole,
    preactivation,
    reset_operand,
)
from qrnn.arithmetic.fixedpoint import requantize, saturate, shift_right_round
from qrnn.arithmetic.gates import evaluate
from qrnn.backends.cpu import jit as jit

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True}


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def narrowed(first: int, last: int, q: Any, shift: int, limit: int, unit: float, out: Any, live: Any) -> None:
    """Set ``out`` [M, F] to the operands of ``q`` [M, F] int16 times ``unit``, and ``live`` to 0 where one is clamped, else 1."""
    for m in range(first, last):
        for k in range(q.shape[1]):
            whole = shift_right_round(int(q[m, k]), shift)
            out[m, k] = saturate(whole, -limit, limit) * unit
            live[m, k] = -limit <= whole <= limit


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def lstm_again(
    first: int, last: int, own_forget: bool, coupled: bool, reverse: bool, lengths: Any, of_x: Any, of_h: Any,
    ih_bias: Any, ih_multiplier: Any, ih_shift: Any, hh_bias: Any, hh_multiplier: Any, hh_shift: Any, pre_shift: Any, values: Any,
    input_frac: int, forget_frac: int, product: int, has_peephole: bool, weight: Any, shift: Any, begun: Any, arguments: Any, cells: Any,
) -> None:  # fmt: skip
    """Compute arguments and c of an LSTM whose rows are the blocks i, f (with ``own_forget``), g, o.

    ``values`` has the integers of each gate's function at every int16.
    """
    H = cells.shape[2]
    output = 2 + int(own_forget)
    for n in range(first, last):
        for k in range(lengths[n]):
            t = lengths[n] - 1 - k if reverse else k
            for u in range(H):
                if k == 0:
                    c = int(begun[n, u])
                else:
                    c = int(cells[n, t + 1 if reverse else t - 1, u])
                for b in range(output):
                    r = b * H + u
                    x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                    h_part = requantize(int(of_h[n, t, r]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                    if has_peephole and b < output - 1:
                        x_part = x_part + peephole(c, weight[r], shift[r])
                    arguments[n, t, r] = preactivation(x_part, h_part, pre_shift[r])
                i = int(values[0][arguments[n, t, u] + 32768])
                f = 1 << forget_frac
                if coupled:
                    f = coupled_forget(i, input_frac)
                if own_forget:
                    f = int(values[1][arguments[n, t, H + u] + 32768])
                g = int(values[output - 1][arguments[n, t, (output - 1) * H + u] + 32768])
                c = lstm_cell_state(i, f, g, c, forget_frac, product)
                cells[n, t, u] = c
                r = output * H + u
                x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                h_part = requantize(int(of_h[n, t, r]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                if has_peephole:
                    x_part = x_part + peephole(c, weight[r], shift[r])
                arguments[n, t, r] = preactivation(x_part, h_part, pre_shift[r])


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def gru_again(
    first: int, last: int, after: bool, lengths: Any, of_x: Any, of_h: Any,
    ih_bias: Any, ih_multiplier: Any, ih_shift: Any, hh_bias: Any, hh_multiplier: Any, hh_shift: Any, pre_shift: Any, params: Any, tables: Any,
    reset_frac: int, h_shift: int, h_limit: int, before: Any, resets: Any, arguments: Any,
) -> None:  # fmt: skip
    """Compute the arguments of r and z of a GRU, and ``after`` a reset that of n; else ``resets`` gets r ⊙ h as R reads it."""
    H = before.shape[2]
    for n in range(first, last):
        for t in range(lengths[n]):
            for r in range(2 * H):
                x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                h_part = requantize(int(of_h[n, t, r]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                arguments[n, t, r] = preactivation(x_part, h_part, pre_shift[r])
            for u in range(H):
                reset, r = evaluate(arguments[n, t, u], params, tables, 0), 2 * H + u
                if after:
                    x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                    h_part = requantize(int(of_h[n, t, r]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                    arguments[n, t, r] = candidate_after_reset(x_part, h_part, reset, reset_frac, pre_shift[r])
                else:
                    resets[n, t, u] = reset_operand(reset, int(before[n, t, u]), reset_frac, h_shift, h_limit)


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def gru_candidate_again(
    first: int, last: int, lengths: Any, of_x: Any, of_reset: Any,
    ih_bias: Any, ih_multiplier: Any, ih_shift: Any, hh_bias: Any, hh_multiplier: Any, hh_shift: Any, pre_shift: Any, params: Any, tables: Any,
    arguments: Any,
) -> None:  # fmt: skip
    """Compute the argument of n of a GRU whose reset is before the matrix, of the sums R_n·(r ⊙ h)."""
    H = of_reset.shape[2]
    for n in range(first, last):
        for t in range(lengths[n]):
            for u in range(H):
                r = 2 * H + u
                x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                h_part = requantize(int(of_reset[n, t, u]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                arguments[n, t, r] = preactivation(x_part, h_part, pre_shift[r])


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def rnn_again(
    first: int, last: int, lengths: Any, of_x: Any, of_h: Any,
    ih_bias: Any, ih_multiplier: Any, ih_shift: Any, hh_bias: Any, hh_multiplier: Any, hh_shift: Any, pre_shift: Any, params: Any, tables: Any,
    arguments: Any,
) -> None:  # fmt: skip
    """Compute the arguments of an RNN's function."""
    for n in range(first, last):
        for t in range(lengths[n]):
            for r in range(arguments.shape[2]):
                x_part = requantize(int(of_x[n, t, r]) + ih_bias[r], ih_multiplier[r], ih_shift[r])
                h_part = requantize(int(of_h[n, t, r]) + hh_bias[r], hh_multiplier[r], hh_shift[r])
                arguments[n, t, r] = preactivation(x_part, h_part, pre_shift[r])
