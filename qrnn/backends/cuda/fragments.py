"""The tensor cores' instructions read each byte of an operand at a place of its own: the fragments of `mma.sync` for int8.

See the PTX ISA, warp-level matrix instructions. D = A · B + C with A 16 × 32 (weights: 16 rows of 32 columns), B 32 × 8 (operands: 8
sequences), C and D 16 × 8 int32. Each of a warp's 32 lanes holds 4 registers of A, 2 of B and 4 of C; a register of A or B is 4 bytes.
Weights are packed once in this order, so that a register is one coalesced read of the warp: the packed matrix is [tiles, K / 32, 4
registers, 32 lanes].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import Int8Array, Int32Array

LANES = 32
TILE_ROWS, TILE_COLUMNS, TILE_DEPTH = 16, 8, 32
"""M, N and K of the instruction."""

A_REGISTERS, B_REGISTERS, C_REGISTERS = 4, 2, 4
A_WORDS, B_WORDS = A_REGISTERS * LANES, B_REGISTERS * LANES
"""The 32-bit words of a fragment of A and of B."""


def a_place(lane: int, register: int, byte: int) -> tuple[int, int]:
    """Return (row, k) of a byte of A, m16n8k32."""
    return (lane >> 2) + 8 * (register & 1), (lane & 3) * 4 + byte + 16 * (register >> 1)


def b_place(lane: int, register: int, byte: int) -> tuple[int, int]:
    """Return (k, column) of a byte of B, m16n8k32."""
    return (lane & 3) * 4 + byte + 16 * register, lane >> 2


def c_place(lane: int, register: int) -> tuple[int, int]:
    """Return (row, column) of a register of C and D, m16n8k32."""
    return (lane >> 2) + 8 * (register >> 1), (lane & 3) * 2 + (register & 1)


def small_a_place(lane: int, byte: int) -> tuple[int, int]:
    """Return (row, k) of a byte of A, m8n8k16, which has one register; (column, k) of a byte of B is the same."""
    return lane >> 2, (lane & 3) * 4 + byte


def small_c_place(lane: int, register: int) -> tuple[int, int]:
    """Return (row, column) of a register of C and D, m8n8k16."""
    return lane >> 2, (lane & 3) * 2 + register


def depth_tiles(columns: int) -> int:
    """Return the number of fragments that a row of ``columns`` columns takes."""
    return -(-columns // TILE_DEPTH)


def pack_weights(weight: Int8Array, order: npt.NDArray[np.int64]) -> Int32Array:
    """Return ``weight`` [R, K] as fragments of A, [tiles · K/32 · 4 · 32] int32.

    ``order`` [tiles, 16] names the row at each place, -1 for none. Places without a row, and columns beyond K, are zero.
    """
    rows, columns = weight.shape
    depth = depth_tiles(columns)
    padded = np.zeros((rows + 1, depth * TILE_DEPTH), np.int8)  # the last row, which -1 names, is zero
    padded[:rows, :columns] = weight
    tiles = padded[order].reshape(len(order), TILE_ROWS, depth, TILE_DEPTH)
    place = np.array([[[a_place(l, r, b) for b in range(4)] for l in range(LANES)] for r in range(A_REGISTERS)])
    fragments = tiles[:, place[..., 0], :, place[..., 1]]  # [4, 32, 4, tiles, K/32]: indexed axes come first
    packed: Int32Array = np.ascontiguousarray(fragments.transpose(3, 4, 0, 1, 2)).view(np.int32).reshape(-1)
    return packed


def plain_order(rows: int) -> npt.NDArray[np.int64]:
    """Return the rows in their own order, 16 to a tile."""
    order = np.arange(-(-rows // TILE_ROWS) * TILE_ROWS).reshape(-1, TILE_ROWS)
    return np.where(order < rows, order, -1)


def gate_order(gates: int, hidden: int) -> npt.NDArray[np.int64]:
    """Return the rows by units, so that one lane gets all gates of its units.

    Tile p of group g has gates 2p and 2p + 1 of units 8g … 8g + 7, and a group has ⌈gates / 2⌉ tiles. The row of a gate of unit u is
    gate · H + u.
    """
    groups, pairs = -(-hidden // TILE_COLUMNS), -(-gates // 2)
    gate = np.arange(2 * pairs).reshape(1, pairs, 2, 1)
    unit = np.arange(groups * 8).reshape(groups, 1, 1, 8)
    order = np.where((gate < gates) & (unit < hidden), gate * hidden + unit, -1)
    return order.reshape(groups * pairs, TILE_ROWS)
