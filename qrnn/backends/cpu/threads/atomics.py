"""Atomic reads and writes of int64, and what a waiting thread does, as LLVM: a barrier of Python would cost more than the step it guards."""

from __future__ import annotations

import platform
import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qrnn.backends.cpu.parts import function_of
from qrnn.backends.cpu.threads.team import SUPPORTED


@intrinsic
def load_acquire(_context: Any, array: Any, index: Any) -> Any:
    """Return flags[index], ordered before everything that follows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flags = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(builder.gep(flags.data, [args[1]]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Set flags[index] = value, ordered after everything that came before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flags = context.make_array(signature.args[0])(context, builder, args[0])
        builder.store_atomic(args[2], builder.gep(flags.data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def word_at(_context: Any, address: Any, index: Any) -> Any:
    """Return the int64 number ``index`` of those at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(words, [args[1]]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def put_word(_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Let the int64 number ``index`` of those at an address be ``value``."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store(args[2], builder.gep(words, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def yield_processor(_context: Any) -> Any:
    """Give way by sched_yield() when the other threads are not running, as on a busy machine."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if SUPPORTED:
            builder.call(function_of(builder.module, "sched_yield", ir.IntType(32), []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def read_byte(_context: Any, pipe: Any, into: Any) -> Any:
    """Read one byte from a pipe, by its number, to into[0] with read().

    The thread sleeps until another one writes the byte.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if SUPPORTED:
            number, word = ir.IntType(32), ir.IntType(64)
            place = context.make_array(signature.args[1])(context, builder, args[1]).data
            function = function_of(builder.module, "read", word, [number, place.type, word])
            builder.call(function, [builder.trunc(args[0], number), place, ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(types.int64, into), codegen


@intrinsic
def nanoseconds(_context: Any) -> Any:
    """Return the time by a clock that only goes on, clock_gettime(CLOCK_MONOTONIC).

    It is 0 on systems without thread teams.
    """

    def codegen(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        word, number = ir.IntType(64), ir.IntType(32)
        if not SUPPORTED:
            return ir.Constant(word, 0)
        pair = ir.ArrayType(word, 2)
        with builder.goto_entry_block():
            place = builder.alloca(pair)
        function = function_of(builder.module, "clock_gettime", number, [number, pair.as_pointer()])
        builder.call(function, [ir.Constant(number, time.CLOCK_MONOTONIC), place])
        seconds, rest = (builder.extract_value(builder.load(place), k) for k in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(word, 1_000_000_000)), rest)

    return types.int64(), codegen


@intrinsic
def exchange_if(_context: Any, array: Any, index: Any, expected: Any, value: Any) -> Any:
    """Set array[index] = value if it is ``expected``, at once, and return whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(words.data, [args[1]])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), codegen


_YIELD = ir.Constant(ir.IntType(32), 1)
_PAUSES: dict[str, tuple[str, list[Any]]] = {
    "x86_64": ("llvm.x86.sse2.pause", []),
    "amd64": ("llvm.x86.sse2.pause", []),
    "aarch64": ("llvm.aarch64.hint", [_YIELD]),
    "arm64": ("llvm.aarch64.hint", [_YIELD]),
}
"""LLVM's intrinsic and its arguments, by `platform.machine`."""


@intrinsic
def pause(_context: Any) -> Any:
    """Emit what a processor has for loops that wait."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if found := _PAUSES.get(platform.machine().lower()):
            kinds = [value.type for value in found[1]]
            builder.call(function_of(builder.module, found[0], ir.VoidType(), kinds), found[1])
        return context.get_dummy_value()

    return types.void(), codegen


def _fetch(locality: int) -> Any:
    """Return an intrinsic that begins to bring the cache line at an address here.

    ``locality`` is that of LLVM's prefetch.
    """

    def fetching(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            kinds = [pointer, word, word, word]
            function = function_of(builder.module, "llvm.prefetch.p0i8", ir.VoidType(), kinds)
            builder.call(
                function, [builder.inttoptr(args[0], pointer), *(ir.Constant(word, k) for k in (0, locality, 1))]
            )
            return context.get_dummy_value()

        return types.void(address), codegen

    return intrinsic(fetching)


fetch = _fetch(3)
"""Begin to bring the cache line at an address here, which is needed at once."""

fetch_ahead = _fetch(2)
"""The same for a line that is needed later, into the second-level cache."""
