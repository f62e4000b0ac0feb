"""Gate functions as the fused steps read them, and their evaluation for a block's lanes: `gates.evaluate` of the contract, lifted.

A packed function is a record of `GATE_FIELDS` int64: the columns `gates.KIND`, `COLUMNS` of the contract's ``params``, the address of its
table, and the table's tilt (`qrnn.backends.cpu.table`). The contract's `evaluate` branches on the kind; here it is run once for each kind that
the record may hold, with that kind for a constant and the other columns read at run time, and compiled code branches between the results.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.arithmetic import gates as g
from qrnn.backends.cpu import table as tables
from qrnn.backends.cpu.isa import const, load, store
from qrnn.backends.cpu.parts import I32, I64, for_range, vector_type
from qrnn.backends.cpu.table import Lookup, Table
from qrnn.backends.cpu.vector import INT16, INT32, Vec, lift
from qrnn.model.parts import GateFunction

Bounds = tuple[int, int]

FRAC: Bounds = (0, 15)
SLOPES: Bounds = (-32767, 32767)
VALUES: Bounds | None = None
"""Marks columns that hold values of the function. Their bounds are those that the function's values have in its role."""

COLUMNS: dict[int, dict[int, Bounds | None]] = {
    g.ODD: {g.OFFSET: (-(1 << 14), 1 << 14), g.SEGMENT_BITS: FRAC, g.CUT: (0, 32767)},
    g.RAMP: {g.SLOPE: SLOPES, g.INTERCEPT: INT32, g.SHIFT: FRAC, g.LOW: VALUES, g.HIGH: VALUES},
    g.TABLE: {g.LOWEST: INT16, g.SEGMENT_BITS: FRAC, g.HIGHEST: INT16},
    g.THRESHOLD: {
        g.THRESHOLD_AT: INT16,
        g.THRESHOLD_SLOPE: SLOPES,
        g.THRESHOLD_INTERCEPT: INT32,
        g.THRESHOLD_HIGH: VALUES,
        g.THRESHOLD_BELOW: VALUES,
    },
}
"""The columns that each kind of the contract uses, with the bounds that `GateFunction` enforces."""

PLAIN = -1
"""What `variant_of` calls an odd table as most are: neither turned round nor clipped, with differences that need no tilt."""

PLAIN_COLUMNS: dict[int, Bounds] = {g.OFFSET: (0, 1 << 14), g.CUT: (0, 0)}
"""The columns of `PLAIN` that hold less."""

LINES: dict[int, Bounds] = {
    g.RAMP: (-(1 << 31) + (1 << 15), (1 << 31) - 1 - (1 << 15)),
    g.THRESHOLD: (-(1 << 31) + 1, (1 << 31) - 1),
}
"""What `GateFunction` proves of x · slope + intercept."""

FIRST_COLUMN = g.OUT_FRAC + 1
GATE_FIELDS = 8
TABLE_AT, TILT_AT = 6, 7


class _Row:
    """A row of the contract's ``params``, of one kind: its other columns are run-time numbers, the same in every lane."""

    def __init__(self, builder: Any, lanes: int, variant: int, fields: list[Any], values: Bounds) -> None:
        self._builder, self._lanes, self._fields, self._values = builder, lanes, fields, values
        self._plain, self._kind = variant == PLAIN, g.ODD if variant == PLAIN else variant
        self._low: Vec | None = None

    def __getitem__(self, column: int) -> Any:
        if column == g.KIND:
            return self._kind
        bounds = (PLAIN_COLUMNS if self._plain else {}).get(column, COLUMNS[self._kind][column]) or self._values
        if bounds[0] == bounds[1]:
            return bounds[0]
        found = Vec.scalar(self._builder, self._fields[column - FIRST_COLUMN], self._lanes, *bounds)
        if bounds == INT32:
            found.sums = LINES[self._kind]
        if self._kind == g.RAMP and column == g.LOW:
            self._low = found
        if self._kind == g.RAMP and column == g.HIGH:
            found.least = self._low
        return found


