"""The weights of four rows stand in memory in an order of their own for each set of dot products in `targets/runtime/`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import SCALE_COLUMNS, Int8Array
from qrnn.targets import Kernels


@dataclass(frozen=True)
class VectorRows:
    """How the rows of a block lie in the lanes of a vector; the header qrnn_dot_….h of the kernels says why.

    The weights stand group of columns by group of columns, row by row those of the group. ``group`` and ``wide_group`` are its columns for
    operands of 8 and of 16 bits, ``offset`` and ``wide_offset`` what is taken off each operand.
    """

    rows: int
    columns: int
    group: int
    wide_group: int
    offset: int = 0
    wide_offset: int = 0


VECTORS: dict[Kernels, VectorRows] = {
    "avx2": VectorRows(8, 8, 4, 2),
    "vnni": VectorRows(16, 16, 4, 4, -128, -(1 << 15)),
    "neon": VectorRows(4, 8, 4, 4, 0, 128),
    "wasm": VectorRows(4, 4, 2, 2),
    "rvv": VectorRows(8, 8, 1, 1),
}
"""The kernels whose products go through vectors of rows (targets/runtime/qrnn_dot_lanes.h)."""

BLOCK_LOOPS: tuple[Kernels, ...] = ("dsp", "mve")
"""The kernels that have loops over whole blocks of rows, targets/runtime/qrnn_blocks_….h, which include the header of products."""

COLUMNS: dict[Kernels, int] = {
    "plain": 4,
    "mla": 4,
    "dsp": 4,
    "mve": 16,
    "avr": 4,
    **{name: v.columns for name, v in VECTORS.items()},
}
"""QRNN_COLUMNS of the headers of dot products: rows are padded with zero columns to a multiple of this."""

MOST_WIDE_HALVES, MOST_HALVES = 48, 4
"""The most columns of rows that are stored as halfwords: with operands of 16 bits, and with operands of 8."""

CHANNELS: dict[Kernels, int] = {"mve": 8}
"""QRNN_CHANNELS of targets/runtime/qrnn_channels_….h where it is not 4: the channels of a depthwise convolution that are computed at a time."""


def block_rows(kernels: Kernels) -> int:
    """Return the rows of a block; QRNN_BLOCK_ROWS in targets/runtime/qrnn_types.h."""
    return VECTORS[kernels].rows if kernels in VECTORS else 4


def padded_columns(columns: int, kernels: Kernels, four: bool = False) -> int:
    """Return `columns`, rounded up to what the dot products of `kernels` read; for weights of four bits, to whole groups."""
    step = SCALE_COLUMNS if four else COLUMNS[kernels]
    return -(-columns // step) * step


def row_biases(
    bias: npt.NDArray[np.integer],
    weight: npt.NDArray[np.integer],
    kernels: Kernels,
    wide: bool,
    four: bool,
    columns: int,
) -> npt.NDArray[np.int32]:
    """Return what the dot products of `kernels` begin with for rows of ``weight``, of ``columns`` columns with their padding.

    - mve, wide: 128 is taken off each operand, and the biases make up for it; so they do for the offsets of `VECTORS`.
    - plain, and mla, wide, but for weights of four bits: 128, or wide 32768, is added to each operand, which makes them positive.
    - avr: both factors are made positive. The sum of (w + 128) (x + a) is that of w x, and a times the sum of w, and 128 times the sum of x,
      and 128 a for each column; of these the sum of x is not known before a step. Weights of four bits are taken as they are.
    """
    a = 0
    if kernels in VECTORS:
        a = -(VECTORS[kernels].wide_offset if wide else VECTORS[kernels].offset)
    elif kernels == "mve" and wide:
        a = -128
    elif (kernels in ("plain", "avr") or (kernels == "mla" and wide)) and not four:
        a = 32768 if wide else 128
    found = bias.astype(np.int64) - a * weight.sum(axis=1, dtype=np.int64)
    found -= 128 * a * columns if kernels == "avr" else 0
    wrapped: npt.NDArray[np.int32] = (found & 0xFFFFFFFF).astype(np.uint32).view(np.int32)  # modulo 2^32, as sums are
    return wrapped


def pack_block(weight: Int8Array, kernels: Kernels, wide: bool) -> bytes:
    """Return the bytes of a block's rows (4, K) of weights in [-127, 127], with zero columns, for `qrnn_dot4` or, ``wide``, `qrnn_dot4_wide`.

    - plain, and mla, wide: column by column; the column's four bytes are w0 + 128, w1 + 128, w2 + 128 and w3.
    - mla: two columns a, b by two columns, for each two rows by two rows: r[b], s[b], r[a], s[a], each plus 128.
    - dsp: two columns by two columns, for each two rows by two rows: a0, b0, a1, b1 with a_k = w[r, k] and b_k = w[r+1, k],
      minus 1 where a_k < 0. So the halfword of column k is the integer a_k + 256 * w[r+1, k].
    - mve: 16 columns by 16 columns, row by row the weights of these columns.
    - avr: column by column w0 + 128, w1 + 128, w2 + 128 and w3 + 128.
    - `VECTORS`: group by group of columns, row by row the weights of the group.
    """
    rows, columns = weight.shape
    if rows != block_rows(kernels):
        raise ValueError(f"a block has {block_rows(kernels)} rows, not {rows}")
    w = np.zeros((rows, padded_columns(columns, kernels)), np.int8)
    w[:, :columns] = weight
    if kernels in VECTORS:
        group = VECTORS[kernels].wide_group if wide else VECTORS[kernels].group
        return w.reshape(rows, -1, group).transpose(1, 0, 2).tobytes()
    if kernels == "mla" and not wide:
        pairs = w.reshape(2, 2, -1, 2)[..., ::-1]
        return bytes((pairs.transpose(2, 0, 3, 1) ^ np.int8(-128)).tobytes())
    if kernels in ("plain", "mla"):
        return bytes((w.T ^ np.array([-128, -128, -128, 0], np.int8)).tobytes())
    if kernels == "avr":
        return bytes((w.T ^ np.int8(-128)).tobytes())
    if kernels == "dsp":
        w[1::2] -= w[0::2] < 0
        return w.reshape(2, 2, -1, 2).transpose(2, 0, 3, 1).tobytes()
    return w.reshape(rows, -1, 16).transpose(1, 0, 2).tobytes()


def takes_halves(columns: int, kernels: Kernels, wide: bool) -> bool:
    """Return whether rows of ``columns`` weights are stored as halfwords, which take fewer instructions and up to twice the room.

    So are short rows with operands of 16 bits, and rows of very few columns.
    """
    return kernels == "dsp" and columns <= (MOST_WIDE_HALVES if wide else MOST_HALVES)


def pack_halves(weight: Int8Array) -> bytes:
    """Return the bytes of a block's rows (4, K) of weights in [-127, 127] as halfwords, with zero columns, for `qrnn_dot4_halves`.

    Two columns by two columns, row by row the weights of both; the last four columns come before the others.
    """
    rows, columns = weight.shape
    w = np.zeros((rows, padded_columns(columns, "dsp")), "<i2")
    w[:, :columns] = weight
    return np.roll(w, COLUMNS["dsp"], axis=1).reshape(rows, -1, 2).transpose(1, 0, 2).tobytes()


def pack_block_four(q: Int8Array, scale: Int8Array, kernels: Kernels, wide: bool) -> bytes:
    """Return the bytes of four rows of four-bit weights, q (4, K) and scale (4, K / 32 rounded up), for `qrnn_dot4_four` or `…_wide`.

    Each group of 32 columns has the scales of the four rows, a byte each, and then 64 bytes of nibbles, of which the lowest comes first. In
    the lists below, u stands for q + 8, and q for q itself.

    - plain and mla, not wide: two columns k, k + 1 by two columns: u[0, k], u[2, k], u[0, k+1], u[2, k+1], and the same of rows 1 and 3.
    - plain and mla, wide, and dsp, not wide: column by column u[0], u[1], u[2], q[3].
    - dsp, wide, and avr: column by column u[0], u[1], u[2], u[3].
    - mve: row by row, of the 32 columns each one of the first half with the one 16 columns on.
    """
    rows, columns = q.shape
    if rows != block_rows(kernels):
        raise ValueError(f"a block has {block_rows(kernels)} rows, not {rows}")
    w = np.zeros((rows, padded_columns(columns, kernels, four=True)), np.int8)
    w[:, :columns] = q
    groups = w.reshape(rows, -1, SCALE_COLUMNS).transpose(1, 0, 2)  # [group, row, column]
    if kernels == "mve":
        nibbles = groups.reshape(len(groups), rows, 2, 16).transpose(0, 1, 3, 2)
    else:
        plain = kernels in ("plain", "mla")
        signed = kernels != "avr" and wide == plain
        biased = groups + np.array([8, 8, 8, 0 if signed else 8], np.int8)[:, None]
        nibbles = biased.transpose(0, 2, 1)  # [group, column, row]
        if plain and not wide:  # row = 2 · high + odd: [group, pair of columns, odd, column, high]
            nibbles = biased.reshape(-1, 2, 2, SCALE_COLUMNS // 2, 2).transpose(0, 3, 2, 4, 1)
    low_high = (nibbles.reshape(len(groups), -1, 2) & 15).astype(np.uint8)
    packed = low_high[:, :, 0] | low_high[:, :, 1] << np.uint8(4)
    return np.concatenate([scale.T.astype(np.int8).view(np.uint8), packed], axis=1).tobytes()


def channel_blocks(values: npt.NDArray[Any], kernels: Kernels) -> npt.NDArray[Any]:
    """Return ``values`` [C, …] of channels in blocks [blocks, channels of a block, …], the last filled up with zeros."""
    width = CHANNELS.get(kernels, 4)
    padding = [(0, -len(values) % width)] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, padding).reshape(-1, width, *values.shape[1:])


def channel_constants(values: npt.NDArray[Any], kernels: Kernels) -> npt.NDArray[Any]:
    """Return a constant of each channel [C] in blocks, [blocks, channels of a block]: for mve the even channels first, then the odd ones."""
    blocks = channel_blocks(values, kernels)
    return np.concatenate([blocks[:, 0::2], blocks[:, 1::2]], axis=1) if kernels == "mve" else blocks


def operand_words_of(kernels: Kernels, columns: int, wide: bool, four: bool, in_words: bool = False) -> int:
    """Return QRNN_OPERAND_WORDS or QRNN_WIDE_OPERAND_WORDS of targets/runtime/qrnn_dot_….h; ``four``: QRNN_USE_FOUR is defined.

    ``in_words`` asks for QRNN_FOUR_OPERAND_WORDS, which plain and mla have.
    """
    groups = -(-columns // SCALE_COLUMNS)
    if kernels in ("plain", "mla"):
        narrow = columns // 2 if kernels == "mla" else 1 + columns // 4
        return 1 + groups * (SCALE_COLUMNS + 1) if in_words else 1 + columns // 2 if wide else narrow
    if kernels == "dsp":
        return groups * (SCALE_COLUMNS // 2 + 1) if four else padded_columns(columns, kernels) // 2
    step = SCALE_COLUMNS if four else COLUMNS[kernels]
    plane = -(-columns // step) * step
    return plane // 2 if wide else plane // 4
