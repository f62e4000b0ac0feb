"""A spin barrier between the threads of a gang, in LLVM atomics: a Python barrier would cost more than the step it guards."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qrnn.backends.cpu.jit import jit

GANGS_WORK = sys.platform != "win32"
"""The barrier yields the processor by sched_yield, which POSIX systems have."""

FLAG_STRIDE = 16
"""int64 entries between two threads' flags: 128 bytes, so that no two share a cache line."""

_SPINS = 2000


@intrinsic
def _load_acquire(_context: Any, array: Any, index: Any) -> Any:
    """flags[index], ordered before everything that follows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flags = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(builder.gep(flags.data, [args[1]]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def _store_release(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """flags[index] = value, ordered after everything that came before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flags = context.make_array(signature.args[0])(context, builder, args[0])
        builder.store_atomic(args[2], builder.gep(flags.data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def _yield_processor(_context: Any) -> Any:
    """sched_yield(): give way when the other threads are not running, as on a busy machine."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if GANGS_WORK:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield"
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def wait_for_all(flags: Any, me: int, threads: int, epoch: int) -> None:
    """Return when every thread of the gang has reached ``epoch``; a gang of one returns at once."""
    if threads == 1:
        return
    _store_release(flags, me * FLAG_STRIDE, epoch)
    for other in range(threads):
        spins = 0
        while _load_acquire(flags, other * FLAG_STRIDE) < epoch:
            spins += 1
            if spins > _SPINS:
                _yield_processor()
