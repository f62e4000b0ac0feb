"""Pointwise layers: a kernel for each kind of gate function, without the steps that equal formats leave out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.functions import LANES, Function
from qrnn.backends.cpu.isa import const, copy_int16, load, store
from qrnn.backends.cpu.jit import emitted, jit, renamed
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.parts import I32, for_range, vector_type
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.vector import INT16, Vec, lift

MOST_SHIFT = 15
"""The most bits by which formats of int16 differ."""

VALUES = (-(1 << 15), 1 << 15)
"""The least and the largest value of any gate function."""


def evaluate_blocks(values: Any, count: int) -> None:
    """`emit_pointwise`."""
    raise NotImplementedError


def copy_units(values: Any) -> None:
    """`isa.copy_int16`."""
    raise NotImplementedError


def pointwise(place: Any, params: Any, tables: Any, in_shift: int, out_shift: int, x: Any, out: Any, tail: Any) -> None:
    """Compute rows place[`FIRST`] … place[`LAST`] - 1 of out [M, F] from those of x [M, F], int16; tail [`LANES`] int16 is scratch."""
    first, last = place[FIRST] * x.shape[1], place[LAST] * x.shape[1]
    whole = (last - first) // LANES
    function, formats = (address(params), address(tables)), (in_shift, out_shift)
    at, to = address(x) + 2 * first, address(out) + 2 * first
    evaluate_blocks((*function, at, to, *formats), whole)
    rest = last - first - whole * LANES
    if rest > 0:
        copy_units((address(tail), at + 2 * LANES * whole, rest))
        evaluate_blocks((*function, address(tail), address(tail), *formats), 1)
        copy_units((to + 2 * LANES * whole, address(tail), rest))


def emit_pointwise(builder: Any, kind: int, align: int, rounds: bool, values: Sequence[Any], blocks: Any) -> None:
    """``blocks`` times `LANES` values out = round(gate(align16(x)) / 2^out_shift), int16.

    ``values``: addresses of the function's row of ``params`` and of ``tables``, of x and of out, and the shifts. ``kind`` is that of the
    function; ``align`` says whether in_shift widens x (1), rounds it (-1) or is 0, and ``rounds`` whether out_shift is not 0.
    """
    params, table, x, out, in_shift, out_shift = values
    b, kinds = builder, (vector_type(LANES, 16), vector_type(LANES, 32))
    function = Function.of_params(b, params, table, LANES, kind)
    by, down = (Vec.scalar(b, b.trunc(shift, I32), LANES, 1, MOST_SHIFT) for shift in (in_shift, out_shift))
    with for_range(b, const(0), blocks) as k:
        offset = b.mul(k, const(2 * LANES))
        found = Vec(b, b.sext(load(b, b.add(x, offset), kinds[0]), kinds[1]), *INT16)
        if align:
            found = lift(fixedpoint.align16)(found, *((0, by) if align > 0 else (by, 0)))
        found = function(found, VALUES)
        if rounds:
            found = lift(fixedpoint.shift_right_round)(found, down)
        (value,) = found.like(32)
        store(b, b.trunc(value, kinds[0]), b.add(out, offset))


@cache
def compiled(kind: int, align: int, rounds: bool) -> Any:
    """`pointwise` for a kind of gate function, and for formats that differ or do not; see `emit_pointwise`."""
    space = globals() | {
        "evaluate_blocks": emitted(partial(_emit, kind, align, rounds), 2),
        "copy_units": emitted(lambda b, values: copy_int16(b, *values), 1),
    }
    mark = {0: "", 1: "_wider", -1: "_narrower"}[align] + "_rounded" * rounds
    return jit(renamed(pointwise, f"pointwise_{kind}{mark}", space))


def _emit(kind: int, align: int, rounds: bool, builder: Any, values: Any, blocks: Any) -> None:
    emit_pointwise(builder, kind, align, rounds, values, blocks)
