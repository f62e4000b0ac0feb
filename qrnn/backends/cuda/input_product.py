"""The matrix product W·x of all steps of all sequences, which dense layers use too, is launched here."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cuda.fragments import B_WORDS, TILE_COLUMNS
from qrnn.backends.cuda.inputs import (
    PRODUCT_PAIRS,
    PRODUCT_TILES,
    order_operands,
    pack_operands,
    product_kernel,
    run_plain_product,
)
from qrnn.backends.cuda.kernel_variants import ProductKind
from qrnn.backends.cuda.launch import THREADS, configured, for_each
from qrnn.backends.cuda.plan import MOST_GRID_Y
from qrnn.backends.cuda.proofs import note_launch
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import ProductWeights
from qrnn.backends.cuda.work import device_array

PRODUCT_WARPS = 1 if THREADS < 128 else 4


def multiply_inputs(
    weights: ProductWeights, x: Any, lengths: Any, reverse: bool, begin: int, steps: int, kind: ProductKind, tuning: Tuning
) -> Any:  # fmt: skip
    """Return W·x of steps begin … begin + steps - 1, [steps · N, R]: int32, or int16 of a dense layer. x [N, T, K] int16.

    The tensor cores compute it by the kernel ``kind`` where the tuning allows it, plain loops elsewhere.
    """
    planes, depth, dense = weights.planes, weights.depth, kind.dense
    items = steps * x.shape[0]
    operand = weights.operand
    if weights.plain_only or not tuning.allows(kind):
        operands = device_array((items, x.shape[2]), np.int16)
        for_each(order_operands, operands.size, x, lengths, reverse, operand.shift, operand.limit, begin, operands)
        out = device_array((items, weights.size), np.int16 if dense else np.int32)
        for_each(run_plain_product, out.size, weights.columns, weights.rows, operands, dense, out)
        return out
    note_launch(kind)
    tiles = PRODUCT_TILES // planes
    blocks = -(-items // (TILE_COLUMNS * tiles))
    words = device_array(blocks * tiles * planes * depth * B_WORDS, np.int32)
    for_each(pack_operands, words.size, x, lengths, reverse, operand.shift, operand.limit, planes, begin, depth, words)
    out = device_array((items, weights.size), np.int16 if dense else np.int32)
    pairs = -(-weights.size // (16 * PRODUCT_PAIRS))
    for first in range(0, blocks, MOST_GRID_Y):
        count = min(MOST_GRID_Y, blocks - first)
        done = first * TILE_COLUMNS * tiles
        part = out[done : done + count * TILE_COLUMNS * tiles]
        grid, block = (-(-pairs // PRODUCT_WARPS), count), (32, PRODUCT_WARPS)
        configured(product_kernel(planes, dense, kind.capability), grid, block)(
            weights.fragments,
            weights.rows,
            words[first * tiles * planes * depth * B_WORDS :],
            depth,
            part.shape[0],
            part,
        )
    return out
