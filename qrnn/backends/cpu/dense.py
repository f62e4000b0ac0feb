"""Dense layers by the dot products of the fused steps: of many vectors at once, or of one.

Rows are packed as `qrnn.backends.cpu.packed` packs a cell's: `PARTS` blocks of ``lanes`` rows, which share each load of an operand, stand
where a cell has its gates. `run` is a template, as in `qrnn.backends.cpu.fused`.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from qrnn.backends.cpu import matrix
from qrnn.backends.cpu.calls import FIRST, LAST, Call, address
from qrnn.backends.cpu.fused import (
    AHEAD,
    configure,
    encode_vectors,
    input_product,
    release,
    shared_parts,
)
from qrnn.backends.cpu.isa import ISAS, Isa
from qrnn.backends.cpu.jit import emitted, jit, jit_entry, renamed
from qrnn.backends.cpu.packed import aligned, operand_bytes, pack_matrix, take
from qrnn.backends.cpu.steps import Form
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.parts import QuantMatrix

PARTS = 4
"""Blocks of rows that are multiplied together: as many as AMX has tiles for sums."""


def run(rows: Any, formats: Any, x: Any, out: Any, scratch: Any, m0: int, m1: int) -> None:
    """Rows m0 … m1 - 1 of x [M, K] int16 → out [M, R] int16.

    rows (weights, params, groups, planes); formats (shift, limit) of the operand; scratch: `DenseRun`.
    """
    operands, results, tails, sums, config = scratch
    weights, params, groups, planes = rows
    row = 2 * x.shape[1]
    encoding = (row, x.shape[1], address(tails), address(operands), operands.shape[1], *formats, groups, planes)
    blocks, of_results = params.shape[0], 2 * results.shape[1]
    product = (
        address(weights), address(params), address(operands), operands.shape[1], address(results), of_results, of_results // blocks,
        groups, planes, address(sums),
    )  # fmt: skip
    configure(address(config))
    for start in range(m0, m1, AHEAD):
        count = min(AHEAD, m1 - start)
        encode_vectors((address(x) + start * row, *encoding), count)
        input_product(product, count, 0, blocks)
        for k in range(count):
            out[start + k] = results[k, : out.shape[1]]
    release(0)


def _emit_product(isa: Isa, builder: Any, values: Any, vectors: Any, first: Any, last: Any) -> None:
    matrix.emit_product(builder, isa, PARTS, values, vectors, first, last, form=Form(), dense=True)


@cache
def compiled(isa_name: str) -> Any:
    """`run` for an instruction set."""
    isa = next(i for i in ISAS if i.name == isa_name)
    space = globals() | shared_parts(isa)
    space["input_product"] = emitted(partial(_emit_product, isa), 4)
    return jit_entry(renamed(run, f"dense_{isa_name}", space))


def dense(rows: Any, formats: Any, x: Any, out: Any, scratch: Any, m0: int, m1: int) -> None:
    """`run`, compiled."""
    raise NotImplementedError


def run_rows(place: Any, rows: Any, formats: Any, x: Any, out: Any, scratch: Any) -> None:
    """`run` for rows place[`FIRST`] … place[`LAST`] - 1."""
    dense(rows, formats, x, out, scratch, place[FIRST], place[LAST])


@cache
def compiled_rows(isa_name: str) -> Any:
    """`run_rows` for an instruction set."""
    return jit(renamed(run_rows, f"dense_rows_{isa_name}", globals() | {"dense": compiled(isa_name)}))


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
        self._idle: list[tuple[Any, ...]] = []

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

    def run(self, x: Any, out: Any, m0: int, m1: int) -> None:
        """Rows m0 … m1 - 1; many threads may call."""
        own = take(self._idle) or self.scratch()
        compiled(self._isa.name)(*self.fixed, x, out, own, m0, m1)
        self._idle.append(own)

    def call(self, place: Any, x: Any, out: Any) -> Call:
        """`run_rows` with a scratch of its own."""
        return Call(compiled_rows(self._isa.name), place, *self.fixed, x, out, self.scratch())
