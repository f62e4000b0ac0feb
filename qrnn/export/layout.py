"""How the weights of four rows stand in memory, for each set of dot products in `targets/runtime/`."""

import numpy as np

from qrnn.model.parts import Int8Array
from qrnn.targets import Kernels

BLOCK_ROWS = 4
"""Rows of a block; QRNN_BLOCK_ROWS in targets/runtime/qrnn_types.h."""

COLUMNS: dict[Kernels, int] = {"plain": 4, "dsp": 8, "mve": 16}
"""QRNN_COLUMNS of the three headers: rows are padded with zero columns to a multiple of this."""


def padded_columns(columns: int, kernels: Kernels) -> int:
    """`columns`, rounded up to what the dot products of `kernels` read."""
    step = COLUMNS[kernels]
    return -(-columns // step) * step


def pack_block(weight: Int8Array, kernels: Kernels, wide: bool) -> bytes:
    """The bytes of four rows (4, K) of weights in [-127, 127], with their zero columns, for `qrnn_dot4` or, wide, `qrnn_dot4_wide`.

    - plain: column by column; the column's four bytes are w0 + 128, w1 + 128, w2 + 128 and w3.
    - dsp: two columns by two columns, for each two rows by two rows: a0, b0, a1, b1 with a_k = w[r, k] and b_k = w[r+1, k],
      minus 1 where a_k < 0. So the halfword of column k is the integer a_k + 256 * w[r+1, k].
    - mve: 16 columns by 16 columns (wide: 8 by 8), row by row the weights of these columns.
    """
    rows, columns = weight.shape
    if rows != BLOCK_ROWS:
        raise ValueError(f"a block has {BLOCK_ROWS} rows, not {rows}")
    w = np.zeros((rows, padded_columns(columns, kernels)), np.int8)
    w[:, :columns] = weight
    if kernels == "plain":
        return bytes((w.T ^ np.array([-128, -128, -128, 0], np.int8)).tobytes())
    if kernels == "dsp":
        w[1::2] -= w[0::2] < 0
        return w.reshape(2, 2, -1, 2).transpose(2, 0, 3, 1).tobytes()
    return w.reshape(rows, -1, 8 if wide else 16).transpose(1, 0, 2).tobytes()
