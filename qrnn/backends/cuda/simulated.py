"""Plain Python says what each intrinsic does; Numba's CUDA simulator runs these definitions in the place of the instructions.

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
"""The seconds that a lane waits for the others of its warp: one that failed never comes."""


def wrap32(value: Any) -> Any:
    """Return the int32 with the same low 32 bits."""
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def octets(words: Any, signed: bool = True) -> Any:
    """Return the four bytes of each register, the lowest first: [..., 4] int64."""
    found = np.ascontiguousarray(np.asarray(words, np.int64) & 0xFFFFFFFF, np.uint32)[..., None]
    return found.view(np.int8 if signed else np.uint8).astype(np.int64)


def dot4(a: int, b: int, c: int, signed: bool) -> int:
    """Return dp4a: c + Σ a[k] · b[k] over four bytes, a signed, b signed or not."""
    return int(wrap32(int(c) + int(np.vdot(octets(a), octets(b, signed)))))


def _places(count: int, place: Callable[..., tuple[int, int]], octet: bool = True) -> tuple[Any, Any]:
    """Return what ``place`` says of every lane, register and byte, as two index arrays [32, count, 4], or [32, count]."""
    bytes_of = [(b,) for b in range(4)] if octet else [()]
    found = np.array([[[place(l, r, *b) for b in bytes_of] for r in range(count)] for l in range(LANES)])
    return (found[..., 0], found[..., 1]) if octet else (found[:, :, 0, 0], found[:, :, 0, 1])


_A, _B = _places(A_REGISTERS, a_place), _places(B_REGISTERS, b_place)
_C = _places(C_REGISTERS, c_place, octet=False)
_SMALL_A = _places(1, lambda lane, _register, byte: small_a_place(lane, byte))
_SMALL_C = _places(2, small_c_place, octet=False)


def multiply_tile(lanes: list[tuple[int, ...]], signed: bool) -> list[tuple[int, ...]]:
    """Compute mma.sync.m16n8k32: from each lane's (a0…a3, b0, b1, c0…c3) each lane's d0…d3."""
    registers = np.array(lanes, np.int64)
    a, b = np.zeros((TILE_ROWS, TILE_DEPTH), np.int64), np.zeros((TILE_DEPTH, TILE_COLUMNS), np.int64)
    a[_A], b[_B] = octets(registers[:, :4]), octets(registers[:, 4:6], signed)
    return [tuple(row) for row in wrap32((a @ b)[_C] + registers[:, 6:]).tolist()]


def multiply_small_tile(lanes: list[tuple[int, ...]], signed: bool) -> list[tuple[int, ...]]:
    """Compute mma.sync.m8n8k16: from each lane's (a, b, c0, c1) each lane's d0, d1."""
    registers = np.array(lanes, np.int64)
    a, b = np.zeros((8, 16), np.int64), np.zeros((8, 16), np.int64)
    a[_SMALL_A], b[_SMALL_A] = octets(registers[:, :1]), octets(registers[:, 1:2], signed)
    return [tuple(row) for row in wrap32((a @ b.T)[_SMALL_C] + registers[:, 2:]).tolist()]


class _Warp:
    """The place where the 32 lanes of a simulated warp meet to do something together."""

    def __init__(self) -> None:
        self._given: list[Any] = [None] * LANES
        self._results: list[Any] = []
        self._operation: Callable[[list[Any]], list[Any]] = list
        self._barrier = threading.Barrier(LANES, action=self._act)

    def _act(self) -> None:
        self._results = self._operation(list(self._given))

    def together(self, operation: Callable[[list[Any]], list[Any]], lane: int, value: Any) -> Any:
        """Return this lane's part of ``operation`` on all lanes' values. No lane comes again before all have been released."""
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
    """Return the byte dot product of signed and signed bytes, added to c."""
    return dot4(a, b, c, True)


def dp4a_unsigned(a: int, b: int, c: int) -> int:
    """Return the byte dot product of signed and unsigned bytes, added to c."""
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
    """Compute m16n8k32, both signed."""
    return _together(_tile, registers)


def mma_unsigned(*registers: int) -> Any:
    """Compute m16n8k32, B unsigned."""
    return _together(_tile_unsigned, registers)


def mma_small(*registers: int) -> Any:
    """Compute m8n8k16, both signed."""
    return _together(_small_tile, registers)


def mma_small_unsigned(*registers: int) -> Any:
    """Compute m8n8k16, B unsigned."""
    return _together(_small_tile_unsigned, registers)


def shuffle_xor(value: int, mask: int) -> Any:
    """Return the value of the lane whose number differs in the bits of ``mask``."""
    return _together(lambda lanes: [lanes[lane ^ mask] for lane in range(LANES)], value)


def as_integers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` on Python's integers, which have no width; NumPy's, which arrays hold, would overflow where registers are wider."""

    def call(*arguments: Any) -> Any:
        return function(*(int(v) if isinstance(v, np.integer) else v for v in arguments))

    return call


class Integers:
    """An array whose values are read as Python's integers. It has what the loops of layers use of an array, and no more."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Any:
        found = self._array[place]
        return Integers(found) if hasattr(found, "shape") and found.shape else int(found)

    def __setitem__(self, place: Any, value: int) -> None:
        self._array[place] = value


def on_integers(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loop of a layer on `Integers` in the place of arrays, and on Python's integers."""

    def call(*arguments: Any) -> Any:
        return loop(*(Integers(v) if hasattr(v, "shape") and v.shape else int(v) for v in arguments))

    return call