class Function:
    """A gate function whose columns were read from memory, before any loop over lanes.

    ``variant`` is that of `variant_of`. Where it is None, the kind is read as well.
    """

    def __init__(
        self,
        builder: Any,
        columns: list[Any],
        table: tuple[Any, Any],
        lanes: int,
        lookup: Lookup,
        variant: int | None,
    ) -> None:
        """Make the function from ``columns`` (kind, those from `FIRST_COLUMN` on) and ``table`` (address, tilt), all int64."""
        self._builder, self._lanes, self._lookup, self._variant = builder, lanes, lookup, variant
        self._kind, *self._fields = (builder.trunc(word, I32) for word in columns)
        self._table, self._tilt = table[0], builder.trunc(table[1], I32)
        self._held: list[Any] | None = None
        self._window = tables.window(builder, table[0]) if lookup is Lookup.WINDOW else None

    @classmethod
    def packed(cls, builder: Any, address: Any, lanes: int, lookup: Lookup, variant: int | None) -> Function:
        """Make the function from a record."""
        *columns, table, tilt = (load(builder, builder.add(address, const(8 * k)), I64, 8) for k in range(GATE_FIELDS))
        return cls(builder, columns, (table, tilt), lanes, lookup, variant)

    @classmethod
    def of_params(cls, builder: Any, params: Any, table: Any, lanes: int, kind: int | None = None) -> Function:
        """Make the function from the addresses of a row of the contract's ``params`` and of its ``tables``.

        ``kind`` is that of the function, where it is known.
        """
        places = (g.KIND, *range(FIRST_COLUMN, g.PARAMS))
        columns = [load(builder, builder.add(params, const(8 * column)), I64, 8) for column in places]
        return cls(builder, columns, (table, const(0)), lanes, Lookup.WIDE, kind)

    def hold(self, held: bool) -> None:
        """Load a table that is looked up in registers here, for what is emitted from here on; or let each call load it again."""
        table = held and self._lookup.in_registers and self._variant in (PLAIN, g.ODD, g.TABLE)
        self._held = tables.registers(self._builder, self._table) if table else None

    def __call__(self, x: Vec, bounds: Bounds) -> Vec:
        """Return the function at x, int16, whose values lie within ``bounds``."""
        if self._variant is not None:
            return self._of(self._variant, x, bounds)
        b, (first, *others) = self._builder, COLUMNS
        done, default = (b.append_basic_block(name) for name in ("evaluated", "kind"))
        choice, found = b.switch(self._kind, default), []
        for kind in (first, *others):
            block = default if kind == first else b.append_basic_block("kind")
            if kind != first:
                choice.add_case(ir.Constant(I32, kind), block)
            b.position_at_end(block)
            found.append((self._of(kind, x, bounds).parts, b.basic_block))
            b.branch(done)
        b.position_at_end(done)
        values = tuple(b.phi(part.type) for part in found[0][0])
        for parts, block in found:
            for phi, part in zip(values, parts, strict=True):
                phi.add_incoming(part, block)
        return Vec(b, values, *bounds)

    def _of(self, variant: int, x: Vec, bounds: Bounds) -> Vec:
        tilted = self._lookup.has_int16_lanes and variant != PLAIN
        tilt = Vec.scalar(self._builder, self._tilt, self._lanes, -1, 1) if tilted else None
        table = Table(self._builder, self._table, self._lookup, bounds, tilt, self._held, self._window)
        row = _Row(self._builder, self._lanes, variant, self._fields, bounds)
        found: Vec = lift(g.evaluate)(x, [row], [table], 0)
        return found.proved(*bounds)


def variant_of(function: GateFunction) -> int:
    """Return what code may be compiled for: the function's kind, or `PLAIN`."""
    kind = int(function.params[g.KIND])
    usual = kind == g.ODD and int(function.params[g.OFFSET]) >= 0 and int(function.params[g.CUT]) == 0
    return PLAIN if usual and tables.tilt_of(_segments(function)[1]) == 0 else kind


def lookup_of(functions: tuple[GateFunction, ...], int16_lanes: bool) -> Lookup:
    """Return how the tables of a direction are looked up together. ``int16_lanes`` says whether 16-bit lanes may be had."""
    segments = [_segments(function) for function in functions]
    if int16_lanes and all(tables.tilt_of(differences) is not None for _, differences in segments):
        if all(len(entries) <= tables.SMALL_TABLE for entries, _ in segments):
            return Lookup.REGISTERS
        windows = all(len(_window(function)) <= tables.SMALL_TABLE for function in functions)
        return Lookup.WINDOW if windows else Lookup.GATHERED
    return Lookup.PAIRS if all(tables.fits_pairs(*both) for both in segments) else Lookup.WIDE


