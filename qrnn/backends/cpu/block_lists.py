"""Block-sparse weights: lists of the blocks of columns whose weights are not all zero, and their products.

Pruned weights have zeros in blocks of some rows and four or eight columns. Here a tile is ``rows`` units of one gate times `COLUMNS` columns,
and each group of ``rows`` units of a gate has a list of its tiles that are not all zero. A tile that is left out adds zero to every sum, so
the sums, and the proof that bounds them, are those of all weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.block_sizes import AMX_LEAST
from qrnn.backends.cpu.four_bits import FourBitLayout
from qrnn.backends.cpu.isa import Isa, const, load, store
from qrnn.backends.cpu.parts import I32, I64, constant, for_range, vector_type
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.weight_layouts import ByteLayout
from qrnn.model.parts import Int8Array, Matrix

COLUMNS = 4
"""The columns of a tile."""

PAIR = 2
"""The tiles that are multiplied into sums of their own, since one sum would wait for another; lists are filled up to a multiple of this."""

MOST_COLUMNS = COLUMNS << 16
"""The most columns of a matrix with lists: the number of a tile's columns takes 16 bits."""

LISTED = 0
"""What stands for lists of tiles where the width of packed weights is said in bits."""

_HEADER = 16
"""The bytes before the lists' starts: two int64, which say where the numbers of columns and the tiles begin."""


def list_limit(isa: Isa, tuning: Tuning, vectors: int) -> float:
    """Return the largest `listed_share` of a matrix that is multiplied by lists with so many vectors at a time."""
    if isa.amx and vectors >= AMX_LEAST:
        return 0.0
    return tuning.byte_list_share if isa.operand_bits == 8 else tuning.word_list_share


