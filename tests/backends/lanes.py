"""Compiled kernels of lifted functions for tests: integers of up to 64 bits in, the lifted function on every lane, integers out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qrnn.backends.cpu.isa import ISAS, available_isas, load, store
from qrnn.backends.cpu.parts import Parts, count_of, vector_type
from qrnn.backends.cpu.vector import Vec

Bounds = tuple[int, int]
Integers = npt.NDArray[np.int64]
Body = Callable[[Any, list[Vec], Any], Sequence[Vec]]
"""(builder, arguments, table address) → results."""

LANES = sorted({units for i in ISAS if i.name in available_isas() for units in (i.lanes, i.with_int16_lanes().units)})


def fits_32(low: int, high: int) -> bool:
    return low >= -(1 << 31) and high < 1 << 31


def _argument(builder: Any, words: tuple[Parts, Parts], bounds: Bounds) -> Vec:
    """A Vec from the low and high words in memory, the low ones with 2^31 taken off where there are high ones."""
    low, high = bounds
    if fits_32(low, high):
        return Vec(builder, words[0], low, high).narrowed()
    top = Vec(builder, words[1], low >> 32, high >> 32)
    found = top * (1 << 32) + (Vec(builder, words[0], -(1 << 31), (1 << 31) - 1) + (1 << 31))
    found.low, found.high = low, high
    return found


class Kernel:
    """``body`` on vectors of ``lanes``, compiled; call it with columns of integers within ``bounds``."""

    def __init__(self, lanes: int, bounds: Sequence[Bounds], body: Body) -> None:
        self.lanes, self.bounds, self.results = lanes, tuple(bounds), list[Bounds]()
        self._run = self._compiled(body)

    def _compiled(self, body: Body) -> Any:
        registers, results = count_of(self.lanes, 32), self.results
        kind = vector_type(self.lanes // registers, 32)

        @intrinsic
        def emit(_context: Any, data: Any, out: Any, table: Any, count: Any) -> Any:
            def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                data, out, table, count = args
                i64 = count.type

                def at(base: Any, row: int, k: Any, register: int) -> Any:
                    place = builder.add(builder.mul(count, ir.Constant(i64, row)), k)
                    place = builder.add(place, ir.Constant(i64, register * kind.count))
                    return builder.add(base, builder.shl(place, ir.Constant(i64, 2)))

                def read(row: int, k: Any) -> Parts:
                    return tuple(load(builder, at(data, row, k, r), kind) for r in range(registers))

                def write(v: Vec, row: int, k: Any) -> None:
                    for r, part in enumerate(v.like(32)):
                        store(builder, part, at(out, row, k, r))

                results.clear()
                with cgutils.for_range_slice(builder, ir.Constant(i64, 0), count, ir.Constant(i64, self.lanes)) as (
                    k,
                    _,
                ):
                    arguments = []
                    for row, bounds in enumerate(self.bounds):
                        arguments.append(_argument(builder, (read(2 * row, k), read(2 * row + 1, k)), bounds))
                    for row, found in enumerate(body(builder, arguments, table)):
                        results.append((found.low, found.high))
                        write(found, 2 * row, k)
                        if not fits_32(found.low, found.high):
                            write(found >> 32, 2 * row + 1, k)
                return context.get_dummy_value()

            return types.void(data, out, table, count), codegen

        @numba.njit("void(int64, int64, int64, int64)")
        def run(data: int, out: int, table: int, count: int) -> None:
            emit(data, out, table, count)

        return run

    def __call__(self, columns: Sequence[Any], table: npt.NDArray[Any] | None = None) -> list[Integers]:
        """One array of results for each Vec that the body returned."""
        count = len(columns[0])
        padded = -(-count // self.lanes) * self.lanes
        data = np.zeros((len(self.bounds), 2, padded), np.int32)
        for row, column, bounds in zip(data, columns, self.bounds, strict=True):
            values = np.resize(np.asarray(column, np.int64), padded)
            assert bounds[0] <= values.min()
            assert values.max() <= bounds[1]
            wide = not fits_32(*bounds)
            row[0] = (
                ((values & 0xFFFFFFFF) - (1 << 31 if wide else 0)).astype(np.uint64).astype(np.uint32).view(np.int32)
            )
            row[1] = values >> 32
        out = np.zeros((len(self.results), 2, padded), np.int32)
        pairs = np.zeros(1, np.int32) if table is None else table
        self._run(data.ctypes.data, out.ctypes.data, pairs.ctypes.data, padded)
        found = []
        for row, bounds in zip(out[:, :, :count].astype(np.int64), self.results, strict=True):
            low, high = row
            found.append(low if fits_32(*bounds) else (high << 32) + (low & 0xFFFFFFFF))
        return found


def edges(low: int, high: int) -> list[int]:
    """Values of [low, high]: both ends, zero, and the neighbours of every power of two."""
    near = {sign * (1 << bit) + d for sign in (-1, 1) for bit in range(63) for d in (-1, 0, 1)}
    return sorted({low, low + 1, high - 1, high, 0, *near} & set(_within(near | {0}, low, high)) | {low, high})


def _within(values: set[int], low: int, high: int) -> set[int]:
    return {v for v in values if low <= v <= high}


def columns_of(bounds: Sequence[Bounds], count: int, seed: int) -> list[list[int]]:
    """``count`` values of each argument: ends and edges, numbers of every size, and uniform ones."""
    rng = random.Random(seed)

    def number(low: int, high: int, known: list[int]) -> int:
        kind = rng.randrange(4)
        if kind == 0:
            return rng.choice((low, high))
        if kind == 1:
            return rng.choice(known)
        if kind == 2:
            return rng.randint(low, high)
        size = 1 << rng.randint(0, max(abs(low), abs(high)).bit_length())
        return min(high, max(low, rng.randint(-size, size)))

    found = []
    for low, high in bounds:
        known = edges(low, high)
        found.append([number(low, high, known) for _ in range(count)])
    return found
