"""The exported C reads matrices in blocks of four rows, each packed for the target's dot product."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.export.c_text import CONSTANTS, WEIGHTS, array, fields, words
from qrnn.export.layout import (
    VECTORS,
    block_rows,
    pack_block,
    pack_block_four,
    pack_halves,
    padded_columns,
    row_biases,
    takes_halves,
)
from qrnn.export.lists import Lists, choose_lists
from qrnn.model.parts import SCALE_COLUMNS, Int8Array, Int32Array, Int64Array, Matrix, QuantMatrix4
from qrnn.targets import Kernels, ListCosts

IntArray = TypeVar("IntArray", Int8Array, Int32Array)


class Biases(IntEnum):
    """How a matrix has its biases in C; the names and numbers are those of targets/runtime/qrnn_types.h."""

    NONE = 0
    LONG = 1
    SHORT = 2


NARROW_LIMIT = 127
"""The largest magnitude of operands that have 8 bits in C."""

MOST_COLUMNS = 0xFFFF // 4
"""The most columns of a row: 16 bits hold the number of bytes of a block of four rows."""


def plain_rows(count: int, kernels: Kernels) -> Int64Array:
    """Return the row numbers of blocks, [blocks · rows of one]: 0 … count - 1, then -1 up to a whole block."""
    return np.pad(np.arange(count), (0, -count % block_rows(kernels)), constant_values=-1)


def unit_rows(units: int, gates: int, kernels: Kernels) -> Int64Array:
    """Return row numbers of blocks [unit / B][gate][unit % B] of a recurrent layer, whose rows are gate · units + unit; -1 for padding.

    B are the rows of a block.
    """
    unit = plain_rows(units, kernels).reshape(-1, 1, block_rows(kernels))
    rows = np.where(unit < 0, -1, unit + units * np.arange(gates)[None, :, None])
    return rows.reshape(-1)


@dataclass(frozen=True)
class CMatrix:
    """The definitions of a matrix's arrays, and the initializer of its ``qrnn_matrix``."""

    definitions: str
    initializer: str
    columns: int
    wide: bool
    four: bool
    halves: bool
    biases: Biases
    short_multipliers: bool
    raw: bool
    left_shift: bool
    pre_shift: bool
    weight_bytes: int
    lists: Lists
    bytes_without_lists: int


def c_matrix(
    name: str,
    matrix: Matrix,
    pre_shift: Int8Array | None,
    rows: Int64Array,
    kernels: Kernels,
    costs: ListCosts | None = None,
    gathered: bool = False,
    raw: bool = False,
) -> CMatrix:
    """Return ``matrix`` under the C name ``name``, its rows in the order ``rows``; UnsupportedError where a row is too long for a block.

    ``costs`` are those of lists of tiles (`qrnn.export.lists`); what multiplies by it reads none where they are None. ``gathered`` matrices,
    those of convolutions, have weights of bytes and multipliers of 32 bits, as the loops over windows take them. ``raw`` matrices of mla
    kernels read int16 as they are.
    """
    wide = matrix.operand_limit > NARROW_LIMIT
    four = stays_four_bit(matrix, kernels)
    picked = _with_zeros(matrix.weight, rows)
    lists, listed = Lists.NONE, b""
    if costs is not None:
        lists, listed = choose_lists(picked, kernels, costs, dense_bytes(matrix, rows, kernels))
    four &= lists is Lists.NONE
    count = matrix.weight.shape[1]
    halves = lists is Lists.NONE and not (four or gathered) and takes_halves(count, kernels, wide)
    columns = padded_columns(count, kernels, four)
    if columns > MOST_COLUMNS:
        raise UnsupportedError(
            f"{name}: rows of {count} columns, an export takes at most {MOST_COLUMNS}; make the layer smaller"
        )
    packed = [listed] if lists else _halves(picked, kernels) if halves else _packed(matrix, rows, kernels, wide, four)
    what = f"blocks of {len(packed[0])} bytes" if lists is Lists.NONE else "lists of tiles"
    bias = row_biases(matrix.bias, matrix.weight, kernels, wide, four, columns)
    biases, bias_shift = _biases(bias, kernels)
    multiplier_shift = 0 if gathered or kernels != "plain" else short_shift(matrix.multiplier)
    numbers = [bias] if biases is Biases.LONG else []
    numbers += [] if multiplier_shift else [matrix.multiplier]
    found = [array("uint32_t", f"{name}_weight", words(b"".join(packed)), what, WEIGHTS)]
    pointers = {"row": "NULL", "short_bias": "NULL", "short_multiplier": "NULL"}
    if numbers:
        row = np.stack([_with_zeros(v, rows).reshape(-1, block_rows(kernels)) for v in numbers], axis=1)
        remark = " and ".join(
            [*(["biases"] if biases is Biases.LONG else []), *([] if multiplier_shift else ["multipliers"])]
        )
        found.append(array("int32_t", f"{name}_row", row, f"{remark} of a block", CONSTANTS))
        pointers["row"] = f"{name}_row"
    if multiplier_shift:
        pointers["short_multiplier"] = f"{name}_multiplier"
        pairs = words(_with_zeros(matrix.multiplier >> multiplier_shift, rows).astype("<u2").tobytes())
        found.append(array("uint32_t", f"{name}_multiplier", pairs, "pairs of multipliers", CONSTANTS))
    if biases is Biases.SHORT:
        pointers["short_bias"] = f"{name}_bias"
        short = _with_zeros(bias >> bias_shift, rows).astype("<i2")
        found.append(array("uint32_t", f"{name}_bias", words(short.tobytes()), "pairs of biases", CONSTANTS))
    for shift_name, values in (("left_shift", matrix.left_shift), ("pre_shift", pre_shift)):
        pointers[shift_name] = "NULL"
        if values is not None and values.any():
            pointers[shift_name] = f"{name}_{shift_name}"
            found.append(array("uint8_t", f"{name}_{shift_name}", _with_zeros(values, rows), place=CONSTANTS))
    members = fields(
        [
            ("weight", f"{name}_weight"),
            ("row", pointers["row"]),
            ("short_bias", pointers["short_bias"]),
            ("short_multiplier", pointers["short_multiplier"]),
            ("left_shift", pointers["left_shift"]),
            ("pre_shift", pointers["pre_shift"]),
            ("columns", f"{columns}U"),
            ("block_bytes", f"{0 if lists else len(packed[0])}U"),
            ("wide", f"{int(wide)}U"),
            ("raw", f"{int(raw)}U"),
            ("four", f"{int(four)}U"),
            ("biases", f"{int(biases)}U"),
            ("bias_shift", f"{bias_shift}U"),
            ("multiplier_shift", f"{multiplier_shift}U"),
            ("lists", f"{int(lists)}U"),
            ("halves", f"{int(halves)}U"),
        ]
    )
    return CMatrix(
        "\n".join(found),
        f"{{\n{members}\n}}",
        columns,
        wide,
        four,
        halves,
        biases,
        multiplier_shift > 0,
        raw,
        pointers["left_shift"] != "NULL",
        pointers["pre_shift"] != "NULL",
        sum(map(len, packed)),
        lists,
        dense_bytes(matrix, rows, kernels),
    )


