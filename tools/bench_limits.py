"""Measure what one machine's cores can do at best: bytes read per second from a footprint, and int8 multiply-adds per second.

The probes are written in vector instructions, so that they are the limits of the cores and not those of a compiler: loads of 64 bytes for
reading; for multiply-adds AMX tiles, else AVX-512 VNNI, else a plain loop that the compiler vectorizes as it can.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from qrnn.running.bench import seconds, settle

ROUNDS = 15
SAMPLE_SECONDS = 0.005
ACCUMULATORS = 8
"""Independent sums in the loops, more than the latency of an instruction asks for; a chunk of memory is read once for each."""

WORD = 64
"""Bytes of a load."""

I64 = ir.IntType(64)
VECTOR = ir.VectorType(I64, WORD // 8)


def _compiled(function: Callable[..., Any]) -> Any:
    return numba.njit(nogil=True)(function)


def _loop(builder: Any, count: Any, starts: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop that runs ``body(k, values)`` ``count`` ≥ 1 times from the values ``starts``, and return the last values."""
    before = builder.block
    loop, after = builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(I64)
    values = [builder.phi(start.type) for start in starts]
    k.add_incoming(ir.Constant(I64, 0), before)
    for value, start in zip(values, starts, strict=True):
        value.add_incoming(start, before)
    results = body(k, list(values))
    following = builder.add(k, ir.Constant(I64, 1))
    k.add_incoming(following, loop)
    for value, result in zip(values, results, strict=True):
        value.add_incoming(result, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return results


def _first_of_sum(builder: Any, vectors: list[Any]) -> Any:
    total = vectors[0]
    for vector in vectors[1:]:
        total = builder.xor(total, vector)
    return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))


