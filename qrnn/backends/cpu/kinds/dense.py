"""Dense layers on the CPU: by plain loops, or by the dot products of the fused steps, of many vectors at once or of one.

For the latter, rows are packed as `qrnn.backends.cpu.packed` packs a cell's: `parts_of` blocks of ``lanes`` rows, which share each load of an
operand, stand where a cell has its gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrnn.backends.cpu import matrix, plain
from qrnn.backends.cpu.block_lists import LISTED, list_limit, listed_share
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.packed import encoded_bytes, pack_matrix
from qrnn.backends.cpu.pages import aligned
from qrnn.backends.cpu.tasks import ROWS, Reused, Tasks
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.parts import Int16Array, Int64Array, QuantMatrix
from qrnn.model.quant_model import QuantModel

MOST_PARTS = 4
"""The most blocks of rows that are multiplied together: as many as AMX has tiles for sums."""


def parts_of(isa: Isa, rows: int) -> int:
    """Return how many blocks of rows are multiplied together: no more than the rows fill."""
    return min(MOST_PARTS, -(-rows // isa.lanes))


def _in_parts(isa: Isa, values: Any) -> Any:
    """Return the values of rows, padded with zeros and in the order of (part, block, lane).

    The results of all parts of a block are then rows in order.
    """
    parts = parts_of(isa, len(values))
    blocks = -(-len(values) // (parts * isa.lanes))
    padded = np.zeros((blocks * parts * isa.lanes, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    split = padded.reshape(blocks, parts, isa.lanes, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(0, 1)).reshape(padded.shape)


class DenseScratch(NamedTuple):
    """Scratch of `qrnn.backends.cpu.rows.dense.run`, for `AHEAD` vectors at a time."""

    operands: Any
    """Encoded operands, [AHEAD, bytes]."""
    results: Int16Array
    """Results, padded to whole blocks, [AHEAD, R]."""
    tails: Int16Array
    """Room for the last columns of a vector, [units]."""
    sums: Any
    """Accumulators of `matrix.VECTORS` vectors, int32."""
    tile_config: Any
    """The shapes of AMX's tiles, [64] uint8."""


class PackedDense:
    """One layer, packed: `qrnn.backends.cpu.rows.dense.run` with everything but the vectors filled in."""

    def __init__(self, isa: Isa, layer: QuantDense, bits: int = 8) -> None:
        m, operand = layer.matrix, layer.operand
        weight, bias, multiplier, left_shift, pre_shift = (
            _in_parts(isa, v) for v in (m.weight, m.bias, m.multiplier, m.left_shift, layer.pre_shift)
        )
        ordered = QuantMatrix(weight, bias, multiplier, left_shift, m.operand_limit)
        self._isa, self._columns, self.bits = isa, m.weight.shape[1], bits
        self._parts = parts_of(isa, m.weight.shape[0])
        self.rows = pack_matrix(isa, ordered, pre_shift, (self._parts,), operand, bits)
        self.fixed = (self.rows, (operand.shift, operand.limit))

    def scratch(self) -> DenseScratch:
        """Make the scratch of one call."""
        _, params, _, byte_parts = self.rows
        return DenseScratch(
            aligned((AHEAD, encoded_bytes(self._isa, self._columns, byte_parts)), np.uint8),
            aligned((AHEAD, len(params) * self._parts * self._isa.lanes), np.int16),
            aligned((self._isa.units,), np.int16),
            aligned((matrix.VECTORS * self._parts * self._isa.lanes,), np.int32),
            np.array(matrix.tile_config(), np.uint8),
        )

    def call(self, place: Any, x: Any, out: Any) -> Call:
        """Return the call for rows place[FIRST] … place[LAST] - 1, with a scratch of its own."""
        kernel = Kernel(f"{ROWS}.dense", "compiled", (self._isa.name, self.bits, self._parts))
        return Call(kernel, place, *self.fixed, x, out, self.scratch(), isa=self._isa)


class DenseRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantDense, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        self._matrix = plain.pack_matrix(layer.matrix)
        self._share = 1.0
        if (isa := tasks.isa) is not None:
            weight = layer.matrix.weight
            self._share = listed_share(isa, _in_parts(isa, weight), parts_of(isa, len(weight)))
        self._packed: dict[int, PackedDense] = {}
        if tasks.isa is not None:
            self._packed_as(self._bits(1))

    def _bits(self, vectors: int) -> int:
        """Return how weights are packed for so many vectors at a time: in 8 bits, or by lists of tiles."""
        isa, tuning = self.tasks.isa, self.tasks.tuning
        return LISTED if isa is not None and self._share <= list_limit(isa, tuning, vectors) else 8

    def _packed_as(self, bits: int) -> PackedDense:
        """Return the layer packed so; it is packed when first needed."""
        assert self.tasks.isa is not None
        if bits not in self._packed:  # Two threads may both make it, since either serves.
            self._packed[bits] = PackedDense(self.tasks.isa, self._layer, bits)
        return self._packed[bits]

    def _call(self, packed: PackedDense | None, place: Int64Array, x: Any, out: Any) -> Call:
        if packed is not None:
            return packed.call(place, x, out)
        layer, own = self._layer, (np.empty(x.shape[1], np.int16), np.empty(out.shape[1], np.int32))
        operand = layer.operand.shift, layer.operand.limit
        return self.tasks.call("dense", "dense", place, self._matrix, layer.pre_shift, *operand, x, out, own)

    def _packed_for(self, vectors: int) -> PackedDense | None:
        """Return what a call of so many vectors goes by; None where that is the plain loops."""
        few = vectors * self._layer.matrix.weight.size < self.tasks.tuning.dense_macs
        return None if few or self.tasks.isa is None else self._packed_as(self._bits(vectors))

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        x, out = walk.tensors[self._layer.input], walk.tensors[self._layer.output]
        return [self._call(self._packed_for(x.size // x.shape[-1]), walk.place_of(self._layer.output), x, out)]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        (x,) = inputs
        (M, K), R = x.shape, self._layer.matrix.weight.shape[0]
        x, out = np.ascontiguousarray(x), np.empty((M, R), np.int16)
        packed = self._packed_for(M)

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return self._call(packed, control, *(np.zeros((1, n), np.int16) for n in (K, R)))

        how = Reused((self._layer.name, None if packed is None else packed.bits), make, 5 if packed is None else 3)
        if packed is None:
            self.tasks.in_tasks((x, out), how, R * K, self.tasks.tuning.task_macs)
        else:
            self.tasks.in_tasks((x, out), how, R * K, self.tasks.tuning.share_macs, AHEAD)
        return out

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the calls over many rows; see `LayerRun.ahead`."""
        if self.tasks.isa is not None:
            rows, columns = self._layer.matrix.weight.shape
            x, out = np.zeros((1, columns), np.int16), np.zeros((1, rows), np.int16)
            for bits in sorted({self._bits(1), self._bits(AHEAD)}):
                yield self._packed_as(bits).call(np.zeros(3, np.int64), x, out)


RUN = DenseRun
