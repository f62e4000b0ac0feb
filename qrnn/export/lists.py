"""Block-sparse weights in the exported C: lists of the tiles of four columns whose weights are not all zero.

A tile is four columns of the four rows of a block, or of one row. Which of the two, or neither, follows from the data: from how many tiles
of each kind are not all zero.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from qrnn.export.layout import pack_block
from qrnn.model.parts import Int8Array, Int64Array
from qrnn.targets import Kernels, ListCosts

BoolArray = npt.NDArray[np.bool_]

COLUMNS = 4
"""The columns of a tile."""

BLOCK_ROWS = 4
"""The rows of a block of the kernels that have lists."""

MOST_COLUMNS = COLUMNS << 8
"""The most columns of a row with lists: the number of a tile takes a byte."""

AT_ONCE: dict[Kernels, int] = {"plain": 1, "mla": 1, "dsp": 1, "mve": 4}
"""The tiles that are multiplied at once: lists are filled up to a multiple of this. Other kernels have no lists."""


class Lists(IntEnum):
    """The lists of a matrix; the names and numbers are those of targets/runtime/qrnn_types.h."""

    NONE = 0
    TILES = 1
    ROWS = 2


def choose_lists(weight: Int8Array, kernels: Kernels, costs: ListCosts, bytes_without: int) -> tuple[Lists, bytes]:
    """Return which lists take the least time for rows [blocks · 4, K], and their bytes; none where they do not save both time and bytes."""
    if weight.shape[1] > MOST_COLUMNS or kernels not in AT_ONCE:
        return Lists.NONE, b""
    tiles = _tiles(weight)
    size = tiles.size
    found: list[tuple[float, Lists]] = [(1.0, Lists.NONE)]
    for lists, cost in ((Lists.TILES, costs.tiles), (Lists.ROWS, costs.rows)):
        lengths = _lengths(_kept(tiles, lists), lists, kernels)
        share = lengths.sum() * COLUMNS * (BLOCK_ROWS if lists is Lists.TILES else 1) / size
        found.append((share * cost, lists))
    _, chosen = min(found)
    if chosen is Lists.NONE:
        return Lists.NONE, b""
    packed = pack_lists(weight, chosen, kernels)
    return (chosen, packed) if len(packed) < bytes_without else (Lists.NONE, b"")


def _tiles(weight: Int8Array) -> Int8Array:
    """Return rows [blocks · 4, K] as [block, row, tile, column], with zero columns."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -columns % COLUMNS)))
    return padded.reshape(rows // BLOCK_ROWS, BLOCK_ROWS, -1, COLUMNS)


def _kept(tiles: Int8Array, lists: Lists) -> BoolArray:
    """Return which tiles are not all zero, [list, tile]."""
    kept = np.any(tiles, axis=3)
    found: BoolArray = np.any(kept, axis=1) if lists is Lists.TILES else kept.reshape(-1, kept.shape[2])
    return found


def _lengths(kept: BoolArray, lists: Lists, kernels: Kernels) -> Int64Array:
    """Return the lengths of lists, filled up."""
    least = 1 if lists is Lists.TILES else 0  # loops over tiles begin with one, loops over rows may have none
    found: Int64Array = -(-np.maximum(kept.sum(axis=1), least) // AT_ONCE[kernels]) * AT_ONCE[kernels]
    return found


def pack_lists(weight: Int8Array, lists: Lists, kernels: Kernels) -> bytes:
    """Return rows [blocks · 4, K] as targets/runtime/qrnn_lists.h describes them."""
    tiles = _tiles(weight)
    kept = _kept(tiles, lists)
    lengths = _lengths(kept, lists, kernels)
    of_block = len(kept) // len(tiles)
    records = []
    for block, own in enumerate(tiles):
        numbers, weights = [], []
        for k in range(of_block):
            at = block * of_block + k
            listed = np.flatnonzero(kept[at])
            filled = np.concatenate([listed, np.full(lengths[at] - len(listed), -1)])
            picked = own[:, np.maximum(filled, 0)] * (filled >= 0)[:, None]
            numbers.append(np.maximum(filled, 0).astype(np.uint8).tobytes())
            weights.append(_of_tiles(picked, kernels) if lists is Lists.TILES else _of_row(picked[k], kernels))
        counts = lengths[block * of_block : (block + 1) * of_block].astype("<u2").tobytes()
        head = counts + b"".join(numbers)
        records.append(head + bytes(-len(head) % 4) + b"".join(weights))
    starts = len(records) + np.cumsum([0, *(len(record) // 4 for record in records[:-1])])
    return starts.astype("<u4").tobytes() + b"".join(records)


def _of_tiles(picked: Int8Array, kernels: Kernels) -> bytes:
    """Return the bytes of tiles [row, tile, column] of four rows."""
    if kernels == "mve":
        return picked.reshape(BLOCK_ROWS, -1, 16).transpose(1, 0, 2).tobytes()
    columns = picked.shape[1] * COLUMNS
    own: Kernels = "plain" if kernels == "mla" else kernels
    return pack_block(picked.reshape(BLOCK_ROWS, columns), own, False)[: BLOCK_ROWS * columns]


def _of_row(picked: Int8Array, kernels: Kernels) -> bytes:
    """Return the bytes of tiles [tile, column] of one row."""
    return picked[:, [0, 2, 1, 3]].tobytes() if kernels == "dsp" else picked.tobytes()
