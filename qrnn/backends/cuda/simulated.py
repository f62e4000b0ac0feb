"""What the intrinsics do, in plain Python: one definition of each instruction, run by Numba's CUDA simulator in its place.

The simulator runs a block's threads as threads of the operating system and one block after another. It shows whether indices, layouts,
barriers inside a block and the arithmetic are right. It does not show overflow of machine integers (these are Python's), races between
warps that share no barrier, blocks that wait for each other, alignment, limits of registers and shared memory, or speed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn.backends.cuda.fragments import (
    A_REGISTERS,
    B_REGISTERS,
    C_REGISTERS,
    LANES,
    TILE_COLUMNS,
    TILE_DEPTH,
    TILE_ROWS,
    a_place,
    b_place,
    c_place,
    small_a_place,
    small_c_place,
)

PATIENCE_SECONDS = 120.0
"""How long a lane waits for the others of its warp: one that failed never comes."""


def wrap32(value: int) -> int:
    """The int32 with the same low 32 bits."""
    return ((int(value) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def octets(word: int, signed: bool = True) -> list[int]:
    """A register's four bytes, the lowest first."""
    values = [(int(word) >> shift) & 255 for shift in (0, 8, 16, 24)]
    return [v - 256 if signed and v > 127 else v for v in values]


def dot4(a: int, b: int, c: int, signed: bool) -> int:
    """dp4a: c + Σ a[k] · b[k] over four bytes, a signed, b signed or not."""
    return wrap32(int(c) + sum(x * y for x, y in zip(octets(a), octets(b, signed), strict=True)))


def multiply_tile(lanes: list[tuple[int, ...]], signed: bool) -> list[tuple[int, ...]]:
    """mma.sync.m16n8k32: from each lane's (a0…a3, b0, b1, c0…c3) each lane's d0…d3."""
    a, b = np.zeros((TILE_ROWS, TILE_DEPTH), np.int64), np.zeros((TILE_DEPTH, TILE_COLUMNS), np.int64)
    for lane, values in enumerate(lanes):
        for register in range(A_REGISTERS):
            for byte, value in enumerate(octets(values[register])):
                a[a_place(lane, register, byte)] = value
        for register in range(B_REGISTERS):
            for byte, value in enumerate(octets(values[A_REGISTERS + register], signed)):
                b[b_place(lane, register, byte)] = value
    product = a @ b
    return [
        tuple(wrap32(int(product[c_place(lane, r)]) + int(values[6 + r])) for r in range(C_REGISTERS))
        for lane, values in enumerate(lanes)
    ]


def multiply_small_tile(lanes: list[tuple[int, ...]], signed: bool) -> list[tuple[int, ...]]:
    """mma.sync.m8n8k16: from each lane's (a, b, c0, c1) each lane's d0, d1."""
    a, b = np.zeros((8, 16), np.int64), np.zeros((8, 16), np.int64)
    for lane, values in enumerate(lanes):
        for byte in range(4):
            place = small_a_place(lane, byte)
            a[place], b[place] = octets(values[0])[byte], octets(values[1], signed)[byte]
    product = a @ b.T
    return [
        tuple(wrap32(int(product[small_c_place(lane, r)]) + int(values[2 + r])) for r in range(2))
        for lane, values in enumerate(lanes)
    ]


class _Warp:
    """Where the 32 lanes of a simulated warp meet to do something together."""

    def __init__(self) -> None:
        self._given: list[Any] = [None] * LANES
        self._results: list[Any] = []
        self._operation: Callable[[list[Any]], list[Any]] = list
        self._barrier = threading.Barrier(LANES, action=self._act)

    def _act(self) -> None:
        self._results = self._operation(list(self._given))

    def together(self, operation: Callable[[list[Any]], list[Any]], lane: int, value: Any) -> Any:
        """``operation`` of all lanes' values; this lane's part of what it returns. No lane comes again before all have been released."""
        self._given[lane], self._operation = value, operation
        self._barrier.wait(PATIENCE_SECONDS)
        return self._results[lane]


_NEW_WARP = threading.Lock()


def _together(operation: Callable[[list[Any]], list[Any]], value: Any) -> Any:
    thread: Any = threading.current_thread()  # the simulator's: it knows its number in the block, and its block
    with _NEW_WARP:
        warps = thread._manager.__dict__.setdefault("qrnn_warps", {})
        warp = warps.setdefault(thread.thread_id // LANES, _Warp())
    return warp.together(operation, thread.thread_id % LANES, value)


def dp4a(a: int, b: int, c: int) -> int:
    """Signed times signed."""
    return dot4(a, b, c, True)


def dp4a_unsigned(a: int, b: int, c: int) -> int:
    """Signed times unsigned."""
    return dot4(a, b, c, False)


def _tile(lanes: list[Any]) -> list[Any]:
    return multiply_tile(lanes, True)


def _tile_unsigned(lanes: list[Any]) -> list[Any]:
    return multiply_tile(lanes, False)


def _small_tile(lanes: list[Any]) -> list[Any]:
    return multiply_small_tile(lanes, True)


def _small_tile_unsigned(lanes: list[Any]) -> list[Any]:
    return multiply_small_tile(lanes, False)


def mma(*registers: int) -> Any:
    """m16n8k32, both signed."""
    return _together(_tile, registers)


def mma_unsigned(*registers: int) -> Any:
    """m16n8k32, B unsigned."""
    return _together(_tile_unsigned, registers)


def mma_small(*registers: int) -> Any:
    """m8n8k16, both signed."""
    return _together(_small_tile, registers)


def mma_small_unsigned(*registers: int) -> Any:
    """m8n8k16, B unsigned."""
    return _together(_small_tile_unsigned, registers)


def shuffle_xor(value: int, mask: int) -> Any:
    """The value of the lane whose number differs in the bits of ``mask``."""
    return _together(lambda lanes: [lanes[lane ^ mask] for lane in range(LANES)], value)


def as_integers(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of Python's integers, which have no width; NumPy's, which arrays hold, would overflow where registers are wider."""

    def call(*arguments: Any) -> Any:
        return function(*(int(v) if isinstance(v, np.integer) else v for v in arguments))

    return call
