"""How the lanes of a vector lie in registers: conversions between lanes of 16, 32 and 64 bits, and AVX-512's instructions on 16-bit lanes.

A vector of 8 or 16 lanes is one register of 32-bit lanes, or two of 64-bit ones. A vector of `INT16_LANES` lanes is one register of 16-bit
lanes, two of 32-bit ones, or four of 64-bit ones. Each split is the one that the instructions make as they lie:

    16 → 32: the lower four and the upper four of every eight lanes: what vpunpck*wd take apart and vpack*dw put together
    32 → 64: the even lanes, which are the low halves of 64-bit words, and the odd ones, which are the high halves
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

I32, I64 = ir.IntType(32), ir.IntType(64)

INT16_LANES = 32
"""Lanes of a vector that can have 16-bit lanes."""

Parts = tuple[Any, ...]
"""One vector in one or more registers, by LLVM values."""


def function_of(module: Any, name: str, result: Any, kinds: Sequence[Any]) -> Any:
    """Return the function ``name`` of a module, which is declared where it is not there yet.

    It is an intrinsic of LLVM, or a function of the C library.
    """
    found = module.globals.get(name)
    return ir.Function(module, ir.FunctionType(result, list(kinds)), name) if found is None else found


@contextmanager
def for_range(builder: Any, first: Any, last: Any, step: int = 1) -> Iterator[Any]:
    """Emit a loop whose index goes from ``first`` by ``step`` while it is below ``last``.

    What is emitted in the context is its body.
    """
    head, body, after = (builder.append_basic_block(name) for name in ("loop.head", "loop.body", "loop.after"))
    before = builder.basic_block
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(first.type)
    builder.cbranch(builder.icmp_signed("<", index, last), body, after)
    builder.position_at_end(body)
    yield index
    following = builder.add(index, ir.Constant(first.type, step))
    index.add_incoming(first, before)
    index.add_incoming(following, builder.basic_block)
    builder.branch(head)
    builder.position_at_end(after)


def vector_type(lanes: int, bits: int) -> ir.VectorType:
    """Return the type <lanes x i``bits``>."""
    return ir.VectorType(ir.IntType(bits), lanes)


def constant(kind: Any, value: int) -> Any:
    """Return the number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return the scalar in every lane."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), None))


def count_of(lanes: int, bits: int) -> int:
    """Return how many registers a vector of so many lanes of so many bits takes."""
    return bits // (16 if lanes == INT16_LANES else 32)


def lanes_of(parts: Parts) -> int:
    """Return how many lanes there are in all."""
    return sum(int(p.type.count) for p in parts)


def bits_of(parts: Parts) -> int:
    """Return the bits of a lane."""
    return int(parts[0].type.element.width)


def call(builder: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """Call an LLVM intrinsic."""
    function = function_of(builder.module, f"llvm.{name}", kind, [a.type for a in arguments])
    return builder.call(function, list(arguments))


def convert(builder: Any, parts: Parts, bits: int, low: int, high: int) -> Parts:
    """Return values within [low, high] in lanes of ``bits``: extended, or their low bits."""
    now = bits_of(parts)
    if now == bits:
        return parts
    if now == 16:
        return convert(builder, _unpacked(builder, parts[0], low < 0), bits, low, high)
    if now == 64:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return convert(builder, tuple(_joined(builder, even, odd) for even, odd in pairs), bits, low, high)
    if bits == 64:
        return tuple(half for p in parts for half in _halves(builder, p))
    return (_packed(builder, parts, low, high),)


def _joined(builder: Any, even: Any, odd: Any) -> Any:
    """Return the low 32 bits of even and odd lanes."""
    up = builder.shl(odd, constant(odd.type, 32))
    return interleaved(builder, even, up)


def interleaved(builder: Any, even: Any, odd: Any) -> Any:
    """Return the low halves of one register's 64-bit lanes, and the high halves of the other's."""
    lanes = 2 * even.type.count
    a, b = (builder.bitcast(v, vector_type(lanes, 32)) for v in (even, odd))
    return _shuffled(builder, a, b, [k + (lanes if k % 2 else 0) for k in range(lanes)])


def high_halves(builder: Any, even: Any, odd: Any) -> Any:
    """Return the high 32 bits of even and odd lanes."""
    lanes = 2 * even.type.count
    a, b = (builder.bitcast(v, vector_type(lanes, 32)) for v in (even, odd))
    return _shuffled(builder, a, b, [k + lanes if k % 2 else k + 1 for k in range(lanes)])


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(places)), places))


