"""Operands on their way to a product, as LLVM: int16 narrowed to operands, and encoded ones copied from steps to the vectors of products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.isa import Isa, const, copy_int16, load, store
from qrnn.backends.cpu.parts import I32, I64, for_range, vector_type
from qrnn.backends.cpu.steps import FRAC, KernelVariant, Step
from qrnn.backends.cpu.vector import Vec, lift

NARROW_ARGS = ("x", "out", "columns", "tail", "shift", "limit")
"""What `emit_narrow` takes by name: addresses of int16, how many there are, room for a block of int16, and the operands' format."""

GATHER_ARGS = (
    "positions", "out", "out_step", "begin", "taps", "tap_step", "segments", "segment_step", "bytes", "parts", "part_step", "out_part",
)  # fmt: skip
"""What `emit_gather` takes by name: the address of the positions, which are int64 addresses; where vectors go, and how far apart they are; the
bytes from a position to what is read there; taps, segments and parts, with the bytes between two of each; the bytes of a segment, in whole
words; the bytes between two parts of a vector."""

WIDTHS = (64, 16, 4)
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
    """Copy what ``count`` vectors read of their taps and segments, one after the other, from where their positions say."""
    args = dict(zip(GATHER_ARGS, values, strict=True))
    b, size = builder, args["bytes"]

    def copies(width: int) -> None:
        """Copy all segments, ``width`` bytes at once; the last piece of a segment may overlap the one before it."""
        with for_range(b, const(0), count) as k:
            position = load(b, b.add(args["positions"], b.mul(k, const(8))), I64, 8)
            begin = b.add(position, args["begin"])
            vector = b.add(args["out"], b.mul(k, args["out_step"]))
            with for_range(b, const(0), args["parts"]) as part:
                at_part = b.add(begin, b.mul(part, args["part_step"]))
                to_part = b.add(vector, b.mul(part, args["out_part"]))
                with for_range(b, const(0), args["taps"]) as tap, for_range(b, const(0), args["segments"]) as segment:
                    at = b.add(b.add(at_part, b.mul(tap, args["tap_step"])), b.mul(segment, args["segment_step"]))
                    number = b.add(b.mul(tap, args["segments"]), segment)
                    _copy(b, at, b.add(to_part, b.mul(number, size)), size, width)

    wide, middle = (b.icmp_signed(">=", size, const(width)) for width in WIDTHS[:2])
    with b.if_else(wide) as (yes, no):
        with yes:
            copies(WIDTHS[0])
        with no, b.if_else(middle) as (then, otherwise):
            with then:
                copies(WIDTHS[1])
            with otherwise:
                copies(WIDTHS[2])


def _copy(builder: Any, at: Any, to: Any, size: Any, width: int) -> None:
    """Copy ``size`` bytes, at least ``width`` of them."""
    b, kind = builder, vector_type(width // 4, 32) if width > 4 else I32
    last = b.sub(size, const(width))
    with for_range(b, const(0), last, width) as k:
        store(b, load(b, b.add(at, k), kind), b.add(to, k))
    store(b, load(b, b.add(at, last), kind), b.add(to, last))
