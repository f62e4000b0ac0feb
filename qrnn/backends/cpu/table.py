"""Tables of gate functions, looked up by many lanes at once: by gathered loads, or in registers by the permutations of AVX-512."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.isa import const, load
from qrnn.backends.cpu.parts import I32, WORDS, call, constant, multiplied_q15_words, permuted_words, splat, vector_type
from qrnn.backends.cpu.vector import Vec

SMALL_TABLE = 128
"""Segments of a table that is looked up in registers, where the instruction set can."""


def words(entries: npt.NDArray[Any], differences: npt.NDArray[Any], offset: int) -> npt.NDArray[Any]:
    """int16 of `SMALL_TABLE` segments for `Table.negative`: -(offset + entry), with the difference added to odd entries; the differences."""
    odd = np.arange(SMALL_TABLE) % 2
    both = np.concatenate((-(offset + entries + odd * differences), differences))
    return (both & 0xFFFF).astype(np.uint16).view(np.int16)


class Table:
    """A gate's table for `gates.piecewise_linear`: entries and differences side by side, so that one lookup brings both."""

    bounds = (-32768, 32767)

    def __init__(self, builder: Any, address: Any) -> None:
        self.builder, self.address = builder, address
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
        low, high = self._gathered(k)
        entry, difference = Vec(self.builder, low, *self.bounds), Vec(self.builder, high, *self.bounds)
        self._last = (k, entry, difference)
        return entry

    def _gathered(self, k: Vec) -> tuple[Any, Any]:
        """One load a lane, of an entry in the low and a difference in the high 16 bits."""
        b, lanes = self.builder, k.lanes
        (index,) = k.like(32)
        offsets = b.shl(b.sext(index, vector_type(lanes, 64)), constant(vector_type(lanes, 64), 2))
        addresses = b.add(offsets, splat(b, self.address, lanes))
        pointers = b.inttoptr(addresses, ir.VectorType(I32.as_pointer(), lanes))
        kind, mask = vector_type(lanes, 32), ir.VectorType(ir.IntType(1), lanes)
        name = f"masked.gather.v{lanes}i32.v{lanes}p0"
        every = constant(mask, 1)
        pair = call(b, name, kind, pointers, ir.Constant(I32, 4), every, ir.Constant(kind, ir.Undefined))
        sixteen = constant(kind, 16)
        return b.ashr(b.shl(pair, sixteen), sixteen), b.ashr(pair, sixteen)

    def negative(self, m: Vec, segment_bits: Any) -> Any:
        """-(offset + p(m)) in 16-bit lanes, modulo 2^16, for m in 0 … 32767; from what `words` packs.

        p(m) = table[k] + ((D · fraction + 2^14) >> 15) with D = table[k+1] - table[k], and fraction the low 15 bits of
        m << (15 - segment_bits). Of these words bit 15 is the lowest bit of k: as int16 they are fraction where k is even, and
        fraction - 2^15 where it is odd. There the product comes out less by D exactly, and the table has offset + table[k] + D. vpmulhrsw
        rounds as the contract does; |D| ≤ 32767.
        """
        b = self.builder
        fraction = b.shl(m.like(16)[0], (15 - m._other(segment_bits)).like(16)[0])
        entry, difference = self._permuted(m >> segment_bits)
        return b.sub(entry, multiplied_q15_words(b, difference, fraction))

    def _permuted(self, k: Vec) -> tuple[Any, Any]:
        """From registers: entries of `words`, then differences, are four of AVX-512's each, of which one instruction permutes two."""
        b, kind = self.builder, vector_type(WORDS, 16)
        (index,) = k.like(16)
        upper = b.icmp_signed("!=", b.and_(index, constant(kind, 64)), ir.Constant(kind, None))

        def found(first: int) -> Any:
            parts = [load(b, b.add(self.address, const(64 * (first + j))), kind) for j in range(4)]
            low, high = (permuted_words(b, parts[j], index, parts[j + 1]) for j in (0, 2))
            return b.select(upper, high, low)

        return found(0), found(4)
