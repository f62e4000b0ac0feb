"""Before the steps, operands are made, and one matrix product gives W·x for all steps of all sequences.

The product serves dense layers too. Item m of it is step m // N of sequence m % N, in the order in which a direction reads. It runs on the
tensor cores, from operands in fragments, where a GPU has confirmed that kernel, and by plain loops elsewhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import cuda
from numba.cuda import int32, int64

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cuda.cells import PRE_SHIFT, requantized, to_operand
from qrnn.backends.cuda.contract import device
from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.backends.cuda.launch import THREADS, kernel
from qrnn.backends.cuda.products import tensor_product

saturate16_shifted = device(fixedpoint.saturate16_shifted)

PRODUCT_TILES = 4
"""The tiles of 8 items that a warp of the product has."""

PRODUCT_PAIRS = 2
"""The tiles of 16 rows that a warp of the product has."""


@kernel(THREADS)
def pack_operands(
    x: Any, lengths: Any, reverse: Any, shift: Any, limit: Any, planes: Any, begin: Any, depth: Any, words: Any
) -> None:
    """Write words of B of m16n8k32, [items / 8, planes, depth, 2, 32] int32, flat from ``words[0]`` on, a thread for each word.

    x [N, T, K] int16; each sequence has its steps from ``begin`` on, in its own order of reading; words are zero past its length and past
    K.
    """
    N, K, T = x.shape[0], x.shape[2], x.shape[1]
    i = cuda.grid(1)
    if i >= words.shape[0]:
        return
    lane, register = i & 31, (i >> 5) & 1
    rest = i >> 6
    block = rest % depth
    rest //= depth
    plane = rest % planes
    m = rest // planes * 8 + (lane >> 2)
    n, step = m % N, begin + m // N
    word = int64(0)
    if step < T and step < lengths[n]:
        t = lengths[n] - 1 - step if reverse else step
        first = block * 32 + register * 16 + (lane & 3) * 4
        for byte in range(4):
            k = first + byte
            if k < K:
                value = to_operand(int64(x[n, t, k]), shift, limit)
                if planes == 2 and plane == 0:
                    value >>= 8
                word |= (value & 255) << (8 * byte)
    words[i] = int32(word - 4294967296 if word > 2147483647 else word)


@kernel(THREADS)
def order_operands(x: Any, lengths: Any, reverse: Any, shift: Any, limit: Any, begin: Any, out: Any) -> None:
    """Set out[m] to the operands of item m, [items, K] int16, a thread for each element: what `pack_operands` packs, in plain order."""
    N, T, K = x.shape[0], x.shape[1], x.shape[2]
    i = cuda.grid(1)
    if i >= out.shape[0] * K:
        return
    m, k = i // K, i % K
    n, step = m % N, begin + m // N
    value = int64(0)
    if step < T and step < lengths[n]:
        t = lengths[n] - 1 - step if reverse else step
        value = to_operand(int64(x[n, t, k]), shift, limit)
    out[m, k] = value


@kernel(THREADS)
def run_plain_product(weight: Any, rows: Any, operands: Any, dense: Any, out: Any) -> None:
    """Compute out [items, R] as `product_kernel` does, by plain loops, a thread for each element.

    weight [K, R] int8, operands [items, K] int16.
    """
    R = out.shape[1]
    i = cuda.grid(1)
    if i >= out.shape[0] * R:
        return
    m, r = i // R, i % R
    total = int64(0)
    for k in range(weight.shape[0]):
        total += int64(weight[k, r]) * int64(operands[m, k])
    value = requantized(total, rows, r)
    if dense:
        value = saturate16_shifted(value, rows[PRE_SHIFT, r])
    out[m, r] = value


@cache
def product_kernel(planes: int, dense: bool, capability: tuple[int, int]) -> Any:
    """Return the kernel of W·x: grid [row tiles / 2 / warps, item tiles / 4], blocks of [32, warps] threads."""
    tiles = PRODUCT_TILES // planes  # two planes take twice the registers
    multiply = tensor_product(PRODUCT_PAIRS, tiles, planes, capability)
    size = PRODUCT_PAIRS * tiles * planes * 4

    @kernel(256)
    def run_product(weight: Any, rows: Any, words: Any, depth: Any, items: Any, out: Any) -> None:
        """Set out[m, r] = requantize(W·x + bias), int32; for a dense layer saturated with its pre_shift, int16. out [items, R].

        weight as `fragments.pack_weights` of an even number of tiles; words as `pack_operands` of whole groups of item tiles.
        """
        lane = cuda.threadIdx.x
        pair = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
        R = out.shape[1]
        if pair * PRODUCT_PAIRS * 16 >= R:
            return
        first_tile = cuda.blockIdx.y * tiles
        acc = cuda.local.array(size, int32)
        stride = depth * A_WORDS
        multiply(
            weight,
            pair * PRODUCT_PAIRS * stride,
            stride,
            words,
            first_tile * planes * depth * B_WORDS,
            depth,
            lane,
            acc,
        )
        for p in range(PRODUCT_PAIRS):
            for n in range(tiles):
                for i in range(4):
                    r = (pair * PRODUCT_PAIRS + p) * 16 + (lane >> 2) + 8 * (i >> 1)
                    m = (first_tile + n) * 8 + 2 * (lane & 3) + (i & 1)
                    if r < R and m < items:
                        at = (p * tiles + n) * planes * 4 + i
                        total = int64(acc[at])
                        if planes == 2:
                            total = total * 256 + int64(acc[at + 4])
                        value = requantized(total, rows, r)
                        if dense:
                            value = saturate16_shifted(value, rows[PRE_SHIFT, r])
                        out[m, r] = value

    return run_product
