"""Dense layers: by plain loops, and by the dot products of the fused steps, of which `run` is a template as in `qrnn.backends.cpu.fused`."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from qrnn.arithmetic.fixedpoint import saturate16_shifted, to_operand
from qrnn.backends.cpu import matrix
from qrnn.backends.cpu.isa import Isa, isa_named
from qrnn.backends.cpu.jit import emitted, jit, renamed
from qrnn.backends.cpu.kernels import requantized_rows
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.steps import KernelVariant
from qrnn.backends.cpu.templates import configure, copy_units, encode_vectors, input_product, release, shared_parts


@jit
def dense(place: Any, matrix: Any, pre_shift: Any, shift: int, limit: int, x: Any, out: Any, scratch: Any) -> None:
    """Compute x [M, K] int16 → out [M, R] int16 by plain loops; scratch (operand [K] int16, sums [R] int32)."""
    R = out.shape[1]
    operand, sums = scratch
    for m in range(place[FIRST], place[LAST]):
        for k in range(x.shape[1]):
            operand[k] = to_operand(x[m, k], shift, limit)
        requantized_rows(matrix, operand, sums, 0, R)
        for r in range(R):
            out[m, r] = saturate16_shifted(sums[r], pre_shift[r])


def run(place: Any, rows: Any, formats: Any, x: Any, out: Any, scratch: Any) -> None:
    """Compute rows place[`FIRST`] … place[`LAST`] - 1 of x [M, K] int16 → out [M, R] int16.

    rows: `packed.PackedMatrix`; formats (shift, limit) of the operand; scratch: `qrnn.backends.cpu.kinds.dense.DenseScratch`.
    """
    m0, m1 = place[FIRST], place[LAST]
    operands, results, tails, sums, config = scratch
    weights, params, groups, byte_parts = rows
    row = 2 * x.shape[1]
    encoding = (row, x.shape[1], address(tails), address(operands), operands.shape[1], *formats, groups, byte_parts)
    blocks, of_results = params.shape[0], 2 * results.shape[1]
    product = (
        address(weights), address(params), address(operands), operands.shape[1], address(results), of_results, of_results // blocks,
        groups, byte_parts, address(sums),
    )  # fmt: skip
    configure(address(config))
    for start in range(m0, m1, AHEAD):
        count = min(AHEAD, m1 - start)
        encode_vectors((address(x) + start * row, *encoding), count)
        input_product(product, count, 0, blocks)
        for k in range(count):
            copy_units((address(out) + (start + k) * out.strides[0], address(results) + k * of_results, out.shape[1]))
    release(0)


def _emit_product(
    isa: Isa, bits: int, parts: int, builder: Any, values: Any, vectors: Any, first: Any, last: Any
) -> None:
    matrix.emit_product(builder, isa, parts, values, vectors, first, last, variant=KernelVariant(bits=bits), dense=True)


@cache
def compiled(isa_name: str, bits: int, parts: int) -> Any:
    """Return `run` for an instruction set, for weights packed in so many bits.

    ``parts`` blocks of rows are multiplied together.
    """
    isa = isa_named(isa_name)
    space = globals() | shared_parts(isa)
    space["input_product"] = emitted(partial(_emit_product, isa, bits, parts), 4)
    return jit(renamed(run, f"dense_{isa_name}_{bits}_{parts}", space))
