"""One unit of one cell takes one step on the device here, by the functions of the contract (docs/arithmetic.md, section 4).

``x0`` … and ``h0`` … are the requantized sums of W·x and R·h of the unit's rows, in the order of the gate blocks; ``rows`` [4, R] int32 has
bias, multiplier, left_shift and pre_shift; ``params``, ``tables`` are the gate functions; ``formats`` is as in `qrnn.model.cell_formats`;
``peephole`` [2, R] int32 has weights and shifts, and no columns where there are none; ``pre`` [R] int16 takes the gates' arguments where it
has places.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.backends.cuda.contract import device
from qrnn.model.cell_codes import COUPLED, OWN_GATE
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
)

BIAS, MULTIPLIER, LEFT_SHIFT, PRE_SHIFT = 0, 1, 2, 3
"""The rows of ``rows``."""

Q15_ONE = fixedpoint.Q15_ONE
requantize = device(fixedpoint.requantize)
to_operand = device(fixedpoint.to_operand)
evaluate = device(gates.evaluate)
preactivation = device(cells.preactivation)
peephole_part = device(cells.peephole)
candidate_after_reset = device(cells.candidate_after_reset)
reset_operand = device(cells.reset_operand)
coupled_forget = device(cells.coupled_forget)
lstm_cell_state = device(cells.lstm_cell_state)
lstm_output_argument = device(cells.lstm_output_argument)
lstm_hidden_state = device(cells.lstm_hidden_state)
gru_hidden_state = device(cells.gru_hidden_state)
rnn_hidden_state = device(cells.rnn_hidden_state)


@cuda.jit(device=True)
def requantized(acc: Any, rows: Any, r: Any) -> Any:
    """Return requantize(acc + bias[r], multiplier[r], left_shift[r])."""
    return requantize(acc + rows[BIAS, r], rows[MULTIPLIER, r], rows[LEFT_SHIFT, r])


@cuda.jit(device=True)
def keep(pre: Any, r: Any, value: Any) -> None:
    """Write a gate's argument to ``pre`` where a trace is wanted."""
    if pre.shape[0] > 0:
        pre[r] = value


@cuda.jit(device=True)
def gate(x: Any, h: Any, role: Any, r: Any, rows: Any, params: Any, tables: Any, pre: Any) -> Any:
    """Return the output of gate function ``role`` at row r's pre-activation."""
    argument = preactivation(x, h, rows[PRE_SHIFT, r])
    keep(pre, r, argument)
    return evaluate(argument, params, tables, role)


@cuda.jit(device=True)
def with_peephole(x: Any, c: Any, peephole: Any, r: Any) -> Any:
    """Return the sum of x and the cell's part of row r."""
    if peephole.shape[1] > 0:
        return x + peephole_part(c, peephole[0, r], peephole[1, r])
    return x


@cuda.jit(device=True)
def lstm_unit(
    forget: Any, x0: Any, x1: Any, x2: Any, x3: Any, h0: Any, h1: Any, h2: Any, h3: Any, c: Any, u: Any, H: Any,
    rows: Any, params: Any, tables: Any, peephole: Any, formats: Any, pre: Any,
) -> Any:  # fmt: skip
    """Return (c', h') of an LSTM; h' is before a projection.

    The gate blocks are i, f, g, o, without f unless ``forget`` is OWN_GATE.
    """
    i = gate(with_peephole(x0, c, peephole, u), h0, 0, u, rows, params, tables, pre)
    f = Q15_ONE
    block = 1
    xg, hg, xo, ho = x1, h1, x2, h2
    if forget == OWN_GATE:
        f = gate(with_peephole(x1, c, peephole, H + u), h1, 1, H + u, rows, params, tables, pre)
        block = 2
        xg, hg, xo, ho = x2, h2, x3, h3
    elif forget == COUPLED:
        f = coupled_forget(i, formats[INPUT_FRAC])
    g = gate(xg, hg, block, block * H + u, rows, params, tables, pre)
    c_next = lstm_cell_state(i, f, g, c, formats[FORGET_FRAC], formats[PRODUCT])
    r = (block + 1) * H + u
    o = gate(with_peephole(xo, c_next, peephole, r), ho, block + 1, r, rows, params, tables, pre)
    activated = evaluate(lstm_output_argument(c_next, formats[ARGUMENT]), params, tables, block + 2)
    return c_next, lstm_hidden_state(o, activated, formats[HIDDEN])


@cuda.jit(device=True)
def gru_after_unit(
    x0: Any, x1: Any, x2: Any, h0: Any, h1: Any, h2: Any, h: Any, u: Any, H: Any,
    rows: Any, params: Any, tables: Any, formats: Any, pre: Any,
) -> Any:  # fmt: skip
    """Return h' of a GRU with linear_before_reset = 1, whose gate blocks are r, z, n."""
    r = gate(x0, h0, 0, u, rows, params, tables, pre)
    z = gate(x1, h1, 1, H + u, rows, params, tables, pre)
    row = 2 * H + u
    argument = candidate_after_reset(x2, h2, r, formats[RESET_FRAC], rows[PRE_SHIFT, row])
    keep(pre, row, argument)
    n = evaluate(argument, params, tables, 2)
    return gru_hidden_state(z, n, h, formats[UPDATE_FRAC], formats[CANDIDATE])


@cuda.jit(device=True)
def gru_before_reset(
    x0: Any, x1: Any, h0: Any, h1: Any, h: Any, u: Any, H: Any,
    rows: Any, params: Any, tables: Any, formats: Any, pre: Any,
) -> Any:  # fmt: skip
    """Return (z, the operand of r·h) of a GRU with linear_before_reset = 0."""
    r = gate(x0, h0, 0, u, rows, params, tables, pre)
    z = gate(x1, h1, 1, H + u, rows, params, tables, pre)
    return z, reset_operand(r, h, formats[RESET_FRAC], formats[H_SHIFT], formats[H_LIMIT])


@cuda.jit(device=True)
def gru_before_unit(
    x2: Any, h2: Any, z: Any, h: Any, u: Any, H: Any, rows: Any, params: Any, tables: Any, formats: Any, pre: Any
) -> Any:
    """Return h' of a GRU with linear_before_reset = 0; h2 is the sum of R_n with the operands of r·h of all units."""
    n = gate(x2, h2, 2, 2 * H + u, rows, params, tables, pre)
    return gru_hidden_state(z, n, h, formats[UPDATE_FRAC], formats[CANDIDATE])


@cuda.jit(device=True)
def rnn_unit(x0: Any, h0: Any, u: Any, rows: Any, params: Any, tables: Any, formats: Any, pre: Any) -> Any:
    """Return h' of an RNN, before a projection."""
    return rnn_hidden_state(gate(x0, h0, 0, u, rows, params, tables, pre), formats[HIDDEN])
