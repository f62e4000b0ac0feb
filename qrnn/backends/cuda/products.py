"""One warp computes R·h of 8 units and some tiles of 8 sequences from packed fragments, by the tensor cores or by byte dot products.

Both read the same packed weights and operands (`fragments`) and leave their sums where `mma.sync` leaves them: register 2s + j of pair p
has gate 2p + s of unit lane / 4 and sequence 2 · (lane % 4) + j. What follows does not know which of them it was.
"""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int32, int64

from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.backends.cuda.intrinsics import dp4a, dp4a_unsigned, shuffle_xor, tile_products


def tensor_product(pairs: int, tiles: int, planes: int, capability: tuple[int, int]) -> Any:
    """Return the product by the tensor cores for ``tiles`` tiles of sequences.

    ``planes`` is 1 for signed bytes, or 2 for the signed high and unsigned low bytes of int16.
    """
    mma, mma_unsigned = tile_products(capability)

    @cuda.jit(device=True)
    def multiply(
        weights: Any, base: Any, stride: Any, words: Any, operands: Any, depth: Any, lane: Any, acc: Any
    ) -> None:
        """Compute acc [pairs · tiles · planes · 4].

        The weights begin at word ``base``, and each pair has ``stride`` words; the operands begin at ``operands`` of ``words``.
        """
        for i in range(pairs * tiles * planes * 4):
            acc[i] = int32(0)
        for k in range(depth):
            for p in range(pairs):
                a = base + p * stride + k * A_WORDS + lane
                a0, a1, a2, a3 = weights[a], weights[a + 32], weights[a + 64], weights[a + 96]
                for n in range(tiles):
                    b = operands + (n * planes * depth + k) * B_WORDS + lane
                    i = (p * tiles + n) * planes * 4
                    acc[i], acc[i + 1], acc[i + 2], acc[i + 3] = mma(
                        a0, a1, a2, a3, words[b], words[b + 32], acc[i], acc[i + 1], acc[i + 2], acc[i + 3]
                    )
                    if planes == 2:
                        b += depth * B_WORDS
                        acc[i + 4], acc[i + 5], acc[i + 6], acc[i + 7] = mma_unsigned(
                            a0, a1, a2, a3, words[b], words[b + 32], acc[i + 4], acc[i + 5], acc[i + 6], acc[i + 7]
                        )

    return multiply


def dot_product(pairs: int, planes: int, sequences: int) -> Any:
    """Return the product by byte dot products, for one tile of which only the first one or two sequences are valid.

    Lane 4g + t takes the columns that its registers of A hold. Four lanes share a row: their parts are added at the end. Lanes with t > 0
    are left with sums that nobody reads.
    """

    @cuda.jit(device=True)
    def multiply(
        weights: Any, base: Any, stride: Any, words: Any, operands: Any, depth: Any, lane: Any, acc: Any
    ) -> None:
        """Compute acc as the function that `tensor_product` returns does, with one tile."""
        for i in range(pairs * planes * 4):
            acc[i] = int32(0)
        for k in range(depth):
            for p in range(pairs):
                a = base + p * stride + k * A_WORDS + lane
                a0, a1, a2, a3 = weights[a], weights[a + 32], weights[a + 64], weights[a + 96]
                i = p * planes * 4
                for j in range(sequences):
                    b = operands + k * B_WORDS + 4 * j + (lane & 3)
                    low, high = words[b], words[b + 32]
                    acc[i + j] = dp4a(a2, high, dp4a(a0, low, acc[i + j]))
                    acc[i + 2 + j] = dp4a(a3, high, dp4a(a1, low, acc[i + 2 + j]))
                    if planes == 2:
                        b += depth * B_WORDS
                        low, high = words[b], words[b + 32]
                        acc[i + 4 + j] = dp4a_unsigned(a2, high, dp4a_unsigned(a0, low, acc[i + 4 + j]))
                        acc[i + 6 + j] = dp4a_unsigned(a3, high, dp4a_unsigned(a1, low, acc[i + 6 + j]))
        for i in range(pairs * planes * 4):
            part = acc[i] + shuffle_xor(acc[i], 1)
            acc[i] = int32(part + shuffle_xor(int32(part), 2))

    return multiply


def picker(tiles: int, planes: int) -> Any:
    """Return a function that picks one sum out of the registers by a number that is known only when the loop runs.

    Registers cannot be indexed, so each number is compared.
    """

    @cuda.jit(device=True)
    def pick(acc: Any, pair: Any, slot: Any, column: Any) -> Any:
        """Return the sum of slot 0 or 1 of a pair for column 2 · tile + j, as one integer of both planes."""
        found = int64(0)
        for n in range(tiles):
            for j in range(2):
                i = (pair * tiles + n) * planes * 4 + 2 * slot + j
                value = int64(acc[i])
                if planes == 2:
                    value = value * 256 + int64(acc[i + 4])
                if column == 2 * n + j:
                    found = value
        return found

    return pick
