"""The layout of weights of four bits with a scale for every 32 columns, and its products.

They give the sums of the same weights in bytes, are read at little more than half the bytes, and cost instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.isa import Isa, const, load, store
from qrnn.backends.cpu.parts import I32, I64, constant, for_range, splat, vector_type
from qrnn.backends.cpu.weight_layouts import by_phase, rows_of_units
from qrnn.model.parts import SCALE_COLUMNS, Int8Array, Matrix, QuantMatrix4

_RAISED = 8
"""What is added to a weight in the low four bits of a byte, so that it needs no sign."""


class Raises(NamedTuple):
    """What the sums over raised weights start from, for every group of `SCALE_COLUMNS` operands of a vector."""

    operands: Any
    """The address of the vector."""
    address: Any
    """The address of an int32 for each group; 0 where there are more than `MOST_RAISES`."""


MOST_RAISES = 128
"""Groups of `Raises`: those of 4,096 operands of one part. Of longer vectors, each block computes its own."""


class _TwoRows:
    """A byte holds the weights of one column and two rows, one of each half block: that of the second in its high four bits.

    With the low row's sum A, whose weights are stored as q + 8, the bytes as they are give 16 · B + A: one mask serves two products.
    """

    rows = 2
    """Half blocks whose weights lie together."""
    raised = True
    """Whether weights are raised, so that their sums start from `_without_raise`."""

    def __init__(self, isa: Isa) -> None:
        self.isa, self.vectors = isa, SCALE_COLUMNS // isa.group

    def words(self, q: Int8Array) -> npt.NDArray[Any]:
        """Return [block, half, unit, gate, …] of weights [gate, block, half, lane, unit, 32]."""
        q = q.reshape(*q.shape[:5], self.vectors, self.isa.group)
        low, high = q[:, :, 0], q[:, :, 1]
        return ((low + _RAISED & 15) | high << 4).astype(np.int8).transpose(1, 3, 0, 4, 2, 5)[:, None]

    def scales(self, scale: Int8Array) -> npt.NDArray[Any]:
        """Return [block, half, unit, gate, …] of scales [gate, block, half, lane, unit]."""
        return scale.transpose(1, 4, 0, 2, 3)[:, None]

    def start(self, builder: Any, operands: Sequence[Any]) -> Any:
        """Return what sums start from, for all rows alike."""
        return _without_raise(builder, self.isa, operands)

    def sums(self, builder: Any, start: Any, operands: Sequence[Any], packed: Sequence[Any]) -> list[Any]:
        """Return Σ q · operand over one group of `SCALE_COLUMNS` for each row of a word; each is made of two sums side by side."""
        b, dot = builder, self.isa.dot
        zero = constant(start.type, 0)
        low, both = [start, zero], [start, zero]
        for k, (x, w) in enumerate(zip(operands, packed, strict=True)):
            low[k % 2] = dot(b, low[k % 2], x, b.and_(w, constant(w.type, 0x0F)))
            both[k % 2] = dot(b, both[k % 2], x, w)
        one, two = b.add(*low), b.add(*both)
        return [one, b.ashr(b.sub(two, one), constant(start.type, 4))]


class _TwoColumns:
    """A byte holds the weights of one row and two columns: that of the first in its low four bits, as q + 8. Masks leave q + 8 and 16 · q."""

    rows = 1
    raised = True

    def __init__(self, isa: Isa) -> None:
        self.isa, self.vectors = isa, SCALE_COLUMNS // (2 * isa.group)

    def words(self, q: Int8Array) -> npt.NDArray[Any]:
        q = q.reshape(*q.shape[:5], self.vectors, 2, self.isa.group)
        low, high = q[..., 0, :], q[..., 1, :]
        return ((low + _RAISED & 15) | high << 4).astype(np.int8).transpose(1, 2, 4, 0, 5, 3, 6)

    def scales(self, scale: Int8Array) -> npt.NDArray[Any]:
        return scale.transpose(1, 2, 4, 0, 3)

    def start(self, builder: Any, operands: Sequence[Any]) -> Any:
        return _without_raise(builder, self.isa, operands[::2])

    def sums(self, builder: Any, start: Any, operands: Sequence[Any], packed: Sequence[Any]) -> list[Any]:
        b, dot = builder, self.isa.dot
        low, high = start, constant(start.type, 0)
        for k, w in enumerate(packed):
            low = dot(b, low, operands[2 * k], b.and_(w, constant(w.type, 0x0F)))
            high = dot(b, high, operands[2 * k + 1], b.and_(w, constant(w.type, 0xF0)))
        return [b.add(low, b.ashr(high, constant(start.type, 4)))]


class _FourColumns:
    """A word of 16 bits holds the weights of one row and four columns, the first in the lowest bits: shifted up and down again they are q."""

    rows = 1
    raised = False

    def __init__(self, isa: Isa) -> None:
        self.isa, self.vectors = isa, SCALE_COLUMNS // (4 * isa.group)

    def words(self, q: Int8Array) -> npt.NDArray[Any]:
        q = q.reshape(*q.shape[:5], self.vectors, 4, self.isa.group)
        parts = [(q[..., k, :].astype(np.uint16) & 15) << 4 * k for k in range(4)]
        return (parts[0] | parts[1] | parts[2] | parts[3]).astype("<u2").transpose(1, 2, 4, 0, 5, 3, 6)

    def scales(self, scale: Int8Array) -> npt.NDArray[Any]:
        return scale.transpose(1, 2, 4, 0, 3)

    def start(self, builder: Any, operands: Sequence[Any]) -> Any:
        return constant(vector_type(self.isa.lanes, 32), 0)

    def sums(self, builder: Any, start: Any, operands: Sequence[Any], packed: Sequence[Any]) -> list[Any]:
        b, total = builder, start
        for k, x in enumerate(operands):
            w = packed[k // 4]
            top = b.shl(w, constant(w.type, 12 - 4 * (k % 4)))
            total = self.isa.dot(b, total, x, b.ashr(top, constant(w.type, 12)))
        return [total]


def _without_raise(builder: Any, isa: Isa, operands: Sequence[Any]) -> Any:
    """Return -8 · Σ of operands: what their products with raised weights have too much. Two sums go side by side."""
    raised = constant(vector_type(isa.lanes * isa.group, 8), -_RAISED)
    parts = [constant(vector_type(isa.lanes, 32), 0)] * 2
    for k, x in enumerate(operands):
        parts[k % 2] = isa.dot(builder, parts[k % 2], x, raised)
    return builder.add(*parts)


class FourBitLayout:
    """The layout of weights of four bits (`QuantMatrix4`).

    Words as wide as an operand hold two or four weights. For each group of `SCALE_COLUMNS` and each gate there are some vectors of words, and
    after all of a half block, or of both where a byte has a row of each, come the scales, a byte for each row.

    The 32 products of one group sum to less than 2^20 (bytes of operands, 0…255 or -128…127, times 16 · q) or 2^23 (int16 times q); times a
    scale of at most 15 they are the int8 weights' products, whose sums may wrap: `blocks`.
    """

    bits = 4

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.unit = SCALE_COLUMNS // isa.group
        self._words: _TwoRows | _TwoColumns | _FourColumns = (
            _FourColumns(isa) if isa.operand_bits == 16 else _TwoRows(isa) if isa.halves == 2 else _TwoColumns(isa)
        )

    @property
    def together(self) -> int:
        """Half blocks that lie together, at one address."""
        return self._words.rows

    def groups(self, columns: int) -> int:
        """Return the number of groups, in whole groups of `SCALE_COLUMNS`, which are whole blocks of units."""
        return -(-columns // SCALE_COLUMNS) * self.unit

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Int8Array:
        """Pack all half blocks of a matrix, block after block."""
        if not isinstance(matrix, QuantMatrix4):
            raise TypeError("weights of eight bits cannot be packed in four")
        gates, units = sum(phases), self.groups(matrix.columns) // self.unit
        q = rows_of_units(self.isa, matrix.q, gates, units * SCALE_COLUMNS)
        scale = rows_of_units(self.isa, matrix.scale, gates, units)
        words = self._words.words(q.reshape(*q.shape[:4], units, SCALE_COLUMNS))
        return by_phase([words, self._words.scales(scale)], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Return the bytes of one gate's rows in a half block, scales included."""
        units = builder.sdiv(groups, const(self.unit))
        return builder.mul(units, const(self.isa.lanes * (SCALE_COLUMNS // 2 + 1)))

    def sums(
        self,
        builder: Any,
        groups: Any,
        operands: Sequence[Any],
        half_blocks: Sequence[Any],
        count: int,
        starts: Sequence[Any],
        raises: Raises | None = None,
    ) -> list[Any]:
        """Return ``starts``, the accumulators [vector, gate, half block], flat, plus the products of all ``groups``.

        ``operands`` and ``half_blocks`` are as for `ByteLayout.products`. ``raises`` are those of one vector, where they are there. Sums lie in
        memory, and the gates of a group of `SCALE_COLUMNS` are a loop, because LLVM orders the products of all of them as if there were more
        registers than there are.
        """
        b, isa, kinds, rows = builder, self.isa, self._words, self._words.rows
        width = len(starts) // len(operands)
        size, kind = 4 * isa.lanes, vector_type(isa.lanes, 32)
        weight_bytes, scale_bytes = rows * isa.lanes * SCALE_COLUMNS // 2, rows * isa.lanes
        with b.goto_entry_block():
            room = b.alloca(kind, len(starts))
            room.align = size
        places = b.ptrtoint(room, I64)
        for k, start in enumerate(starts):
            store(b, start, b.add(places, const(size * k)), size)
        units = b.sdiv(groups, const(self.unit))
        # LLVM does not know this number of gates, or it would make no loop of them.
        gates = b.add(const(count), b.lshr(half_blocks[0], const(63)))
        with for_range(b, const(0), units) as here:
            at = b.mul(here, const(isa.operand_size * self.unit))
            xs = [self._operands(b, b.add(x, at)) for x in operands]
            firsts = [self._first(b, b.add(x, at), own, raises) for x, own in zip(operands, xs, strict=True)]
            weights = [b.add(w, b.mul(here, const(weight_bytes * count))) for w in half_blocks]
            scales = [b.add(w, b.mul(units, const(weight_bytes * count))) for w in half_blocks]
            scales = [b.add(s, b.mul(here, const(scale_bytes * count))) for s in scales]
            with for_range(b, const(0), gates) as gate:
                own = b.add(places, b.mul(gate, const(size * width // count)))
                for number, (base, row_scales) in enumerate(zip(weights, scales, strict=True)):
                    packed = self._packed(b, b.add(base, b.mul(gate, const(weight_bytes))))
                    sums = [kinds.sums(b, first, x, packed) for first, x in zip(firsts, xs, strict=True)]
                    factors = self._scales(b, b.add(row_scales, b.mul(gate, const(scale_bytes))))
                    for vector, totals in enumerate(sums):
                        for k, (total, factor) in enumerate(zip(totals, factors, strict=True)):
                            place = b.add(own, const(size * (vector * width + number + k)))
                            store(b, b.add(load(b, place, kind, size), b.mul(total, factor)), place, size)
        return [load(b, b.add(places, const(size * k)), kind, size) for k in range(len(starts))]

    def raises(self, builder: Any, groups: Any, operands: Any, byte_parts: Any) -> Raises | None:
        """Emit `Raises` of a vector in all its parts, once for all rows; None where weights are not raised."""
        b = builder
        if not self._words.raised:
            return None
        with b.goto_entry_block():
            room = b.alloca(I32, MOST_RAISES)
        address = b.ptrtoint(room, I64)
        count = b.mul(b.sdiv(groups, const(self.unit)), byte_parts)
        fit = b.icmp_signed("<=", count, const(MOST_RAISES))
        with b.if_then(fit), for_range(b, const(0), count) as group:
            own = self._operands(b, b.add(operands, b.mul(group, const(SCALE_COLUMNS))))
            every = self._words.start(b, own)
            store(b, b.extract_element(every, ir.Constant(I32, 0)), b.add(address, b.mul(group, const(4))), 4)
        return Raises(operands, b.select(fit, address, const(0)))

    def _first(self, builder: Any, address: Any, operands: Sequence[Any], raises: Raises | None) -> Any:
        """Return what the sums over the group of operands at ``address`` start from."""
        b = builder
        if raises is None:
            return self._words.start(b, operands)
        group = b.sdiv(b.sub(address, raises.operands), const(SCALE_COLUMNS))
        with b.if_else(b.icmp_signed("!=", raises.address, const(0))) as (kept, missing):
            with kept:
                place = b.add(raises.address, b.mul(group, const(4)))
                first, before = splat(b, load(b, place, I32, 4), self.isa.lanes), b.basic_block
            with missing:
                own, after = self._words.start(b, operands), b.basic_block
        found = b.phi(first.type)
        found.add_incoming(first, before)
        found.add_incoming(own, after)
        return found

    def _operands(self, builder: Any, address: Any) -> list[Any]:
        """Load the operands of one group of `SCALE_COLUMNS`."""
        size = self.isa.operand_size
        return [self.isa.operands(builder, builder.add(address, const(size * k))) for k in range(self.unit)]

    def _packed(self, builder: Any, address: Any) -> list[Any]:
        """Load the words of one gate and group."""
        isa = self.isa
        kind = vector_type(isa.lanes * isa.group, isa.operand_bits)
        size = kind.count * isa.operand_bits // 8
        return [load(builder, builder.add(address, const(size * k)), kind) for k in range(self._words.vectors)]

    def _scales(self, builder: Any, address: Any) -> list[Any]:
        """Load the scales of one gate and group, of each row of a word."""
        b, lanes = builder, self.isa.lanes
        narrow = [load(b, b.add(address, const(lanes * k)), vector_type(lanes, 8)) for k in range(self._words.rows)]
        return [b.sext(scale, vector_type(lanes, 32)) for scale in narrow]
