"""Kernels that do one thing so often that its time can be read off, for `gpu_check.part_latency`.

This module imports numba.cuda: only the process of a part may import it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int32

from qrnn.backends.cuda.launch import configured, kernel

ROUNDS = 7
"""The number of times of which the median is taken."""


@kernel(256)
def block_barriers(count: Any) -> None:
    """Pass ``count`` barriers of a block."""
    for _ in range(count):
        cuda.syncthreads()


@kernel(256)
def grid_barriers(count: Any) -> None:
    """Pass ``count`` barriers of a cooperative grid."""
    grid = cuda.cg.this_grid()
    for _ in range(count):
        grid.sync()


@kernel(256)
def grid_exchanges(count: Any, values: Any) -> None:
    """Write a word before each meeting, and after it read the neighbour's, on which the next word depends."""
    grid = cuda.cg.this_grid()
    me, blocks = cuda.blockIdx.x, cuda.gridDim.x
    mine = int32(me)
    for k in range(count):
        if cuda.threadIdx.x == 0:
            values[k & 1, me] = mine + int32(k)
        grid.sync()
        if cuda.threadIdx.x == 0:
            mine = values[k & 1, (me + 1) % blocks]
    if cuda.threadIdx.x == 0:
        values[0, me] = mine


@kernel(256)
def no_work(count: Any) -> None:
    """Do nothing; this is the shortest kernel."""


@kernel(256)
def no_work_on_arrays(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any, j: Any, n: Any) -> None:
    """Do nothing with about as many arrays as a kernel of the fused steps is given."""


@kernel(256)
def chase(links: Any, count: Any, out: Any) -> None:
    """Go from word to word with one thread: each read waits for the one before."""
    at = links[0]
    for _ in range(count):
        at = links[at]
    out[0] = at


def milliseconds(run: Callable[[], Any]) -> float:
    """Time work on the default stream by CUDA's events."""
    begin, end = cuda.event(), cuda.event()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(cuda.event_elapsed_time(begin, end))


def slope_us(run: Callable[[int], Any], few: int, many: int) -> float:
    """Return the µs of one repetition, from the medians of launches with ``many`` and with ``few`` of them."""
    run(few)
    run(many)
    times = [median(milliseconds(lambda n=n: run(n)) for _ in range(ROUNDS)) for n in (few, many)]  # type: ignore[misc]
    return 1000 * (times[1] - times[0]) / (many - few)


def block_barrier_us(threads: int) -> float:
    """Return the µs of a barrier of a block's threads."""
    return slope_us(configured(block_barriers, 1, threads), 2000, 20000)


def grid_barrier_us(blocks: int, threads: int) -> float:
    """Return the µs that a cooperative grid takes to meet."""
    return slope_us(configured(grid_barriers, blocks, threads), 200, 2200)


def grid_exchange_us(blocks: int, threads: int) -> float:
    """Return the µs of a write, a meeting of the grid, and a read of what another block has written."""
    values = cuda.to_device(np.zeros((2, blocks), np.int32))
    launch = configured(grid_exchanges, blocks, threads)
    return slope_us(lambda count: launch(count, values), 200, 2200)


def read_us(size: int) -> float:
    """Return the µs of a read that waits for the one before; the words are spread over ``size`` bytes in an order without pattern."""
    stride = 32  # words: a line of its own for each
    count = max(2, size // (4 * stride))
    order = np.random.default_rng(0).permutation(count)
    links = np.zeros(count * stride, np.int32)
    links[order * stride] = np.roll(order, -1) * stride
    given, out = cuda.to_device(links), cuda.to_device(np.zeros(1, np.int32))
    launch = configured(chase, 1, 1)
    return slope_us(lambda n: launch(given, n, out), 2000, 22000)


def launches_us(run: Callable[[], Any], count: int) -> tuple[float, float]:
    """Return the medians of a launch's µs on the host and of its µs until the device has done it, of ``count`` launches in a row."""
    host, whole = [], []
    run()
    for _ in range(ROUNDS):
        cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            run()
        launched = time.perf_counter()
        cuda.synchronize()
        host.append(launched - begin)
        whole.append(time.perf_counter() - begin)
    return 1e6 * median(host) / count, 1e6 * median(whole) / count


def round_trip_us(run: Callable[[], Any], count: int) -> float:
    """Return the median µs of a launch that the host waits for."""
    run()
    times = []
    for _ in range(count):
        cuda.synchronize()
        begin = time.perf_counter()
        run()
        cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 1e6 * median(times)


def call_us(run: Callable[[], Any], count: int) -> float:
    """Return the median µs of a call that returns when its work is done."""
    run()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e6 * median(times)
