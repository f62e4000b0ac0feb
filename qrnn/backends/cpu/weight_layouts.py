"""Weight layouts: how the weights of a block lie in memory, here in bytes, and their products; see also `qrnn.backends.cpu.four_bits`.

A half block holds the rows of a phase's gates for ``lanes`` units of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.isa import Isa, const, load
from qrnn.backends.cpu.parts import vector_type
from qrnn.model.parts import Int8Array, Matrix


def rows_of_units(isa: Isa, values: Int8Array, gates: int, columns: int) -> Int8Array:
    """Return [gate, block, half, lane, ``columns``] of values [G·H, K], padded with zeros.

    The units of a block are in the order of its half blocks' rows.
    """
    rows, K = values.shape
    H = rows // gates
    blocks = -(-H // isa.units)
    padded = np.zeros((gates, blocks * isa.units, columns), np.int8)
    padded[:, :H, :K] = values.reshape(gates, H, K)
    return padded[:, isa.unit_places(blocks)].reshape(gates, blocks, isa.halves, isa.lanes, columns)


def by_phase(parts: Sequence[npt.NDArray[Any]], phases: tuple[int, ...]) -> Int8Array:
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
    together = 1
    """Half blocks that lie together, at one address."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def groups(self, columns: int) -> int:
        """Return an even number, see `blocks.Step.dots`; for AMX whole blocks of units, as a tile multiplies weights behind the last group."""
        step = max(self.isa.units, 2 * self.isa.group) if self.isa.amx else 2 * self.isa.group
        return -(-columns // step) * step // self.isa.group

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Int8Array:
        """Pack all half blocks of a matrix, block after block."""
        isa, gates, groups = self.isa, sum(phases), self.groups(matrix.weight.shape[1])
        split = rows_of_units(isa, matrix.weight, gates, groups * isa.group)
        split = split.reshape(*split.shape[:4], groups, isa.group)
        return by_phase([split.transpose(1, 2, 4, 0, 3, 5)], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Return the bytes of one gate's rows in a half block."""
        return builder.mul(groups, const(self.isa.lanes * self.isa.group))

    def side_by_side(self, count: int) -> int:
        """Return how many gates' rows lie side by side, where ``count`` are multiplied."""
        return count

    def products(
        self,
        builder: Any,
        accs: Sequence[Any],
        operands: Sequence[Any],
        half_blocks: Sequence[Any],
        count: int,
        place: tuple[Any, Any],
    ) -> list[Any]:
        """Return accumulators [vector, gate, half block], flat, plus the products of ``unit`` groups: from group place[0] on, of place[1].

        ``operands`` are the addresses of the vectors' operands, and ``half_blocks`` those of half blocks of ``count`` gates.
        """
        b, isa, group = builder, self.isa, place[0]
        row_bytes, width = isa.lanes * isa.group, len(half_blocks) * count
        rows = [b.add(w, b.mul(group, const(row_bytes * self.side_by_side(count)))) for w in half_blocks]
        xs = [b.add(x, b.mul(group, const(isa.operand_size))) for x in operands]
        weights = [b.add(row, const(row_bytes * gate)) for gate in range(count) for row in rows]
        return [
            isa.dot(b, acc, isa.operands(b, xs[j // width]), isa.weights(b, weights[j % width]))
            for j, acc in enumerate(accs)
        ]


class OneGate(ByteLayout):
    """`ByteLayout`, of which the rows of one gate are multiplied; ``gates`` lie side by side."""

    def __init__(self, isa: Isa, gates: int) -> None:
        super().__init__(isa)
        self._gates = gates

    def side_by_side(self, count: int) -> int:
        """Return how many lie there, whichever are multiplied."""
        return self._gates


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
        """Return accumulators plus products; see `ByteLayout.products`."""
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
        """Return eight bytes of each of two operand vectors."""
        kind = vector_type(8, 8)
        return _chosen(builder, load(builder, one, kind), load(builder, two, kind), range(16))


_HALVES = ((0, 1, 4, 5), (2, 3, 6, 7))
"""The first two lanes of two vectors of four, and the last two."""

_ZIPPED = ((0, 4, 1, 5), (2, 6, 3, 7))
"""The columns of two groups side by side, of the first two rows and of the last two."""


def _chosen(builder: Any, one: Any, two: Any, places: Sequence[int]) -> Any:
    """Return lanes of two vectors."""
    return builder.shuffle_vector(one, two, ir.Constant(vector_type(len(places), 32), list(places)))
