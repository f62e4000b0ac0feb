"""A single step of few streams in parts, of which several threads make each at once: a template as those of `qrnn.backends.cpu.fused`."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.templates import (
    TWO_PHASES,
    UNITS,
    copy_units,
    encode_vectors,
    fetch_row,
    input_product,
    into_rows,
    out_of_rows,
    second_phase,
    step_blocks,
)

ENCODE, FIRST_PHASE, SECOND_PHASE = 0, 1, 2
"""The parts of a step: the operands, for all workers; the first phase and the inputs' part; the second, where a step has two."""


def step_part(
    coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, scratch: Any, own_sums: Any, part: int, team: Any, place: Any, rows: Any,
    x: Any, h: Any, c: Any, y: Any,
) -> None:  # fmt: skip
    """Compute a part of one step of few streams, as worker team[0] of team[1], which has blocks of hidden units of its own.

    A worker begins a part when all have made the one before. own_sums are the sums of each worker, as those of the scratch. The other arguments
    are as for `fused.step_streams`.
    """
    me, threads = team
    operands, reset, z, h_now, c_now, xs, x_operands, tails, _, c_places, _, _ = scratch
    hh_weights, hh_params, groups, byte_parts = hh
    H, I, last = h.shape[1], x.shape[1], h_now.shape[1] // UNITS
    first_block, last_block = me * last // threads, (me + 1) * last // threads
    u0, u1 = first_block * UNITS, min(last_block * UNITS, H)
    c0, whole = min(u0, c.shape[1]), min(last_block, c.shape[1] // UNITS)
    c1, behind = min(u1, c.shape[1]), max(whole, first_block) * UNITS
    row, x_row, xs_row = operands.shape[2], x_operands.shape[1], 4 * xs.shape[1]
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    at_h, xs_block = address(h_now) + 2 * u0, xs_row // last
    for first in range(place[FIRST], place[LAST]):
        k, n = first - place[FIRST], rows[first]
        h_at, c_at = address(h) + n * h.strides[0], address(c) + n * c.strides[0]
        now, following, at_reset = address(operands[0, k]), address(operands[1, k]), address(reset[k])
        at_xs, own_h, own_c = address(xs[k]), at_h + k * h_now.strides[0], address(c_now[k])
        if part == ENCODE:
            h_format = (formats[0], formats[1], groups, byte_parts)
            encode_vectors((h_at, 0, H, address(tails), now, row, *h_format), 1)
            x_format = (formats[2], formats[3], ih[2], ih[3])
            encode_vectors(
                (address(x) + first * 2 * I, 0, I, address(tails), address(x_operands[k]), x_row, *x_format), 1
            )
            continue
        states = (at_reset, address(z[k]), at_xs, xs_block, address(h_now[k]), own_c, groups, byte_parts)
        if part == FIRST_PHASE:
            fetch_row(address(x_operands[k]), x_row, threads)
            fetch_row(now, row, threads)
            copy_units((own_h, h_at + 2 * u0, max(0, u1 - u0)))
            into_rows((c_at + 4 * c0, own_c + 4 * c0), max(0, whole - first_block))
            for u in range(behind, c1):
                c_now[k, c_places[u]] = c[n, u]
            product = (
                address(ih[0]), address(ih[1]), address(x_operands[k]), x_row, at_xs, xs_row, xs_block, ih[2], ih[3], address(own_sums[me]),
            )  # fmt: skip
            input_product(product, 1, first_block, last_block)
            step_blocks((*fixed, now, following, *states), first_block, last_block, 0)
        if TWO_PHASES:
            if part == FIRST_PHASE:
                continue
            fetch_row(at_reset, row, threads)
            second_phase((*fixed, at_reset, following, *states), first_block, last_block, 0)
        copy_units((address(y) + first * y.strides[0] + 2 * u0, own_h, max(0, u1 - u0)))
        copy_units((h_at + 2 * u0, own_h, max(0, u1 - u0)))
        out_of_rows((own_c + 4 * c0, c_at + 4 * c0), max(0, whole - first_block))
        for u in range(behind, c1):
            c[n, u] = c_now[k, c_places[u]]
