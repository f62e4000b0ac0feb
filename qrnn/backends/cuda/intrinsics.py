"""Numba has no name for byte dot products and the tensor cores' int8 products: these instructions are inline PTX.

In the simulator (NUMBA_ENABLE_CUDASIM=1) each is its plain definition in `simulated`. Weights are signed bytes. Operands are signed, or
unsigned where they are the low bytes of 16-bit operands.
"""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import types
from numba.cuda.core import config

from qrnn.backends.cuda import simulated

SIMULATED = bool(config.ENABLE_CUDASIM)

FULL_MMA = (8, 0)
"""The compute capability from which mma.m16n8k32 exists; 7.5 has m8n8k16 for int8, four of which are one of these."""


def _instruction(text: str, arguments: int, results: int) -> Any:
    """Return a function of int32 registers from one PTX instruction: ``$0`` … are the results, then the arguments."""
    from llvmlite import ir
    from numba.cuda.extending import intrinsic
    from numba.cuda.typing import signature

    word = ir.IntType(32)
    constraints = ",".join(["=r"] * results + ["r"] * arguments)
    kind = word if results == 1 else ir.LiteralStructType([word] * results)
    returned = types.int32 if results == 1 else types.UniTuple(types.int32, results)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        # A warp's lanes execute mma.sync together: it may be moved neither into a branch nor away.
        together = results > 1
        call = ir.InlineAsm(ir.FunctionType(kind, [word] * arguments), text, constraints, side_effect=together)
        returned_words = builder.call(call, values, attrs=("convergent",) if together else ())
        if results == 1:
            return returned_words
        packed = ir.Constant(ir.ArrayType(word, results), ir.Undefined)
        for k in range(results):
            packed = builder.insert_value(packed, builder.extract_value(returned_words, k), k)
        return packed

    made = signature(returned, *[types.int32] * arguments), generate

    # Numba reads the number of arguments off the function.
    def of_three(_typing: Any, a: Any, b: Any, c: Any) -> Any:
        return made

    def of_four(_typing: Any, a: Any, b: Any, c0: Any, c1: Any) -> Any:
        return made

    def of_ten(
        _typing: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any
    ) -> Any:
        return made

    return intrinsic({3: of_three, 4: of_four, 10: of_ten}[arguments])


def _mma(shape: str, operands: str, a: int, b: int, c: int) -> Any:
    """Return mma.sync with ``a``, ``b`` and ``c`` registers of A, B, and C or D."""
    groups, first = [], 0
    for size in (c, a, b, c):
        groups.append("{" + ",".join(f"${k}" for k in range(first, first + size)) + "}")
        first += size
    text = f"mma.sync.aligned.{shape}.row.col.s32.s8.{operands}.s32 {', '.join(groups)};"
    return _instruction(text, a + b + c, c)


if SIMULATED:
    dp4a, dp4a_unsigned = simulated.dp4a, simulated.dp4a_unsigned
    mma, mma_unsigned = simulated.mma, simulated.mma_unsigned
    mma_small, mma_small_unsigned = simulated.mma_small, simulated.mma_small_unsigned
    shuffle_xor = simulated.shuffle_xor
else:
    dp4a = _instruction("dp4a.s32.s32 $0, $1, $2, $3;", 3, 1)
    dp4a_unsigned = _instruction("dp4a.s32.u32 $0, $1, $2, $3;", 3, 1)
    mma, mma_unsigned = _mma("m16n8k32", "s8", 4, 2, 4), _mma("m16n8k32", "u8", 4, 2, 4)
    mma_small, mma_small_unsigned = _mma("m8n8k16", "s8", 1, 1, 2), _mma("m8n8k16", "u8", 1, 1, 2)

    @cuda.jit(device=True)
    def shuffle_xor(value: Any, mask: Any) -> Any:
        """Return the value of the lane whose number differs in the bits of ``mask``."""
        return cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)


def _from_small(small: Any) -> Any:
    """Return m16n8k32 by four of m8n8k16: its registers are theirs, rows 0 … 7 and 8 … 15, columns 0 … 15 and 16 … 31."""

    @cuda.jit(device=True)
    def multiply(a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> Any:
        c0, c1 = small(a0, b0, c0, c1)
        c0, c1 = small(a2, b1, c0, c1)
        c2, c3 = small(a1, b0, c2, c3)
        c2, c3 = small(a3, b1, c2, c3)
        return c0, c1, c2, c3

    return multiply


def tile_products(capability: tuple[int, int]) -> tuple[Any, Any]:
    """Return (signed, unsigned) m16n8k32 as a device of this compute capability has it."""
    if capability >= FULL_MMA:
        return mma, mma_unsigned
    return _from_small(mma_small), _from_small(mma_small_unsigned)
