"""How a block's weights lie in memory, and their products: as bytes, or four bits each with a scale for every 32 columns.

A panel holds the rows of a phase's gates for one block of units. Both kinds give the same sums; four bits are read at little more than
half the bytes, and cost instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.isa import Isa, load
from qrnn.backends.cpu.vector import I64, vector_type
from qrnn.model.parts import SCALE_COLUMNS, Int8Array, Matrix, QuantMatrix4

Packed = npt.NDArray[np.uint8]

_VECTORS = 4
"""Vectors of packed weights for a gate's rows of a block in one group of `SCALE_COLUMNS`."""


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


def _blocks(isa: Isa, values: Int8Array, gates: int, columns: int) -> Int8Array:
    """[gate, block, lane, ``columns``] of values [G·H, K], padded with zeros."""
    rows, K = values.shape
    H = rows // gates
    blocks = -(-H // isa.lanes)
    padded = np.zeros((gates, blocks * isa.lanes, columns), np.int8)
    padded[:, :H, :K] = values.reshape(gates, H, K)
    return padded.reshape(gates, blocks, isa.lanes, columns)


def _by_phase(parts: Sequence[Any], phases: tuple[int, ...]) -> Packed:
    """Bytes of arrays [block, group, gate, …], of a block phase by phase, of a phase array by array."""
    ends = np.cumsum(phases)
    chosen = [part[:, :, e - p : e] for p, e in zip(phases, ends, strict=True) for part in parts]
    flat = [np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint8) for part in chosen]
    return np.concatenate(flat, axis=1).reshape(-1)


