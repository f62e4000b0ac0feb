"""Matrices as the exported C reads them: blocks of four rows, each packed for the target's dot product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.export.c_text import array, fields, words
from qrnn.export.layout import BLOCK_ROWS, pack_block, padded_columns
from qrnn.model.parts import Int8Array, Int32Array, Int64Array, Matrix
from qrnn.targets import Kernels

IntArray = TypeVar("IntArray", Int8Array, Int32Array)

NARROW_LIMIT = 127
"""Operands within it have 8 bits in C."""

MOST_COLUMNS = 0xFFFF // BLOCK_ROWS
"""A block's bytes are held in 16 bits."""


def plain_rows(count: int) -> Int64Array:
    """[blocks · 4]: rows 0 … count - 1, then -1 up to a whole block."""
    return np.pad(np.arange(count), (0, -count % BLOCK_ROWS), constant_values=-1)


def unit_rows(units: int, gates: int) -> Int64Array:
    """Row numbers of blocks [unit / 4][gate][unit % 4] of a recurrent layer, whose row gate · units + unit it is; -1 for padding."""
    unit = plain_rows(units).reshape(-1, 1, BLOCK_ROWS)
    rows = np.where(unit < 0, -1, unit + units * np.arange(gates)[None, :, None])
    return rows.reshape(-1)


@dataclass(frozen=True)
class CMatrix:
    """Definitions of a matrix's arrays, and the initializer of its ``qrnn_matrix``."""

    definitions: str
    initializer: str
    columns: int
    wide: bool
    left_shift: bool
    pre_shift: bool
    weight_bytes: int


def c_matrix(name: str, matrix: Matrix, pre_shift: Int8Array | None, rows: Int64Array, kernels: Kernels) -> CMatrix:
    """``matrix`` under the C name ``name``, its rows in the order ``rows``; UnsupportedError where a row is too long for a block."""
    wide = matrix.operand_limit > NARROW_LIMIT
    columns = padded_columns(matrix.weight.shape[1], kernels)
    if columns > MOST_COLUMNS:
        raise UnsupportedError(
            f"{name}: rows of {matrix.weight.shape[1]} columns, an export takes at most {MOST_COLUMNS}; make the layer smaller"
        )
    picked = _with_zeros(matrix.weight, rows)
    packed = [pack_block(block, kernels, wide) for block in picked.reshape(-1, BLOCK_ROWS, picked.shape[1])]
    row = np.stack([_with_zeros(v, rows).reshape(-1, BLOCK_ROWS) for v in (matrix.bias, matrix.multiplier)], axis=1)
    found = [array("uint32_t", f"{name}_weight", words(b"".join(packed)), f"blocks of {len(packed[0])} bytes")]
    found.append(array("int32_t", f"{name}_row", row, "four biases, four multipliers"))
    pointers = {}
    for shift_name, values in (("left_shift", matrix.left_shift), ("pre_shift", pre_shift)):
        pointers[shift_name] = "NULL"
        if values is not None and values.any():
            pointers[shift_name] = f"{name}_{shift_name}"
            found.append(array("uint8_t", f"{name}_{shift_name}", _with_zeros(values, rows)))
    members = fields(
        [
            ("weight", f"{name}_weight"),
            ("row", f"{name}_row"),
            ("left_shift", pointers["left_shift"]),
            ("pre_shift", pointers["pre_shift"]),
            ("columns", f"{columns}U"),
            ("block_bytes", f"{len(packed[0])}U"),
            ("wide", f"{int(wide)}U"),
        ]
    )
    return CMatrix(
        "\n".join(found),
        f"{{\n{members}\n}}",
        columns,
        wide,
        pointers["left_shift"] != "NULL",
        pointers["pre_shift"] != "NULL",
        sum(map(len, packed)),
    )


def _with_zeros(values: IntArray, rows: Int64Array) -> IntArray:
    """values[rows], zero where a row is -1."""
    picked = values[np.maximum(rows, 0)]
    picked[rows < 0] = 0
    return picked
