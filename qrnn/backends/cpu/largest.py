"""The largest of several int16 in the same lane, as LLVM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from qrnn.backends.cpu.isa import const, load, store
from qrnn.backends.cpu.parts import extreme, for_range, vector_type

LARGEST_ARGS = ("x", "out", "channels", "places", "place_step", "taps", "tap_step")
"""What `emit_largest` takes by name: addresses of int16; channels, places and taps; the bytes of x between two places and two taps."""

WIDTHS = (32, 16, 8, 1)
"""Channels that are computed at once."""


def emit_largest(builder: Any, values: Sequence[Any]) -> None:
    """Write out[p, c] = max over the taps k of x[p · place_step + k · tap_step + c]; the last channels are computed twice to fill a vector."""
    args = dict(zip(LARGEST_ARGS, values, strict=True))
    with builder.if_else(builder.icmp_signed("==", args["taps"], const(2))) as (two, any_number):
        with two:
            _by_width(builder, args, WIDTHS, _larger)
        with any_number:
            _by_width(builder, args, WIDTHS, _largest)


Over = Callable[[Any, dict[str, Any], Any, Any], Any]
"""What emits the largest value over the taps, of vectors of a type at an address."""


def _by_width(builder: Any, args: dict[str, Any], widths: Sequence[int], over: Over) -> None:
    b, width = builder, widths[0]
    if len(widths) == 1:
        _places(b, args, width, over)
        return
    with b.if_else(b.icmp_signed(">=", args["channels"], const(width))) as (wide, narrow):
        with wide:
            _places(b, args, width, over)
        with narrow:
            _by_width(b, args, widths[1:], over)


def _places(builder: Any, args: dict[str, Any], width: int, over: Over) -> None:
    b, kind = builder, vector_type(width, 16)
    row = b.mul(args["channels"], const(2))
    last = b.sub(row, const(2 * width))
    with for_range(b, const(0), args["places"]) as place:
        at, to = b.add(args["x"], b.mul(place, args["place_step"])), b.add(args["out"], b.mul(place, row))
        with for_range(b, const(0), last, 2 * width) as k:
            store(b, over(b, args, b.add(at, k), kind), b.add(to, k), 2)
        store(b, over(b, args, b.add(at, last), kind), b.add(to, last), 2)


def _larger(builder: Any, args: dict[str, Any], at: Any, kind: Any) -> Any:
    """Emit the larger of two taps."""
    one, other = load(builder, at, kind, 2), load(builder, builder.add(at, args["tap_step"]), kind, 2)
    return extreme(builder, "smax", one, other)


def _largest(builder: Any, args: dict[str, Any], at: Any, kind: Any) -> Any:
    """Emit the largest of any number of taps, one or more."""
    b, first = builder, load(builder, at, kind, 2)
    before = b.basic_block
    loop, done = (b.append_basic_block(name) for name in ("taps", "largest"))
    b.cbranch(b.icmp_signed(">", args["taps"], const(1)), loop, done)
    b.position_at_end(loop)
    tap, now = b.phi(const(0).type), b.phi(kind)
    found = extreme(b, "smax", now, load(b, b.add(at, b.mul(tap, args["tap_step"])), kind, 2))
    following = b.add(tap, const(1))
    for phi, start, value in ((tap, const(1), following), (now, first, found)):
        phi.add_incoming(start, before)
        phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, args["taps"]), loop, done)
    b.position_at_end(done)
    result = b.phi(kind)
    result.add_incoming(first, before)
    result.add_incoming(found, loop)
    return result


def emit_zeros(builder: Any, values: Sequence[Any]) -> None:
    """Write as many int16 zeros to an address."""
    b, (to, count) = builder, values
    with for_range(b, const(0), count) as k:
        store(b, ir.Constant(ir.IntType(16), 0), b.add(to, b.mul(k, const(2))), 2)
