"""The things that the backend's kernels need, each in a kernel as small as can be; one that does not work says so by its own name.

This module imports numba.cuda: only the process of a part may import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int32

from qrnn.backends.cuda import fragments
from qrnn.backends.cuda.device import find_device
from qrnn.backends.cuda.fragments import LANES
from qrnn.backends.cuda.intrinsics import dp4a, dp4a_unsigned, mma, mma_unsigned, shuffle_xor
from qrnn.backends.cuda.launch import configured, kernel, most_blocks_that_meet, sized
from qrnn.backends.cuda.simulated import dot4, multiply_tile


@kernel(64)
def _add_one(values: Any) -> None:
    i = cuda.grid(1)
    if i < values.shape[0]:
        values[i] += 1


@kernel(32)
def _dots(words: Any, out: Any) -> None:
    lane = cuda.threadIdx.x
    out[0, lane] = dp4a(words[0, lane], words[1, lane], words[2, lane])
    out[1, lane] = dp4a_unsigned(words[0, lane], words[1, lane], words[2, lane])


@kernel(32)
def _tiles(words: Any, out: Any) -> None:
    """Multiply words [10, 32], the registers of a product, into out [2, 4, 32]."""
    l = cuda.threadIdx.x
    first = mma(
        words[0, l], words[1, l], words[2, l], words[3, l], words[4, l], words[5, l], words[6, l], words[7, l], words[8, l], words[9, l]
    )  # fmt: skip
    second = mma_unsigned(
        words[0, l], words[1, l], words[2, l], words[3, l], words[4, l], words[5, l], words[6, l], words[7, l], words[8, l], words[9, l]
    )  # fmt: skip
    out[0, 0, l], out[0, 1, l], out[0, 2, l], out[0, 3, l] = first
    out[1, 0, l], out[1, 1, l], out[1, 2, l], out[1, 3, l] = second


@kernel(32)
def _shuffle(words: Any, out: Any) -> None:
    lane = cuda.threadIdx.x
    out[0, lane] = shuffle_xor(words[0, lane], 1)
    out[1, lane] = shuffle_xor(words[0, lane], 2)


@kernel(256)
def _shared(words: Any, count: Any) -> None:
    """Write ``count`` words of dynamic shared memory and read them in the other order."""
    kept = cuda.shared.array(0, int32)
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        kept[i] = i
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        words[i] = kept[count - 1 - i]


@kernel(256)
def _meet(values: Any, times: Any) -> None:
    """Add each block's neighbour's number to its own, then meet; the sum is wrong where a block is ahead or reads too early."""
    grid = cuda.cg.this_grid()
    me, blocks = cuda.blockIdx.x, cuda.gridDim.x
    for k in range(times):
        now, after = k & 1, 1 - (k & 1)
        if cuda.threadIdx.x == 0:
            values[after, me] = (values[now, me] + values[now, (me + 1) % blocks] + k) & 0xFFFF
        grid.sync()


def add_one() -> str:
    """Compile and launch a kernel, and compare its result."""
    values = cuda.to_device(np.arange(1000))
    configured(_add_one, 16, 64)(values)
    assert np.array_equal(values.copy_to_host(), 1 + np.arange(1000))
    return "ok"


def _registers(count: int) -> Any:
    return np.random.default_rng(count).integers(-(1 << 31), 1 << 31, (count, LANES)).astype(np.int32)


def dot_products() -> str:
    """Compare `dp4a`, signed and unsigned, with its definition."""
    words, out = _registers(3), cuda.to_device(np.zeros((2, LANES), np.int32))
    configured(_dots, 1, LANES)(cuda.to_device(words), out)
    want = [[dot4(int(a), int(b), int(c), signed) for a, b, c in words.T] for signed in (True, False)]
    assert np.array_equal(out.copy_to_host(), want)
    return "ok"


def tensor_cores() -> str:
    """Compare `mma.sync.m16n8k32`, signed and unsigned, with its definition."""
    words, out = (
        _registers(fragments.A_REGISTERS + fragments.B_REGISTERS + fragments.C_REGISTERS),
        np.zeros((2, 4, LANES), np.int32),
    )
    words[6:] >>= 4
    on_device = cuda.to_device(out)
    configured(_tiles, 1, LANES)(cuda.to_device(words), on_device)
    lanes = [tuple(int(v) for v in words[:, lane]) for lane in range(LANES)]
    want = [np.transpose(multiply_tile(lanes, signed)) for signed in (True, False)]
    assert np.array_equal(on_device.copy_to_host(), want)
    return "ok"


def shuffles() -> str:
    """Compare `shfl.sync.bfly` with its definition."""
    words, out = _registers(1), cuda.to_device(np.zeros((2, LANES), np.int32))
    configured(_shuffle, 1, LANES)(cuda.to_device(words), out)
    lanes = np.arange(LANES)
    assert np.array_equal(out.copy_to_host(), [words[0, lanes ^ 1], words[0, lanes ^ 2]])
    return "ok"


def shared_memory() -> str:
    """Use as much shared memory as a block may ask for."""
    size = find_device().shared_per_block // 4 * 4
    count = size // 4
    words = cuda.to_device(np.zeros(count, np.int32))
    made = sized(_shared, size, (words, count))
    configured(made, 1, 256, size)(words, count)
    assert np.array_equal(words.copy_to_host(), np.arange(count)[::-1])
    return f"ok, {size} bytes"


def grid_barrier() -> str:
    """Meet ten thousand times in a cooperative grid of a block per multiprocessor, in which each block sees what the others wrote."""
    blocks, times = find_device().processors, 10_000
    start = np.random.default_rng(0).integers(0, 1 << 16, blocks)
    values = cuda.to_device(np.stack([start, start]))
    made = sized(_meet, 0, (values, times))
    most = most_blocks_that_meet(made, 256, 0)
    assert most >= blocks, f"the device holds {most} blocks of a cooperative grid, expected at least {blocks}"
    configured(made, blocks, 256)(values, times)
    now = start
    for k in range(times):
        now = (now + np.roll(now, -1) + k) & 0xFFFF
    assert np.array_equal(values.copy_to_host()[times & 1], now), "a block read what another had not yet written"
    return f"ok, {blocks} blocks met {times} times; the device holds {most} such blocks"


def fused_step() -> str:
    """Compare a small LSTM with the reference."""
    from bench_workloads import inputs, network

    from qrnn import Session

    model, data = network("lstm", 8).quantized, {"x": inputs(8, 2, 3, seed=2)}
    want, session = Session(model, "reference").run(data).outputs["y"], Session(model, "cuda")
    assert np.array_equal(session.run(data).outputs["y"], want)
    (choice,) = session.engine.plans(2).values()  # type: ignore[attr-defined]
    return f"ok, {choice}"


PROBES: dict[str, Callable[[], str]] = {
    "a kernel": add_one,
    "byte dot products": dot_products,
    "tensor cores": tensor_cores,
    "shuffles": shuffles,
    "shared memory": shared_memory,
    "an LSTM": fused_step,
    "grid barrier": grid_barrier,
}
"""The probes in the order in which they run: the one that may hang is the last."""

SIMULATED = ("a kernel", "byte dot products", "tensor cores", "shuffles", "an LSTM")
"""The probes that Numba's simulator can run."""
