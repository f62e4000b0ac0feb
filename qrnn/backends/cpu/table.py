"""Tables of gate functions, looked up by many lanes at once: by gathered loads, or in registers by the permutations of AVX-512."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu import parts as p
from qrnn.backends.cpu.isa import const, load
from qrnn.backends.cpu.parts import I32, INT16_LANES, Parts, call, constant, splat, vector_type
from qrnn.backends.cpu.vector import Vec

SMALL_TABLE = 128
"""Segments of a table that is looked up in registers, where the instruction set can."""

TILT = 1 << 15
"""A table's differences less this, or plus this, may fit 16 bits where the differences do not."""


class Lookup(Enum):
    """How tables lie in memory and are looked up; the value is for the names of compiled functions."""

    REGISTERS = "r"
    """In 16-bit lanes: `SMALL_TABLE` segments at most, permuted in registers."""
    WINDOW = "v"
    """In 16-bit lanes: `SMALL_TABLE` segments at most of a longer table, permuted in registers; the lines on both sides are computed."""
    GATHERED = "w"
    """In 16-bit lanes: one gathered load a lane, of an entry and a difference of 16 bits."""
    PAIRS = "p"
    """The same in 32-bit lanes."""
    WIDE = "x"
    """In 32-bit lanes: two gathered loads, of an entry and of the next, from the contract's own table, whatever it holds."""

    @property
    def has_int16_lanes(self) -> bool:
        """Whether lanes have 16 bits."""
        return self in (Lookup.REGISTERS, Lookup.WINDOW, Lookup.GATHERED)

    @property
    def in_registers(self) -> bool:
        """Whether tables are permuted in registers, which `registers` loads."""
        return self in (Lookup.REGISTERS, Lookup.WINDOW)


def tilt_of(differences: npt.NDArray[Any]) -> int | None:
    """Return how many times `TILT`, 0, 1 or -1, has to be taken off the differences to leave what 16 bits hold.

    It is None where no number does.
    """
    for tilt in (0, 1, -1):
        rest = differences - tilt * TILT
        if (rest >= -(1 << 15)).all() and (rest < 1 << 15).all():
            return tilt
    return None


def fits_pairs(entries: npt.NDArray[Any], differences: npt.NDArray[Any]) -> bool:
    """Return whether entries and differences are int16, the differences within ±32767."""
    return bool((entries >= -(1 << 15)).all() and (entries < 1 << 15).all() and (np.abs(differences) < 1 << 15).all())


def window_of(entries: npt.NDArray[Any], differences: npt.NDArray[Any]) -> range:
    """Return the least window of segments whose first one's line goes through all entries below, and whose last one's through all above."""
    if not len(entries):
        return range(1)
    steps = np.diff(entries)
    bent = np.flatnonzero((steps != differences[0]) | (differences[1:] != differences[0]))
    first = int(bent[0]) if len(bent) else len(entries) - 1
    bent = np.flatnonzero((steps != differences[-1]) | (differences[:-1] != differences[-1]))
    last = int(bent[-1]) + 1 if len(bent) else 0
    return range(first, max(first, last) + 1)


def pack(
    entries: npt.NDArray[Any], differences: npt.NDArray[Any], offset: int, lookup: Lookup, first: int = 0
) -> tuple[npt.NDArray[np.int32], int]:
    """Return a table as `Table` reads it but for `Lookup.WIDE`, and its tilt; entries and differences int64 of as many segments.

    For 16-bit lanes (`Table.negative`) the table has -(offset + entry), with the difference added to odd entries, and the differences less
    tilt · `TILT`. For `Lookup.WINDOW` these are the segments of its window, ``first`` the number of its first one: entries have their number
    times the difference taken off instead, and behind them come ``first`` and the number of segments less 1.
    """
    if lookup is Lookup.PAIRS:
        return ((entries & 0xFFFF) | (differences << 16)).astype(np.int32), 0
    tilt = tilt_of(differences)
    if tilt is None:
        raise AssertionError("a table's differences do not fit 16-bit lanes")
    numbers = np.arange(len(entries))
    added = -(first + numbers) if lookup is Lookup.WINDOW else numbers % 2
    low = -(offset + entries + added * differences) & 0xFFFF
    high = (differences - tilt * TILT) & 0xFFFF
    if lookup is Lookup.GATHERED:
        return (low | (high << 16)).astype(np.uint32).view(np.int32), tilt
    found = np.zeros((2, SMALL_TABLE), np.uint16)
    found[:, : len(entries)] = low, high
    words = found.reshape(-1).view(np.int32)
    if lookup is Lookup.WINDOW:
        words = np.append(words, np.array([first, max(0, len(entries) - 1)], np.int32))
    return words, tilt


