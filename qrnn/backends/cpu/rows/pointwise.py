"""Pointwise layers."""

from __future__ import annotations

from typing import Any

from qrnn.arithmetic.fixedpoint import align16, shift_right_round
from qrnn.backends.cpu.block_sizes import POINTWISE_BLOCK
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.kernels import activate_in_place
from qrnn.backends.cpu.memory import elements
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def run_pointwise(params: Any, tables: Any, in_frac: int, out_shift: int, x: Any, out: Any, values: Any) -> None:
    """out[i] = round(gate(align16(x[i])) / 2^out_shift), flat int16 arrays; values [`POINTWISE_BLOCK`] int32 is scratch."""
    for first in range(0, x.shape[0], POINTWISE_BLOCK):
        count = min(POINTWISE_BLOCK, x.shape[0] - first)
        for k in range(count):
            values[k] = align16(x[first + k], in_frac, params[0, 1])
        activate_in_place(params, tables, 0, values, 0, count)
        for k in range(count):
            out[first + k] = shift_right_round(values[k], out_shift)


@jit
def pointwise(
    place: Any, params: Any, tables: Any, in_frac: int, out_shift: int, x: Any, out: Any, values: Any
) -> None:
    """`run_pointwise`."""
    first, last = place[FIRST] * x.shape[1], place[LAST] * x.shape[1]
    run_pointwise(params, tables, in_frac, out_shift, elements(x, first, last), elements(out, first, last), values)
