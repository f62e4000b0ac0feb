"""Weight layouts: how the weights of a block lie in memory, in bytes or in four bits with a scale for every 32 columns, and their products.

A half block holds the rows of a phase's gates for ``lanes`` units of a block. Both kinds give the same sums; four bits are read at little more
than half the bytes, and cost instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.isa import Isa, const, load, store
from qrnn.backends.cpu.parts import I64, constant, for_range, vector_type
from qrnn.model.parts import SCALE_COLUMNS, Int8Array, Matrix, QuantMatrix4

_VECTORS = 4
"""Vectors of packed weights for a gate's rows of a half block in one group of `SCALE_COLUMNS`."""

_LOW_RAISED = 8
"""What is added to a weight in the low half of a byte."""


def _rows(isa: Isa, values: Int8Array, gates: int, columns: int) -> Int8Array:
    """[gate, block, half, lane, ``columns``] of values [G·H, K], padded with zeros; of a block, in the order of its half blocks' rows."""
    rows, K = values.shape
    H = rows // gates
    blocks = -(-H // isa.units)
    padded = np.zeros((gates, blocks * isa.units, columns), np.int8)
    padded[:, :H, :K] = values.reshape(gates, H, K)
    ordered = padded.reshape(gates, blocks, isa.units, columns)[:, :, isa.unit_order()]
    return ordered.reshape(gates, blocks, isa.halves, isa.lanes, columns)


def _by_phase(parts: Sequence[npt.NDArray[Any]], phases: tuple[int, ...]) -> Int8Array:
    """Return the bytes of arrays [block, half, group, gate, …] in the order of a layout.

    A block has its phases one after the other, a phase its half blocks, and a half block a piece of each array.
    """
    found = []
    for count, end in zip(phases, np.cumsum(phases), strict=True):
        chosen = [np.ascontiguousarray(part[:, :, :, end - count : end]) for part in parts]
        half_blocks = [part.reshape(*part.shape[:2], -1).view(np.int8) for part in chosen]
        found.append(np.concatenate(half_blocks, axis=2).reshape(len(half_blocks[0]), -1))
    return np.concatenate(found, axis=1).reshape(-1)


class ByteLayout:
    """The layout of weights of eight bits: for each group of columns and each gate, the ``group`` weights of a row, for ``lanes`` rows."""

    bits = 8
    unit = 1
    """Groups of columns that `products` takes at once."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def groups(self, columns: int) -> int:
        """Whole blocks of units: a step stores the operands of a block at once; and an even number, see `blocks.Step.dots`."""
        step = max(self.isa.units, 2 * self.isa.group)
        return -(-columns // step) * step // self.isa.group

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Int8Array:
        """All half blocks of a matrix, block after block."""
        isa, gates, groups = self.isa, sum(phases), self.groups(matrix.weight.shape[1])
        split = _rows(isa, matrix.weight, gates, groups * isa.group)
        split = split.reshape(*split.shape[:4], groups, isa.group)
        return _by_phase([split.transpose(1, 2, 4, 0, 3, 5)], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Bytes of one gate's rows in a half block."""
        return builder.mul(groups, const(self.isa.lanes * self.isa.group))

    def products(
        self,
        builder: Any,
        accs: Sequence[Any],
        operands: Sequence[Any],
        half_blocks: Sequence[Any],
        count: int,
        place: tuple[Any, Any],
    ) -> list[Any]:
        """Accumulators [vector, gate, half block], flat, plus the products of ``unit`` groups: from group place[0] on, of place[1].

        ``operands``: the addresses of the vectors' operands; ``half_blocks``: those of half blocks of ``count`` gates.
        """
        b, isa, group = builder, self.isa, place[0]
        row_bytes, width = isa.lanes * isa.group, len(half_blocks) * count
        rows = [b.add(w, b.mul(group, const(row_bytes * count))) for w in half_blocks]
        xs = [b.add(x, b.mul(group, const(isa.operand_size))) for x in operands]
        weights = [b.add(row, const(row_bytes * gate)) for gate in range(count) for row in rows]
        return [
            isa.dot(b, acc, isa.operands(b, xs[j // width]), isa.weights(b, weights[j % width]))
            for j, acc in enumerate(accs)
        ]


class PairedProducts:
    """The products of `ByteLayout` for pairs of operand vectors: of eight columns of two of them and two rows at once (`Isa.pair_dot`).

    A half block has four lanes. Sums [vector, gate, half block] of four lanes go in as sums [pair, gate, half block, rows], each of which holds
    two lanes of one vector of a pair and the same of the other (`enter`, `leave`).
    """

    unit = 2
    """See `ByteLayout.unit`."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def enter(self, builder: Any, sums: Sequence[Any], vectors: int) -> list[Any]:
        """Return the sums as `products` takes them; ``vectors`` is even."""
        width = len(sums) // vectors
        return [
            _chosen(builder, sums[2 * pair * width + row], sums[(2 * pair + 1) * width + row], places)
            for pair in range(vectors // 2)
            for row in range(width)
            for places in _HALVES
        ]

    def leave(self, builder: Any, sums: Sequence[Any], vectors: int) -> list[Any]:
        """Return what `enter` was given, of sums as `products` gives them."""
        width = len(sums) // vectors
        return [
            _chosen(builder, sums[2 * (pair * width + row)], sums[2 * (pair * width + row) + 1], places)
            for pair in range(vectors // 2)
            for places in _HALVES
            for row in range(width)
        ]

    def products(
        self,
        builder: Any,
        accs: Sequence[Any],
        operands: Sequence[Any],
        half_blocks: Sequence[Any],
        count: int,
        place: tuple[Any, Any],
    ) -> list[Any]:
        """See `ByteLayout.products`."""
        b, isa, group = builder, self.isa, place[0]
        assert isa.pair_dot is not None
        row_bytes = isa.lanes * isa.group
        at = [b.add(x, b.mul(group, const(isa.operand_size))) for x in operands]
        vectors = [self._pair(b, *at[k : k + 2]) for k in range(0, len(at), 2)]
        rows = [b.add(w, b.mul(group, const(row_bytes * count))) for w in half_blocks]
        weights = []
        for gate in range(count):
            for row in rows:
                places = (b.add(row, const(row_bytes * (gate + count * k))) for k in (0, 1))
                one, two = (load(b, address, vector_type(4, 32)) for address in places)
                weights += [_chosen(b, one, two, pair) for pair in _ZIPPED]
        weights = [b.bitcast(w, vector_type(16, 8)) for w in weights]
        return [
            isa.pair_dot(b, acc, vectors[j // len(weights)], weights[j % len(weights)]) for j, acc in enumerate(accs)
        ]

    def _pair(self, builder: Any, one: Any, two: Any) -> Any:
        """Eight bytes of each of two operand vectors."""
        kind = vector_type(8, 8)
        return _chosen(builder, load(builder, one, kind), load(builder, two, kind), range(16))


_HALVES = ((0, 1, 4, 5), (2, 3, 6, 7))
"""The first two lanes of two vectors of four, and the last two."""

_ZIPPED = ((0, 4, 1, 5), (2, 6, 3, 7))
"""The columns of two groups side by side, of the first two rows and of the last two."""


def _chosen(builder: Any, one: Any, two: Any, places: Sequence[int]) -> Any:
    """Lanes of two vectors."""
    return builder.shuffle_vector(one, two, ir.Constant(vector_type(len(places), 32), list(places)))


class FourBitLayout:
    """The layout of weights of four bits (`QuantMatrix4`).

    For each group of `SCALE_COLUMNS` and each gate there are `_VECTORS` vectors. Each of their words holds the weights of as many groups of
    columns as fit, the first in the lowest bits. After all weights of a half block come its scales, a byte for each row.

    A word is as wide as an operand. Of a byte, one mask leaves the weight of its high four bits, 16 · q, and another that of its low ones,
    which are stored as q + 8, so that they need no sign. Their products have a sum each: that of the high ones is shifted down, and that of
    the low ones begins with -8 times the operands' sum, which all rows share. A word of 16 bits is shifted up and down again, to q. The 32
    products of one group sum to less than 2^20 (bytes of operands, 0…255 or -128…127, times 16 · q) or 2^23 (int16 times q); times a
    scale of at most 15 they are the int8 weights' products, whose sums may wrap: `blocks`.
    """

    bits = 4

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.unit = SCALE_COLUMNS // isa.group
        self.per_word = isa.operand_bits // 4
        self._has_halves = isa.operand_bits == 8
        self.together = self._has_halves and isa.halves == 2
        """Whether a byte holds the weights of a row of each half block, instead of two columns of a row."""

    def groups(self, columns: int) -> int:
        """Whole groups of `SCALE_COLUMNS`, which are whole blocks of units."""
        return -(-columns // SCALE_COLUMNS) * self.unit

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Int8Array:
        """All half blocks of a matrix, block after block."""
        if not isinstance(matrix, QuantMatrix4):
            raise TypeError("weights of eight bits cannot be packed in four")
        isa, gates = self.isa, sum(phases)
        units = self.groups(matrix.columns) // self.unit
        q = _rows(isa, matrix.q, gates, units * SCALE_COLUMNS)
        scale = _rows(isa, matrix.scale, gates, units)
        if self.together:
            q = q.reshape(*q.shape[:4], units, self.unit, isa.group)
            words = (q[:, :, 0] + _LOW_RAISED & 15 | q[:, :, 1] << 4).astype(np.int8)
            words = words.transpose(1, 3, 0, 4, 2, 5)[:, None]
            return _by_phase([words, scale.transpose(1, 4, 0, 2, 3)[:, None]], phases)
        q = q.reshape(*q.shape[:4], units, _VECTORS, self.per_word, isa.group)
        words = np.zeros((*q.shape[:6], isa.group), np.uint16)
        for k in range(self.per_word):
            raised = _LOW_RAISED if self._has_halves and k == 0 else 0
            words |= (q[..., k, :].astype(np.uint16) + raised & 15) << 4 * k
        words = words.astype(f"<u{isa.operand_bits // 8}").transpose(1, 2, 4, 0, 5, 3, 6)
        return _by_phase([words, scale.transpose(1, 2, 4, 0, 3)], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Bytes of one gate's rows in a half block, scales included."""
        units = builder.sdiv(groups, const(self.unit))
        return builder.mul(units, const(self._unit_bytes + self.isa.lanes))

    @property
    def _unit_bytes(self) -> int:
        return self.isa.lanes * SCALE_COLUMNS // 2

    def sums(
        self,
        builder: Any,
        groups: Any,
        operands: Sequence[Any],
        half_blocks: Sequence[Any],
        count: int,
        starts: Sequence[Any],
    ) -> list[Any]:
        """Return ``starts``, the accumulators [vector, gate, half block], flat, plus the products of all ``groups``.

        ``operands`` and ``half_blocks`` are as for `ByteLayout.products`. Sums lie in memory, and the gates of a group of `SCALE_COLUMNS` are a
        loop: LLVM orders the products of all of them as if there were more registers than there are.
        """
        b, isa = builder, self.isa
        width = len(starts) // len(operands)
        size, kind = 4 * isa.lanes, vector_type(isa.lanes, 32)
        rows_of_gate = 2 if self.together else 1
        unit_bytes, scale_bytes = self._unit_bytes * rows_of_gate, isa.lanes * rows_of_gate
        with b.goto_entry_block():
            room = b.alloca(kind, len(starts))
            room.align = 64
        places = b.ptrtoint(room, I64)
        for k, start in enumerate(starts):
            store(b, start, b.add(places, const(size * k)), size)
        units = b.sdiv(groups, const(self.unit))
        # Gates as a number that LLVM does not know, or it would make no loop of them.
        gates = b.add(const(count), b.lshr(half_blocks[0], const(63)))
        with for_range(b, const(0), units) as here:
            at = b.mul(here, const(isa.operand_size * self.unit))
            xs = [self._operands(b, b.add(x, at)) for x in operands]
            firsts = [self._start(b, x) for x in xs]
            rows = [b.add(w, b.mul(here, const(unit_bytes * count))) for w in half_blocks]
            scales = [b.add(w, b.mul(units, const(unit_bytes * count))) for w in half_blocks]
            scales = [b.add(s, b.mul(here, const(scale_bytes * count))) for s in scales]
            with for_range(b, const(0), gates) as gate:
                own = b.add(places, b.mul(gate, const(size * width // count)))
                for half, (row, row_scales) in enumerate(zip(rows, scales, strict=True)):
                    ws = self._expanded(b, b.add(row, b.mul(gate, const(unit_bytes))))
                    at = b.add(row_scales, b.mul(gate, const(scale_bytes)))
                    factors = [
                        b.sext(load(b, b.add(at, const(isa.lanes * k)), vector_type(isa.lanes, 8)), kind)
                        for k in range(rows_of_gate)
                    ]
                    for vector, x in enumerate(xs):
                        totals = self._group_sums(b, firsts[vector], x, ws)
                        for k, (total, factor) in enumerate(zip(totals, factors, strict=True)):
                            place = b.add(own, const(size * (vector * width + half + k)))
                            store(b, b.add(load(b, place, kind, size), b.mul(total, factor)), place, size)
        return [load(b, b.add(places, const(size * k)), kind, size) for k in range(len(starts))]

    def _operands(self, builder: Any, address: Any) -> list[Any]:
        """The operands of ``unit`` groups of columns."""
        size = self.isa.operand_size
        return [self.isa.operands(builder, builder.add(address, const(size * k))) for k in range(self.unit)]

    def _start(self, builder: Any, operands: Sequence[Any]) -> Any:
        """What the sum of the low halves' products begins with: it takes off what those weights are raised by."""
        isa = self.isa
        start = constant(vector_type(isa.lanes, 32), 0)
        if self._has_halves:
            raised = constant(vector_type(isa.lanes * isa.group, 8), -_LOW_RAISED)
            parts = [start, start]
            step = 1 if self.together else self.per_word
            for number, k in enumerate(range(0, self.unit, step)):
                parts[number % 2] = isa.dot(builder, parts[number % 2], operands[k], raised)
            start = builder.add(*parts)
        return start

    def _expanded(self, builder: Any, address: Any) -> list[Any]:
        """The weights of ``unit`` groups of columns as `Isa.dot` takes them; of bytes the odd ones 16 times as large, the even ones raised."""
        b, isa = builder, self.isa
        kind = vector_type(isa.lanes * isa.group, isa.operand_bits)
        found = []
        size = kind.count * isa.operand_bits // 8
        for vector in range(_VECTORS * (2 if self.together else 1)):
            packed = load(b, b.add(address, const(size * vector)), kind)
            if self.together:
                found += [b.and_(packed, constant(kind, 0x0F)), packed]
                continue
            if self._has_halves:
                found += [b.and_(packed, constant(kind, mask)) for mask in (0x0F, 0xF0)]
                continue
            for k in range(self.per_word):
                top = b.shl(packed, constant(kind, isa.operand_bits - 4 - 4 * k))
                found.append(b.ashr(top, constant(kind, 12)))
        return found

    def _group_sums(self, builder: Any, start: Any, operands: Sequence[Any], ws: Sequence[Any]) -> list[Any]:
        """Σ q · operand over one group of `SCALE_COLUMNS`."""
        b, isa = builder, self.isa
        zero = constant(start.type, 0)
        if self.together:
            totals = [start, start, zero, zero]
            for k, w in enumerate(ws):
                totals[k % 4] = isa.dot(b, totals[k % 4], operands[k // 2], w)
            low, both = b.add(totals[0], totals[2]), b.add(totals[1], totals[3])
            return [low, b.ashr(b.sub(both, low), constant(start.type, 4))]
        totals = [start, zero]
        for k, (x, w) in enumerate(zip(operands, ws, strict=True)):
            which = k % 2 if self._has_halves else 0
            totals[which] = isa.dot(b, totals[which], x, w)
        return [b.add(totals[0], b.ashr(totals[1], constant(start.type, 4))) if self._has_halves else totals[0]]