def registers(builder: Any, address: Any) -> list[Any]:
    """Load a table of `Lookup.REGISTERS`: entries in four registers, differences in four others."""
    kind = vector_type(INT16_LANES, 16)
    return [load(builder, builder.add(address, const(64 * k)), kind) for k in range(2 * SMALL_TABLE // INT16_LANES)]


def window(builder: Any, address: Any) -> tuple[Any, Any]:
    """Load the first segment of a table of `Lookup.WINDOW` and the number of its segments less 1, in every lane."""
    at = (builder.add(address, const(4 * SMALL_TABLE + 4 * k)) for k in (0, 1))
    first, most = (builder.trunc(load(builder, place, I32, 4), ir.IntType(16)) for place in at)
    return splat(builder, first, INT16_LANES), splat(builder, most, INT16_LANES)


class Table:
    """A gate's table for `gates.piecewise_linear`: an entry and the difference to the next are found by one lookup.

    ``outputs`` are the bounds of the gate function's values, which 16-bit lanes are read by. ``tilt`` is that of these lanes, where it is not
    known to be 0.
    """

    def __init__(
        self,
        builder: Any,
        address: Any,
        lookup: Lookup,
        outputs: tuple[int, int],
        tilt: Vec | None = None,
        held: Sequence[Any] | None = None,
        window: tuple[Any, Any] | None = None,
    ) -> None:
        """Make the table at ``address``.

        ``held`` are the `registers` of the table, where they were loaded before. ``window`` is what `window` loads.
        """
        self._held, self._window = held, window
        self.builder, self.address, self.lookup, self.outputs, self._tilt = builder, address, lookup, outputs, tilt
        self.bounds = (-32768, 32768 if lookup is Lookup.WIDE else 32767)
        """The bounds of a table's entries in 32-bit lanes."""
        self._last: tuple[Vec, Vec, Vec] | None = None

    def __getitem__(self, k: Vec) -> Vec:
        if self._last is not None:
            found, entry, difference = self._last
            if found is k:
                return entry
            if found is k.successor_of:
                after = entry + difference
                after.difference = (entry, difference)
                return after
        entry, difference = self._wide(k) if self.lookup is Lookup.WIDE else self._pair(k)
        self._last = (k, entry, difference)
        return entry

    def _pair(self, k: Vec) -> tuple[Vec, Vec]:
        (pair,) = self._gathered(k)
        sixteen = constant(pair.type, 16)
        low, high = self.builder.ashr(self.builder.shl(pair, sixteen), sixteen), self.builder.ashr(pair, sixteen)
        return Vec(self.builder, low, *self.bounds), Vec(self.builder, high, -32767, 32767)

    def _wide(self, k: Vec) -> tuple[Vec, Vec]:
        (entry,), (after,) = self._gathered(k), self._gathered(k, 4)
        found = Vec(self.builder, entry, *self.bounds)
        return found, (Vec(self.builder, after, *self.bounds) - found).proved(-65534, 65534)

    def _gathered(self, k: Vec, beyond: int = 0) -> Parts:
        """Load, for each lane, the int32 that lies so many bytes beyond the segment's own."""
        return tuple(self._gathered_part(index, beyond) for index in k.like(32))

    def _gathered_part(self, index: Any, beyond: int) -> Any:
        b, lanes = self.builder, index.type.count
        offsets = b.shl(b.sext(index, vector_type(lanes, 64)), constant(vector_type(lanes, 64), 2))
        base = b.add(self.address, const(beyond)) if beyond else self.address
        addresses = b.add(offsets, splat(b, base, lanes))
        pointers = b.inttoptr(addresses, ir.VectorType(I32.as_pointer(), lanes))
        kind, mask = vector_type(lanes, 32), ir.VectorType(ir.IntType(1), lanes)
        name = f"masked.gather.v{lanes}i32.v{lanes}p0"
        every = constant(mask, 1)
        return call(b, name, kind, pointers, ir.Constant(I32, 4), every, ir.Constant(kind, ir.Undefined))

    def negative(self, m: Vec, segment_bits: Any) -> Any:
        """Return -(offset + p(m)) in 16-bit lanes, modulo 2^16, for m in 0 … 65535, from what `pack` makes.

        p(m) = table[k] + ((D · fraction + 2^14) >> 15) with D = table[k+1] - table[k], and fraction the low 15 bits of
        m << (15 - segment_bits). Of these words bit 15 is the lowest bit of k: as int16 they are fraction where k is even, and
        fraction - 2^15 where it is odd. There the product comes out less by D exactly, and the table has offset + table[k] + D. vpmulhrsw
        rounds as the contract does. A D of more than 16 bits is tilt · 2^15 + d: the product is tilt · fraction more than that of d.

        Of a window, k' is the segment of the window that is nearest to k. On its line, p(m) = table[k'] + (k - k') · D + …, where the entry
        already has k' · D: what is left is D · k for an even k, and D · (k + 1) for an odd one, which makes up for the product. Both numbers
        are even, so tilt · 2^15 times them is 0.
        """
        b = self.builder
        fraction = b.shl(m.like(16)[0], (15 - m._other(segment_bits)).like(16)[0])
        k = m >> segment_bits
        if self._window is not None:
            entry, difference = self._of_window(k, *self._window)
        else:
            entry, difference = self._permuted(k.like(16)[0]) if self.lookup.in_registers else self._gathered_pair(k)
        minus = b.sub(entry, p.multiplied_q15_int16(b, difference, fraction))
        return minus if self._tilt is None else b.sub(minus, b.mul(self._tilt.like(16)[0], fraction))

    def _gathered_pair(self, k: Vec) -> tuple[Any, Any]:
        b, parts = self.builder, self._gathered(k)
        low = p.convert(b, parts, 16, -(1 << 31), (1 << 31) - 1)
        high = tuple(b.lshr(part, constant(part.type, 16)) for part in parts)
        return low[0], p.convert(b, high, 16, 0, 65535)[0]

    def _of_window(self, k: Vec, first: Any, most: Any) -> tuple[Any, Any]:
        """Return the entry, with what the line adds from segment k' to k, and the difference; see `negative`."""
        b, (number,) = self.builder, k.like(16)
        kind = number.type
        within = call(b, f"usub.sat.v{INT16_LANES}i16", kind, number, first)
        entry, difference = self._permuted(p.extreme(b, "umin", within, most))
        even = b.and_(b.add(number, constant(kind, 1)), constant(kind, -2))
        return b.sub(entry, b.mul(difference, even)), difference

    def _permuted(self, index: Any) -> tuple[Any, Any]:
        """Return entries and differences from registers.

        Entries of `pack`, then differences, are four of AVX-512's each, of which one instruction permutes two.
        """
        b, kind = self.builder, vector_type(INT16_LANES, 16)
        upper = b.icmp_signed("!=", b.and_(index, constant(kind, 64)), ir.Constant(kind, None))

        parts = self._held or registers(b, self.address)

        def found(first: int) -> Any:
            low, high = (p.permuted_int16(b, parts[j], index, parts[j + 1]) for j in (first, first + 2))
            return b.select(upper, high, low)

        return found(0), found(4)