def _halves(builder: Any, part: Any) -> Parts:
    words = builder.bitcast(part, vector_type(part.type.count // 2, 64))
    by = constant(words.type, 32)
    return (builder.ashr(builder.shl(words, by), by), builder.ashr(words, by))


def low_halves(builder: Any, part: Any) -> Any:
    """Return the even lanes alone, as 64-bit ones, sign-extended."""
    return _halves(builder, part)[0]


def _unpacked(builder: Any, words: Any, signed: bool) -> Parts:
    other = words if signed else ir.Constant(words.type, None)
    parts = interleaved_int16(builder, words, other)
    return tuple(builder.ashr(p, constant(p.type, 16)) for p in parts) if signed else parts


def interleaved_int16(builder: Any, low: Any, high: Any) -> Parts:
    """Return 32-bit lanes of 16-bit halves, by vpunpcklwd and vpunpckhwd."""
    found = []
    for first in (0, 4):
        places = [
            8 * eight + first + k + of for eight in range(INT16_LANES // 8) for k in range(4) for of in (0, INT16_LANES)
        ]
        found.append(builder.bitcast(_shuffled(builder, low, high, places), vector_type(INT16_LANES // 2, 32)))
    return tuple(found)


def saturated_int16(builder: Any, parts: Parts) -> Any:
    """Return 32-bit lanes, clamped to int16, by vpackssdw."""
    return call(builder, "x86.avx512.packssdw.512", vector_type(INT16_LANES, 16), *parts)


def _packed(builder: Any, parts: Parts, low: int, high: int) -> Any:
    """Return the low 16 bits of 32-bit lanes. The instructions saturate, which changes nothing within their range."""
    if low >= -32768 and high <= 32767:
        return saturated_int16(builder, parts)
    if low < 0 or high > 65535:
        parts = tuple(builder.and_(p, constant(p.type, 65535)) for p in parts)
    return call(builder, "x86.avx512.packusdw.512", vector_type(INT16_LANES, 16), *parts)


def multiplied_int16(builder: Any, a: Any, b: Any) -> Parts:
    """Return products of int16 as 32-bit lanes, by vpmullw and vpmulhw, whose halves are put together."""
    high = call(builder, "x86.avx512.pmulh.w.512", a.type, a, b)
    return interleaved_int16(builder, builder.mul(a, b), high)


def multiplied_and_added_int16(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Parts:
    """Return a · b + c · d of int16 as 32-bit lanes, modulo 2^32, by vpmaddwd."""
    pairs = zip(interleaved_int16(builder, a, c), interleaved_int16(builder, b, d), strict=True)
    words, kind = vector_type(INT16_LANES, 16), vector_type(INT16_LANES // 2, 32)
    return tuple(
        call(builder, "x86.avx512.pmaddw.d.512", kind, builder.bitcast(u, words), builder.bitcast(v, words))
        for u, v in pairs
    )


def multiplied_q15_int16(builder: Any, a: Any, b: Any) -> Any:
    """Return (a · b + 2^14) >> 15 of int16, for results that fit, by vpmulhrsw."""
    return call(builder, "x86.avx512.pmul.hr.sw.512", a.type, a, b)


def permuted_int16(builder: Any, low: Any, k: Any, high: Any) -> Any:
    """Pick, of 64 words in two registers, those that the low six bits of k number, by vpermi2w."""
    return call(builder, "x86.avx512.vpermi2var.hi.512", k.type, low, k, high)


def added_saturated(builder: Any, a: Any, b: Any) -> Any:
    """Return a + b of 32-bit lanes, clamped to int32.

    The sum has overflowed where both terms have the sign that it has not; the end on their side is then INT32_MAX, or one more, INT32_MIN.
    """
    total = builder.add(a, b)
    # LLVM makes two instructions of (a ^ total) & (b ^ total), which vpternlogd makes in one.
    if a.type.count == INT16_LANES // 2:
        table = ir.Constant(I32, 0b01000010)
        wrong = call(builder, "x86.avx512.pternlog.d.512", a.type, a, b, total, table)
    else:
        wrong = builder.and_(builder.xor(a, total), builder.xor(b, total))
    over = builder.icmp_signed("<", wrong, ir.Constant(wrong.type, None))
    end = builder.add(builder.lshr(a, constant(a.type, 31)), constant(a.type, (1 << 31) - 1))
    return builder.select(over, end, total)


def extreme(builder: Any, name: str, a: Any, b: Any) -> Any:
    """Return smin, smax, umin or umax of two registers."""
    return call(builder, f"{name}.v{a.type.count}i{a.type.element.width}", a.type, a, b)


def shifted_and_rounded(builder: Any, x: Any, by: Any, half: Any) -> Any:
    """Return (x + half) >> by, with half = (1 << by) >> 1, in lanes that x may fill.

    1 is added to x >> by where x has the bit ``half``, so that no sum leaves the lanes.
    """
    down, one = builder.ashr(x, by), constant(x.type, 1)
    up = builder.icmp_signed("!=", builder.and_(x, half), ir.Constant(x.type, None))
    return builder.select(up, builder.add(down, one), down)