def _read(_typing: Any, _address: Any, _chunks: Any) -> Any:
    """Emit read(address, chunks), which loads every byte of ``chunks`` × 512 bytes once, into independent sums."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address, chunks = arguments
        start = builder.inttoptr(address, VECTOR.as_pointer())

        def body(k: Any, sums: list[Any]) -> list[Any]:
            place = builder.mul(k, ir.Constant(I64, ACCUMULATORS))
            results = []
            for number, total in enumerate(sums):
                loaded = builder.load(builder.gep(start, [builder.add(place, ir.Constant(I64, number))]))
                loaded.align = WORD
                results.append(builder.xor(total, loaded))
            return results

        zeros = [ir.Constant(VECTOR, [0] * (WORD // 8)) for _ in range(ACCUMULATORS)]
        return _first_of_sum(builder, _loop(builder, chunks, zeros, body))

    return types.int64(types.uintp, types.int64), generate


def _vnni(_typing: Any, _count: Any) -> Any:
    """Emit vnni(count), which runs ``count`` × ACCUMULATORS instructions of 64 multiply-adds each, on registers."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR, VECTOR, VECTOR])
        instruction = ir.InlineAsm(kind, "vpdpbusd $2, $1, $0", "=v,v,v,0", side_effect=True)
        ones = ir.Constant(VECTOR, [0x0101010101010101] * (WORD // 8))

        def body(_k: Any, sums: list[Any]) -> list[Any]:
            return [builder.call(instruction, [ones, ones, total]) for total in sums]

        zeros = [ir.Constant(VECTOR, [0] * (WORD // 8)) for _ in range(ACCUMULATORS)]
        return _first_of_sum(builder, _loop(builder, arguments[0], zeros, body))

    return types.int64(types.int64), generate


AMX_LOOP = """
ldtilecfg ($1)
tilezero %tmm0
tilezero %tmm1
tilezero %tmm2
tilezero %tmm3
tilezero %tmm4
tilezero %tmm5
tilezero %tmm6
tilezero %tmm7
1:
tdpbssd %tmm7, %tmm6, %tmm0
tdpbssd %tmm7, %tmm6, %tmm1
tdpbssd %tmm7, %tmm6, %tmm2
tdpbssd %tmm7, %tmm6, %tmm3
tdpbssd %tmm7, %tmm6, %tmm4
tdpbssd %tmm7, %tmm6, %tmm5
decq $0
jnz 1b
tilerelease
"""
AMX_MACS = 6 * 16 * 16 * 64
"""Multiply-adds of one turn of the loop."""


def _amx(_typing: Any, _configuration: Any, _count: Any) -> Any:
    """Emit amx(configuration, count), which runs the loop above ``count`` times."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(I64, [I64, I64])
        asm = ir.InlineAsm(kind, AMX_LOOP, "=&r,r,0,~{memory},~{cc}", True)
        return builder.call(asm, arguments)

    return types.int64(types.uintp, types.int64), generate


read_chunks, vnni_turns, amx_turns = intrinsic(_read), intrinsic(_vnni), intrinsic(_amx)


@_compiled
def repeat_read(address: int, chunks: int, repeats: int) -> int:
    """Read a footprint ``repeats`` times."""
    total = 0
    for _ in range(repeats):
        total ^= read_chunks(address, chunks)
    return total


@_compiled
def repeat_vnni(count: int) -> int:
    """Run `_vnni`."""
    return int(vnni_turns(count))


@_compiled
def repeat_amx(configuration: int, count: int) -> int:
    """Run `_amx`."""
    return int(amx_turns(configuration, count))


@_compiled
def repeat_dot(a: Any, b: Any, count: int) -> int:
    """Compute a plain int8 dot product ``count`` times, so that the compiler can leave out none."""
    total = np.int32(0)
    for turn in range(count):
        for k in range(a.shape[0]):
            total += np.int32(a[k]) * np.int32(b[k])
        a[turn & 63] = np.int8(total & 63)
    return int(total)


def _aligned(size: int) -> Any:
    whole = np.ones(size + WORD, np.uint8)
    start = -whole.ctypes.data % WORD
    return whole[start : start + size]


class Cores:
    """Gives each thread of a pool a core of its own, where the system allows it: else it may let two of them take turns on one."""

    def __init__(self, threads: int) -> None:
        self._left = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_setaffinity") else []

    def take(self) -> None:
        """Keep the calling thread on the next core."""
        if self._left:
            os.sched_setaffinity(0, {self._left.pop()})


def _best_rate(calls: Sequence[Callable[[int], Any]], work: float) -> float:
    """Return the most ``work`` per second that ``calls(repeats)`` do together, one per thread and all at once."""
    with ThreadPoolExecutor(len(calls), initializer=Cores(len(calls)).take) as pool:

        def taken(repeats: int) -> float:
            return seconds(lambda: [done.result() for done in [pool.submit(call, repeats) for call in calls]])

        repeats = 1
        while (once := taken(repeats)) < SAMPLE_SECONDS:
            repeats = max(2 * repeats, int(1.2 * repeats * SAMPLE_SECONDS / max(once, 1e-6)))
        return len(calls) * repeats * work / min(taken(repeats) for _ in range(ROUNDS))


@cache
def read_rate(size: int, threads: int) -> float:
    """Return the bytes per second that ``threads`` cores read together, over and over, each its own part of ``size`` bytes."""
    chunk = WORD * ACCUMULATORS
    chunks = max(1, round(size / threads / chunk))
    buffers = [_aligned(chunks * chunk) for _ in range(threads)]
    repeat_read(buffers[0].ctypes.data, chunks, 1)
    settle()
    calls = [partial(repeat_read, buffer.ctypes.data, chunks) for buffer in buffers]
    return _best_rate(calls, float(chunks * chunk))


@dataclass(frozen=True)
class Peak:
    """Int8 multiply-adds per second, and the instructions that reach them."""

    rate: float
    how: str


def _allowed_amx() -> bool:
    """Return whether the system lets this process use AMX tiles, for which it must ask (Linux: arch_prctl ARCH_REQ_XCOMP_PERM)."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)


@cache
def peak(threads: int) -> Peak:
    """Return the most that this machine's instructions give, all ``threads`` cores together."""
    features = binding.get_host_cpu_features()
    found = [_plain(threads)]
    binding.initialize_native_asmparser()  # Numba itself has no use for inline assembly
    if features.get("avx512vnni"):
        repeat_vnni(1)
        settle()
        rate = _best_rate([repeat_vnni] * threads, 64.0 * ACCUMULATORS)
        found.append(Peak(rate, "AVX-512 VNNI (vpdpbusd on registers)"))
    if features.get("amx-int8") and _allowed_amx():
        tiles = _aligned(64)
        tiles[:] = 0
        tiles[0] = 1
        tiles[16:32:2], tiles[48:56] = 64, 16  # every tile: 16 rows of 64 bytes
        repeat_amx(tiles.ctypes.data, 1)
        settle()
        rate = _best_rate([partial(repeat_amx, tiles.ctypes.data)] * threads, float(AMX_MACS))
        found.append(Peak(rate, "AMX (tdpbssd on tiles)"))
    return max(found, key=lambda one: one.rate)


def _plain(threads: int) -> Peak:
    operands = [(_aligned(4096).view(np.int8), _aligned(4096).view(np.int8)) for _ in range(threads)]
    repeat_dot(*operands[0], 1)
    settle()
    calls = [partial(repeat_dot, a, b) for a, b in operands]
    return Peak(_best_rate(calls, 4096.0), "a plain compiled loop")