def _segments(function: GateFunction) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return entries and differences to the next, int64, of every segment of a table. A function without a table has none.

    Segments that no argument reaches are as the nearest that one does. In segments of one argument each, differences are never seen.
    """
    return _segments_of(function.params.tobytes(), function.table.tobytes())


def _window(function: GateFunction) -> range:
    """Return the window of a function's segments; of segments that no argument reaches there is none in it."""
    entries, differences = _segments(function)
    reached = _reached(function.params) if len(entries) else range(1)
    own = slice(reached.start, reached.stop)
    found = tables.window_of(entries[own], differences[own])
    return range(found.start + reached.start, found.stop + reached.start)


def _reached(params: npt.NDArray[Any]) -> range:
    """Return the segments of a table that arguments of the function reach."""
    if int(params[g.KIND]) == g.ODD:
        first, last = 0, 32767 - int(params[g.CUT])
    else:
        first, last = (int(params[column]) + 32768 for column in (g.LOWEST, g.HIGHEST))
    bits = int(params[g.SEGMENT_BITS])
    return range(first >> bits, (last >> bits) + 1)


@lru_cache(maxsize=64)  # Training packs a model anew with the same functions at each step.
def _segments_of(of_params: bytes, of_table: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    params, table = np.frombuffer(of_params, np.int64), np.frombuffer(of_table, np.int32).astype(np.int64)
    kind = int(params[g.KIND])
    if kind not in (g.ODD, g.TABLE):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    bits = int(params[g.SEGMENT_BITS])
    within = _reached(params)
    reached = np.clip(np.arange(len(table) - 1), within.start, within.stop - 1)
    differences = np.diff(table)[reached] if bits else np.zeros(len(reached), np.int64)
    return table[reached], differences


def pack_function(function: GateFunction, lookup: Lookup) -> tuple[list[int], npt.NDArray[np.int32]]:
    """Return the record of a function but for its table's address, and the table."""
    record = [int(function.params[g.KIND]), *(int(v) for v in function.params[FIRST_COLUMN:]), 0, 0]
    kind, (low, high) = record[0], function.bounds
    if kind == g.RAMP:  # Ends that no value reaches are drawn in to the values' bounds.
        for column in (g.LOW, g.HIGH):
            record[column - FIRST_COLUMN + 1] = min(high, max(low, record[column - FIRST_COLUMN + 1]))
    elif kind == g.THRESHOLD:
        column = g.THRESHOLD_HIGH - FIRST_COLUMN + 1
        record[column] = min(high, max(low, record[column]))
    if lookup is Lookup.WIDE:
        return record, function.table
    entries, differences = _segments(function)
    offset = int(function.params[g.OFFSET]) if kind == g.ODD else 0
    first = 0
    if lookup is Lookup.WINDOW:
        own = _window(function)
        first, entries, differences = own.start, entries[own.start : own.stop], differences[own.start : own.stop]
    packed, record[TILT_AT] = tables.pack(entries, differences, offset, lookup, first)
    return record, packed


LANES = 16
"""Arguments that `emit_rows` takes at once: in a register of AVX-512, in several of others."""


def emit_rows(builder: Any, bits: int, values: Any, blocks: Any) -> None:
    """Compute ``blocks`` times `LANES` values of a function, int32, on whatever processor, from int16 arguments held in ``bits``.

    ``values`` are the addresses of its row of the contract's ``params`` and of ``tables``, of the arguments, and of the results, which may
    be in the place of arguments of 32 bits.
    """
    params, table, x, out = values
    function = Function.of_params(builder, params, table, LANES)
    with for_range(builder, const(0), blocks) as k:
        read = load(builder, builder.add(x, builder.mul(k, const(LANES * bits // 8))), vector_type(LANES, bits))
        argument = Vec(builder, read if bits == 32 else builder.sext(read, vector_type(LANES, 32)), *INT16)
        (found,) = function(argument, (-(1 << 15), 1 << 15)).parts
        store(builder, found, builder.add(out, builder.mul(k, const(LANES * 4))))
