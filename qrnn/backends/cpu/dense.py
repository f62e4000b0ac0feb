"""Dense layers by the dot products of the fused steps: of many vectors at once, or of one.

Rows are packed as `qrnn.backends.cpu.packed` packs a cell's: `PARTS` blocks of ``lanes`` rows, which share each load of an operand, stand
where a cell has its gates. The loops are in `qrnn.backends.cpu.dense_rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu import matrix
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.packed import aligned, operand_bytes, pack_matrix
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.parts import QuantMatrix

PARTS = 4
"""Blocks of rows that are multiplied together: as many as AMX has tiles for sums."""


def _in_parts(isa: Isa, values: Any) -> Any:
    """Values of rows, padded with zeros and in the order of (part, block, lane), so that a block's results of all parts are rows in order."""
    blocks = -(-len(values) // (PARTS * isa.lanes))
    padded = np.zeros((blocks * PARTS * isa.lanes, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    split = padded.reshape(blocks, PARTS, isa.lanes, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(0, 1)).reshape(padded.shape)


class DenseRun:
    """One layer, packed and compiled: `run` with everything but the vectors filled in."""

    def __init__(self, isa: Isa, layer: QuantDense) -> None:
        m, operand = layer.matrix, layer.operand
        weight, bias, multiplier, left_shift, pre_shift = (
            _in_parts(isa, v) for v in (m.weight, m.bias, m.multiplier, m.left_shift, layer.pre_shift)
        )
        ordered = QuantMatrix(weight, bias, multiplier, left_shift, m.operand_limit)
        self._isa, self._columns = isa, m.weight.shape[1]
        self.rows = pack_matrix(isa, ordered, pre_shift, (PARTS,), operand)
        self.fixed = (self.rows, (operand.shift, operand.limit))

    def scratch(self) -> tuple[Any, ...]:
        """Operands and results of `AHEAD` vectors, last columns, sums, the tiles' shapes."""
        _, params, _, planes = self.rows
        return (
            aligned((AHEAD, operand_bytes(self._isa, self._columns, planes)), np.uint8),
            aligned((AHEAD, len(params) * PARTS * self._isa.lanes), np.int16),
            aligned((self._isa.units,), np.int16),
            aligned((matrix.VECTORS * PARTS * self._isa.lanes,), np.int32),
            np.array(matrix.tile_config(), np.uint8),
        )

    def call(self, place: Any, x: Any, out: Any) -> Call:
        """Rows place[FIRST] … place[LAST] - 1, with a scratch of its own."""
        kernel = Kernel("qrnn.backends.cpu.dense_rows", "compiled", (self._isa.name,))
        return Call(kernel, place, *self.fixed, x, out, self.scratch(), isa=self._isa)