class Bytes:
    """Weights of eight bits: for each group of columns and gate, ``lanes`` times the ``group`` weights of a row."""

    bits = 8
    unit = 1
    """Groups of columns that `products` takes at once."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def groups(self, columns: int) -> int:
        """Whole blocks of units, as a step stores the operands of a block at once; and an even number, see `blocks.Step.dots`."""
        return -(-columns // self.isa.lanes) * self.isa.lanes // self.isa.group

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Packed:
        """All panels of a matrix, block after block."""
        isa, gates, groups = self.isa, sum(phases), self.groups(matrix.weight.shape[1])
        split = _blocks(isa, matrix.weight, gates, groups * isa.group)
        split = split.reshape(*split.shape[:3], groups, isa.group)
        return _by_phase([split.transpose(1, 3, 0, 2, 4)], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Bytes of one gate's rows in a panel."""
        return builder.mul(groups, _const(self.isa.lanes * self.isa.group))

    def products(
        self, builder: Any, accs: Sequence[Any], operands: Sequence[Any], weights: Any, group: Any, groups: Any
    ) -> list[Any]:
        """Accumulators [vector, gate], flat, plus the products of the ``unit`` groups from ``group`` on, of ``groups``.

        ``operands``: the addresses of the vectors' operands; ``weights``: of the panel's.
        """
        b, isa, count = builder, self.isa, len(accs) // len(operands)
        size = isa.lanes * isa.group
        base = b.add(weights, b.mul(group, _const(size * count)))
        xs = [b.add(x, b.mul(group, _const(isa.operand_size))) for x in operands]
        ws = [isa.weights(b, b.add(base, _const(size * gate))) for gate in range(count)]
        return [isa.dot(b, acc, xs[j // count], ws[j % count]) for j, acc in enumerate(accs)]


class Nibbles:
    """Weights of four bits (`QuantMatrix4`): for each group of `SCALE_COLUMNS` and gate `_VECTORS` vectors, whose words hold the weights
    of as many groups of columns as fit, the first in the lowest bits; after all of a phase's, its scales, a byte a row.

    A word is as wide as an operand. Shifted into its highest four bits a weight is multiplied as it is, 16 · q in a byte, or shifted down
    again where the products would not fit. The 32 products of one group sum to less than 2^20 (bytes of operands, 0…255, times 16 · q, so a
    multiple of 16) or 2^23 (int16 times q); times a scale of at most 15 they are the int8 weights' products, whose sums may wrap: `blocks`.
    """

    bits = 4

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.unit = SCALE_COLUMNS // isa.group
        self.per_word = isa.operand_bits // 4

    def groups(self, columns: int) -> int:
        """Whole groups of `SCALE_COLUMNS`."""
        return -(-columns // SCALE_COLUMNS) * self.unit

    def pack(self, matrix: Matrix, phases: tuple[int, ...]) -> Packed:
        """All panels of a matrix, block after block."""
        if not isinstance(matrix, QuantMatrix4):
            raise TypeError("weights of eight bits cannot be packed in four")
        isa, gates = self.isa, sum(phases)
        units = self.groups(matrix.columns) // self.unit
        q = _blocks(isa, matrix.q, gates, units * SCALE_COLUMNS)
        q = q.reshape(*q.shape[:3], units, _VECTORS, self.per_word, isa.group)
        words = np.zeros((*q.shape[:5], isa.group), np.uint16)
        for k in range(self.per_word):
            words |= (q[..., k, :].astype(np.uint16) & 15) << 4 * k
        words = words.astype(f"<u{isa.operand_bits // 8}").transpose(1, 3, 0, 4, 2, 5)
        scale = _blocks(isa, matrix.scale, gates, units).transpose(1, 3, 0, 2)
        return _by_phase([words, scale], phases)

    def gate_bytes(self, builder: Any, groups: Any) -> Any:
        """Bytes of one gate's rows in a panel, scales included."""
        units = builder.sdiv(groups, _const(self.unit))
        return builder.mul(units, _const(self._unit_bytes + self.isa.lanes))

    @property
    def _unit_bytes(self) -> int:
        return self.isa.lanes * SCALE_COLUMNS // 2

    def products(
        self, builder: Any, accs: Sequence[Any], operands: Sequence[Any], weights: Any, group: Any, groups: Any
    ) -> list[Any]:
        """See `Bytes.products`."""
        b, isa, count = builder, self.isa, len(accs) // len(operands)
        here, units = b.sdiv(group, _const(self.unit)), b.sdiv(groups, _const(self.unit))
        base = b.add(weights, b.mul(here, _const(self._unit_bytes * count)))
        scales = b.add(weights, b.mul(units, _const(self._unit_bytes * count)))
        scales = b.add(scales, b.mul(here, _const(isa.lanes * count)))
        xs = [b.add(x, b.mul(group, _const(isa.operand_size))) for x in operands]
        sums = list(accs)
        for gate in range(count):
            ws = self._expanded(b, b.add(base, _const(self._unit_bytes * gate)))
            narrow = load(b, b.add(scales, _const(isa.lanes * gate)), vector_type(isa.lanes, 8))
            scale = b.sext(narrow, vector_type(isa.lanes, 32))
            for vector, x in enumerate(xs):
                j = vector * count + gate
                sums[j] = b.add(sums[j], b.mul(self._group_sum(b, x, ws), scale))
        return sums

    def _expanded(self, builder: Any, address: Any) -> list[Any]:
        """The weights of ``unit`` groups of columns as `Isa.dot` takes them, 16 times as large where operands are bytes."""
        b, isa = builder, self.isa
        kind = vector_type(isa.lanes * isa.group, isa.operand_bits)

        def every(value: int) -> Any:
            return ir.Constant(kind, [value] * kind.count)

        found = []
        size = kind.count * isa.operand_bits // 8
        for vector in range(_VECTORS):
            packed = load(b, b.add(address, _const(size * vector)), kind)
            for k in range(self.per_word):
                top = b.shl(packed, every(isa.operand_bits - 4 - 4 * k))
                found.append(b.and_(top, every(0xF0)) if isa.operand_bits == 8 else b.ashr(top, every(12)))
        return found

    def _group_sum(self, builder: Any, operands: Any, ws: Sequence[Any]) -> Any:
        """Σ q · operand over one group of `SCALE_COLUMNS`."""
        b, isa = builder, self.isa
        kind = vector_type(isa.lanes, 32)
        total = ir.Constant(kind, [0] * isa.lanes)
        for k, w in enumerate(ws):
            total = isa.dot(b, total, b.add(operands, _const(isa.operand_size * k)), w)
        return b.ashr(total, ir.Constant(kind, [4] * isa.lanes)) if isa.operand_bits == 8 else total


def panels(isa: Isa, bits: int) -> Bytes | Nibbles:
    """The layout of weights of 8 or 4 bits."""
    return Bytes(isa) if bits == 8 else Nibbles(isa)
