"""Operands on their way to a product, as LLVM: int16 narrowed to operands, and encoded ones copied from steps to the vectors of products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.isa import Isa, const, copy_int16, load, store
from qrnn.backends.cpu.parts import I32, I64, for_range, vector_type
from qrnn.backends.cpu.steps import FRAC, KernelVariant, Step
from qrnn.backends.cpu.vector import Vec, lift

NARROW_ARGS = ("x", "out", "columns", "tail", "shift", "limit")
"""What `emit_narrow` takes by name: addresses of int16, how many there are, room for a block of int16, and the operands' format."""

GATHER_ARGS = ("positions", "begin", "out", "out_step", "places", "segments", "bytes")
"""What `emit_gather` takes by name: the address of the positions, which are int64 addresses, and the bytes from each to where its segments are
counted from; where vectors go, and how far apart they are; the address of the segments' places, int64 pairs of the bytes from a position
and from the beginning of a vector; how many segments there are, and the bytes of one."""

SCATTER_ARGS = ("to", "counts", "begin", "x", "x_step")
"""What `emit_scatter` takes by name: the addresses of int64 addresses and of as many counts, and the bytes from each address to where values
go; the address of the values, int16, and how far apart vectors of them are."""

WIDTHS = (64, 32, 16, 8, 4, 2)
"""Bytes that are copied at once."""


def emit_narrow(builder: Any, isa: Isa, values: Sequence[Any], count: Any) -> None:
    """Write out[k] = to_operand(x[k]) of ``count`` rows that lie one after the other, int16."""
    args = dict(zip(NARROW_ARGS, values, strict=True))
    step = Step(builder, isa, args, 0, KernelVariant())
    b, units = builder, const(isa.units)
    shift, limit = (b.trunc(args[name], I32) for name in ("shift", "limit"))
    by, most = Vec.scalar(b, shift, isa.units, *FRAC), Vec.scalar(b, limit, isa.units, 1, 32767)
    all_columns = b.mul(args["columns"], count)
    whole, rest = b.sdiv(all_columns, units), b.srem(all_columns, units)

    def narrow(x: Any, out: Any) -> None:
        step.store(lift(fixedpoint.to_operand)(step.vector(x, -32768, 32767, 16), by, most), out, 16)

    with for_range(b, const(0), whole) as block:
        narrow(step.at(args["x"], block, 2 * isa.units), step.at(args["out"], block, 2 * isa.units))
    with b.if_then(b.icmp_signed("!=", rest, const(0))):
        copy_int16(b, args["tail"], step.at(args["x"], whole, 2 * isa.units), rest)
        narrow(args["tail"], args["tail"])
        copy_int16(b, step.at(args["out"], whole, 2 * isa.units), args["tail"], rest)


def emit_gather(builder: Any, values: Sequence[Any], count: Any) -> None:
    """Copy the segments of ``count`` vectors from where their positions say. A segment has whole words, so at least four bytes."""
    args = dict(zip(GATHER_ARGS, values, strict=True))
    b, size = builder, args["bytes"]

    def copies(width: int) -> None:
        with for_range(b, const(0), count) as k:
            position = load(b, b.add(args["positions"], b.mul(k, const(8))), I64, 8)
            begin, vector = b.add(position, args["begin"]), b.add(args["out"], b.mul(k, args["out_step"]))
            with for_range(b, const(0), args["segments"]) as segment:
                place = b.add(args["places"], b.mul(segment, const(16)))
                at, to = load(b, place, I64, 8), load(b, b.add(place, const(8)), I64, 8)
                _copy(b, b.add(begin, at), b.add(vector, to), size, width)

    _by_width(b, size, WIDTHS[:-1], copies)


def emit_scatter(builder: Any, values: Sequence[Any], count: Any) -> None:
    """Copy the first values of ``count`` vectors, so many as their counts say, to their addresses."""
    args = dict(zip(SCATTER_ARGS, values, strict=True))
    b = builder
    with for_range(b, const(0), count) as k:
        size = b.mul(load(b, b.add(args["counts"], b.mul(k, const(8))), I64, 8), const(2))
        to = b.add(load(b, b.add(args["to"], b.mul(k, const(8))), I64, 8), args["begin"])
        x = b.add(args["x"], b.mul(k, args["x_step"]))
        _by_width(b, size, WIDTHS, partial(_copy, b, x, to, size))


def _by_width(builder: Any, size: Any, widths: Sequence[int], copies: Callable[[int], None]) -> None:
    """Emit ``copies`` for each width, and branch to that of the widest that ``size`` bytes fill."""
    if len(widths) == 1:
        copies(widths[0])
        return
    with builder.if_else(builder.icmp_signed(">=", size, const(widths[0]))) as (wide, narrow):
        with wide:
            copies(widths[0])
        with narrow:
            _by_width(builder, size, widths[1:], copies)


def _copy(builder: Any, at: Any, to: Any, size: Any, width: int) -> None:
    """Copy ``size`` bytes, at least ``width`` and, but for the largest width, less than twice as many. The last piece may overlap another."""
    b, kind = builder, vector_type(width // 2, 16)

    def piece(offset: Any) -> None:
        store(b, load(b, b.add(at, offset), kind), b.add(to, offset))

    last = b.sub(size, const(width))
    if width == WIDTHS[0]:
        with for_range(b, const(0), last, width) as k:
            piece(k)
    else:
        piece(const(0))
    piece(last)