def tile_isa(isa: Isa) -> Isa:
    """Return the instruction set with the lanes of a tile: eight of sixteen, where it can, since weights are pruned in blocks of eight rows."""
    return isa if isa.half_dot is None else replace(isa, lanes=isa.lanes // 2, dot=isa.half_dot)


def _tiles(isa: Isa, weight: Int8Array, gates: int) -> Int8Array:
    """Return weights [G·H, K] as tiles [list, place, rows, `COLUMNS`], filled up with zeros; lists in the order of (block, gate, rows)."""
    total, K = weight.shape
    H, rows = total // gates, tile_isa(isa).lanes
    blocks, places = -(-H // isa.units), -(-K // COLUMNS)
    padded = np.zeros((gates, blocks * isa.units, places * COLUMNS), np.int8)
    padded[:, :H, :K] = weight.reshape(gates, H, K)
    split = padded.reshape(gates, blocks, isa.units // rows, rows, places, COLUMNS)
    return split.transpose(1, 0, 2, 4, 3, 5).reshape(-1, places, rows, COLUMNS)


def _lengths(kept: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the lengths of the lists of tiles, ``kept`` [list, place], filled up."""
    found: npt.NDArray[np.int64] = -(-kept.astype(np.int64).sum(axis=1) // PAIR) * PAIR
    return found


def listed_share(isa: Isa, weight: Int8Array, gates: int) -> float:
    """Return the tiles in the lists of weights [G·H, K], those that fill them up included, over all tiles; 1 where it cannot have lists."""
    if weight.shape[1] > MOST_COLUMNS:
        return 1.0
    kept = np.any(_tiles(isa, weight, gates), axis=(2, 3))
    return float(_lengths(kept).sum() / kept.size)


class ListLayout(ByteLayout):
    """The layout of weights of eight bits with lists of tiles; operands lie as for `ByteLayout`.

    In this order: where the numbers of columns and the tiles begin (int64 each); the first tile of each list and the end of the last one
    (int32); of each tile the number of its columns / `COLUMNS` (uint16); and the tiles, group of columns by group of columns, in each the
    weights of row 0, of row 1, ….
    """

    bits = LISTED
    unit = 1

    def __init__(self, isa: Isa) -> None:
        super().__init__(isa)
        self._tile = tile_isa(isa)

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Int8Array:
        """Return the lists of a matrix, block after block."""
        tiles, rows, group = _tiles(self.isa, matrix.weight, sum(phases)), self._tile.lanes, self.isa.group
        kept = np.any(tiles, axis=(2, 3))
        lengths = _lengths(kept)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        numbers = np.zeros(starts[-1], np.uint16)
        packed = np.zeros((starts[-1], COLUMNS // group, rows, group), np.int8)
        of_list, place = np.nonzero(kept)
        within = np.arange(len(of_list)) - np.concatenate([[0], np.cumsum(kept.sum(axis=1))])[of_list]
        at = starts[of_list] + within
        numbers[at] = place
        packed[at] = tiles[of_list, place].reshape(-1, rows, COLUMNS // group, group).swapaxes(1, 2)
        parts = [starts.astype(np.int32).tobytes(), numbers.tobytes(), packed.tobytes()]
        begin = _HEADER + len(parts[0])
        tiles_at = -(-(begin + len(parts[1])) // 64) * 64
        header = np.array([begin, tiles_at], np.int64).tobytes()
        filling = bytes(tiles_at - begin - len(parts[1]))
        return np.frombuffer(b"".join([header, parts[0], parts[1], filling, parts[2]]), np.int8)

    @property
    def _of_gate(self) -> int:
        """Lists of a gate in a block."""
        return self.isa.units // self._tile.lanes

    def lists(self, builder: Any, weights: Any, gate: Any) -> Any:
        """Return the address of the start of the first list of a gate, numbered over all blocks."""
        return builder.add(weights, builder.add(builder.mul(gate, const(4 * self._of_gate)), const(_HEADER)))

    def sums(self, builder: Any, weights: Any, lists: Any, operands: Sequence[Any], starts: Sequence[Any]) -> list[Any]:
        """Return ``starts``, the accumulators [vector, gate, half block] of a block, plus the products of its lists.

        ``weights`` is the address of all weights, and ``lists`` that of the first start.
        """
        b, tile, isa = builder, self._tile, self.isa
        width = len(starts) // len(operands)
        count = width // isa.halves * self._of_gate
        kind = vector_type(tile.lanes, 32)
        with b.goto_entry_block():
            room = b.alloca(kind, len(operands) * count)
            room.align = 64
        found, size = b.ptrtoint(room, I64), 4 * tile.lanes
        numbers, tiles = (b.add(weights, load(b, b.add(weights, const(at)), I64)) for at in (0, 8))
        with for_range(b, const(0), const(count)) as k:
            at = b.add(lists, b.mul(k, const(4)))
            ends = [b.zext(load(b, b.add(at, const(4 * end)), I32), I64) for end in (0, 1)]
            for vector, total in enumerate(self._list_sums(b, numbers, tiles, ends, operands)):
                place = b.add(b.mul(k, const(size)), const(size * count * vector))
                store(b, total, b.add(found, place))
        sums = []
        for vector in range(len(operands)):
            for gate in range(width // isa.halves):
                first = vector * count + gate * self._of_gate
                parts = [load(b, b.add(found, const(size * (first + k))), kind) for k in range(self._of_gate)]
                sums += self._by_halves(b, parts)
        return [b.add(start, total) for start, total in zip(starts, sums, strict=True)]

    def _list_sums(
        self, builder: Any, numbers: Any, tiles: Any, ends: Sequence[Any], operands: Sequence[Any]
    ) -> list[Any]:
        """Return the sums of one list for each operand vector."""
        b = builder
        kind = vector_type(self._tile.lanes, 32)
        apart = PAIR if len(operands) > 1 else 4 * PAIR
        head, body, after = (b.append_basic_block(name) for name in ("list.head", "list.body", "list.after"))
        before = b.basic_block
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        sums = [[b.phi(kind) for _ in operands] for _ in range(apart)]
        following = b.add(i, const(apart))
        b.cbranch(b.icmp_unsigned("<=", following, ends[1]), body, after)

        b.position_at_end(body)
        new = self._products(b, numbers, tiles, i, operands, sums)
        i.add_incoming(ends[0], before)
        i.add_incoming(following, b.basic_block)
        for phis, values in zip(sums, new, strict=True):
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(constant(kind, 0), before)
                phi.add_incoming(value, b.basic_block)
        b.branch(head)

        b.position_at_end(after)
        if apart > PAIR:
            sums = self._rest(b, numbers, tiles, (i, ends[1]), operands, sums)
        totals = sums[0]
        for row in sums[1:]:
            totals = [b.add(u, v) for u, v in zip(totals, row, strict=True)]
        return list(totals)

    def _rest(
        self, builder: Any, numbers: Any, tiles: Any, ends: Sequence[Any], operands: Sequence[Any], sums: Any
    ) -> list[list[Any]]:
        """Return ``sums`` plus the products of the last tiles of a list, pair by pair."""
        b, (first, end) = builder, ends
        before = b.basic_block
        head, body, after = (b.append_basic_block(name) for name in ("rest.head", "rest.body", "rest.after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        phis = [[b.phi(value.type) for value in row] for row in sums[:PAIR]]
        b.cbranch(b.icmp_unsigned("<", i, end), body, after)

        b.position_at_end(body)
        new = self._products(b, numbers, tiles, i, operands, phis)
        i.add_incoming(first, before)
        i.add_incoming(b.add(i, const(PAIR)), b.basic_block)
        for row, old, values in zip(phis, sums, new, strict=False):
            for phi, one, two in zip(row, old, values, strict=True):
                phi.add_incoming(one, before)
                phi.add_incoming(two, b.basic_block)
        b.branch(head)

        b.position_at_end(after)
        return [*phis, *sums[PAIR:]]

    def _products(
        self, builder: Any, numbers: Any, tiles: Any, first: Any, operands: Sequence[Any], sums: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        """Return ``sums`` [tile][vector] plus the products of as many tiles, from ``first`` on."""
        b, tile = builder, self._tile
        count, size, group = len(sums), COLUMNS * tile.lanes, tile.group
        at_tile = b.add(tiles, b.mul(first, const(size)))
        at_once = min(count, 4)  # A word of 64 bits holds so many numbers of 16 bits.
        word = ir.IntType(16 * at_once)
        new = [list(row) for row in sums]
        for k, row in enumerate(new):
            if k % at_once == 0:
                place = b.add(numbers, b.mul(b.add(first, const(k)), const(2)))
                together = b.zext(load(b, place, word), I64) if at_once < 4 else load(b, place, word)
            number = b.and_(b.lshr(together, const(16 * (k % at_once))), const(0xFFFF))
            place = b.mul(number, const(COLUMNS // group * tile.operand_size))
            for part in range(COLUMNS // group):
                weights = tile.weights(b, b.add(at_tile, const(size * k + tile.lanes * group * part)))
                for vector, x in enumerate(operands):
                    at = b.add(b.add(x, place), const(tile.operand_size * part))
                    row[vector] = tile.dot(b, row[vector], tile.operands(b, at), weights)
        return new

    def _by_halves(self, builder: Any, parts: Sequence[Any]) -> list[Any]:
        """Return the sums of a gate's units, in parts of a tile's rows, in the order of the half blocks' rows."""
        joined = list(parts)
        while joined[0].type.count < self.isa.lanes:
            joined = [_shuffled(builder, one, two, range(2 * one.type.count)) for one, two in _pairs(joined)]
        if len(joined) == 1:
            return joined
        lanes, order = self.isa.lanes, self.isa.unit_order()
        return [_shuffled(builder, joined[0], joined[1], order[lanes * half : lanes * (half + 1)]) for half in range(2)]


def _pairs(parts: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _shuffled(builder: Any, first: Any, second: Any, order: Sequence[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(vector_type(len(order), 32), list(order)))


def layout_of(isa: Isa, bits: int) -> ByteLayout | FourBitLayout | ListLayout:
    """Return the layout for an instruction set of weights of 8 or 4 bits, or with lists of tiles for `LISTED`."""
    if bits == LISTED:
        return ListLayout(isa)
    return ByteLayout(isa) if bits == 8 else FourBitLayout(isa)