def _biases(bias: Int32Array, kernels: Kernels) -> tuple[Biases, int]:
    """Return how the biases of a matrix are stored, and by how many bits they are shifted right before.

    In `plain` kernels the biases of a matrix without any make up for the offset of operands: they are multiples of a power of two.
    """
    if kernels in VECTORS or kernels == "avr":
        return Biases.LONG, 0
    if not bias.any():
        return Biases.NONE, 0
    bits = int(np.bitwise_or.reduce(bias))
    shift = (bits & -bits).bit_length() - 1
    short = shift <= 16 and bool((np.abs(bias.astype(np.int64) >> shift) < 1 << 15).all())
    return (Biases.SHORT, shift) if kernels in ("plain", "mla") and short else (Biases.LONG, 0)


def short_shift(multiplier: Int32Array) -> int:
    """Return the s for which all multipliers are 2^s times numbers of 16 bits without a sign; 0 where there is none."""
    bits = int(np.bitwise_or.reduce(multiplier))
    shift = min((bits & -bits).bit_length() - 1, 15)
    return shift if bits and bits >> shift < 1 << 16 else 0


def stays_four_bit(matrix: Matrix, kernels: Kernels) -> bool:
    """Return whether ``matrix`` has four-bit weights that take less room as they are, in whole groups of columns, than as bytes.

    Kernels of vectors multiply bytes alone: a desktop's memory holds them, and bytes take less time.
    """
    if not isinstance(matrix, QuantMatrix4) or kernels in VECTORS:
        return False
    groups: int = matrix.scale.shape[1]
    return groups * (SCALE_COLUMNS // 2 + 1) < padded_columns(matrix.columns, kernels)


def dense_bytes(matrix: Matrix, rows: Int64Array, kernels: Kernels) -> int:
    """Return the bytes of the weights of the rows ``rows`` in C without lists."""
    four = stays_four_bit(matrix, kernels)
    columns = padded_columns(matrix.weight.shape[1], kernels, four)
    row = columns // SCALE_COLUMNS * (SCALE_COLUMNS // 2 + 1) if four else columns
    return row * len(rows)


def _packed(matrix: Matrix, rows: Int64Array, kernels: Kernels, wide: bool, four: bool) -> list[bytes]:
    """Return the blocks of the rows ``rows``."""
    if four and isinstance(matrix, QuantMatrix4):
        q, scale = _with_zeros(matrix.q, rows), _with_zeros(matrix.scale, rows)
        height = block_rows(kernels)
        blocks = zip(q.reshape(-1, height, q.shape[1]), scale.reshape(-1, height, scale.shape[1]), strict=True)
        return [pack_block_four(*block, kernels, wide) for block in blocks]
    picked = _with_zeros(matrix.weight, rows)
    return [pack_block(block, kernels, wide) for block in picked.reshape(-1, block_rows(kernels), picked.shape[1])]


def _halves(picked: Int8Array, kernels: Kernels) -> list[bytes]:
    """Return the blocks of rows of weights, stored as halfwords."""
    return [pack_halves(block) for block in picked.reshape(-1, block_rows(kernels), picked.shape[1])]


def _with_zeros(values: IntArray, rows: Int64Array) -> IntArray:
    """Return values[rows], zero where a row is -1."""
    picked = values[np.maximum(rows, 0)]
    picked[rows < 0] = 0
    return picked
