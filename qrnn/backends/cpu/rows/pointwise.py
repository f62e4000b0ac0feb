"""Pointwise layers: a kernel for each kind of gate function, without the steps that equal formats leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.functions import LANES, PLAIN, TABLE_AT, TILT_AT, Function
from qrnn.backends.cpu.isa import const, copy_int16, load, store
from qrnn.backends.cpu.jit import emitted, jit, renamed
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.parts import I32, I64, INT16_LANES, for_range, vector_type
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.table import Lookup
from qrnn.backends.cpu.vector import INT16, Vec, lift

MOST_SHIFT = 15
"""The most bits by which formats of int16 differ."""

Bounds = tuple[int, int]


def evaluate_blocks(values: Any, count: int) -> None:
    """Run what `emit_pointwise` emits."""
    raise NotImplementedError


def copy_units(values: Any) -> None:
    """Run what `isa.copy_int16` emits."""
    raise NotImplementedError


BLOCK = LANES
"""The values of a block: `LANES`, or `INT16_LANES` in 16-bit lanes."""


def pointwise(place: Any, record: Any, table: Any, in_shift: int, out_shift: int, x: Any, out: Any, tail: Any) -> None:
    """Compute rows place[`FIRST`] … place[`LAST`] - 1 of out [M, F] from those of x [M, F], int16; tail [`BLOCK`] int16 is scratch.

    record and table are what `functions.pack_function` makes of the function.
    """
    first, last = place[FIRST] * x.shape[1], place[LAST] * x.shape[1]
    whole = (last - first) // BLOCK
    function, formats = (address(record), address(table)), (in_shift, out_shift)
    at, to = address(x) + 2 * first, address(out) + 2 * first
    evaluate_blocks((*function, at, to, *formats), whole)
    rest = last - first - whole * BLOCK
    if rest > 0:
        copy_units((address(tail), at + 2 * BLOCK * whole, rest))
        evaluate_blocks((*function, address(tail), address(tail), *formats), 1)
        copy_units((to + 2 * BLOCK * whole, address(tail), rest))


@dataclass(frozen=True)
class Formats:
    """What `pointwise` is compiled for."""

    kind: int
    """The variant of the function (`functions.variant_of`)."""
    align: int
    """Whether in_shift widens x (1), rounds it (-1) or is 0."""
    rounds: bool
    """Whether out_shift is not 0."""
    lookup: Lookup
    """How the table is read; it also says whether lanes have 16 bits."""
    bounds: Bounds
    """The least and the largest value of the function."""

    @property
    def lanes(self) -> int:
        """Return the values of a block."""
        return INT16_LANES if self.lookup.has_int16_lanes else LANES


def emit_pointwise(builder: Any, formats: Formats, values: Sequence[Any], blocks: Any) -> None:
    """Emit ``blocks`` times as many values as there are lanes, out = round(gate(align16(x)) / 2^out_shift), int16.

    ``values`` are the addresses of the function's record and table, of x and of out, and the shifts.
    """
    record, table, x, out, in_shift, out_shift = values
    b, lanes, kind = builder, formats.lanes, vector_type(formats.lanes, 16)
    columns = [load(b, b.add(record, const(8 * k)), I64, 8) for k in range(TABLE_AT)]
    tilt = load(b, b.add(record, const(8 * TILT_AT)), I64, 8)
    function = Function(b, columns, (table, tilt), lanes, formats.lookup, formats.kind)
    by, down = (Vec.scalar(b, b.trunc(shift, I32), lanes, 1, MOST_SHIFT) for shift in (in_shift, out_shift))
    function.hold(True)
    with for_range(b, const(0), blocks) as k:
        offset = b.mul(k, const(2 * lanes))
        given = load(b, b.add(x, offset), kind)
        found = Vec(b, given if lanes == INT16_LANES else b.sext(given, vector_type(lanes, 32)), *INT16)
        if formats.align:
            found = lift(fixedpoint.align16)(found, *((0, by) if formats.align > 0 else (by, 0)))
        found = function(found, formats.bounds)
        if formats.rounds:
            found = lift(fixedpoint.shift_right_round)(found, down)
        (value,) = found.like(16 if lanes == INT16_LANES else 32)
        store(b, value if lanes == INT16_LANES else b.trunc(value, kind), b.add(out, offset))


@cache
def compiled(*formats: Any) -> Any:
    """Return `pointwise` compiled for the fields of `Formats`."""
    given = Formats(*formats)
    space = globals() | {
        "evaluate_blocks": emitted(partial(_emit, given), 2),
        "copy_units": emitted(lambda b, values: copy_int16(b, *values), 1),
        "BLOCK": given.lanes,
    }
    aligned = {0: "", 1: "w", -1: "n"}[given.align]
    kind = "p" if given.kind == PLAIN else str(given.kind)
    low, high = (str(end).replace("-", "m") for end in given.bounds)
    mark = f"{kind}{given.lookup.value}{aligned}{'r' * given.rounds}_{low}_{high}"
    return jit(renamed(pointwise, f"pointwise_{mark}", space))


def _emit(formats: Formats, builder: Any, values: Any, blocks: Any) -> None:
    emit_pointwise(builder, formats, values, blocks)
