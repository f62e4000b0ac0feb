"""Kernels are declared and launched here."""

from __future__ import annotations

import threading
from typing import Any

from numba import cuda
from numba.cuda.core import config

from qrnn.backends.cuda import work
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.errors import BackendError

PLAIN_SHARED = 48 << 10
"""Bytes of shared memory that a block gets without asking."""

THREADS = 64 if SIMULATED else 256
"""Threads of a block of a kernel with a thread for each item."""


def kernel(threads: int) -> Any:
    """Return a decorator for a kernel whose blocks have at most ``threads`` threads, which says how many registers each may have."""
    return cuda.jit() if SIMULATED else cuda.jit(launch_bounds=threads)


_SETTING = threading.Lock()


def configured(declared: Any, grid: Any, block: Any, shared_bytes: int = 0) -> Any:
    """Return the kernel with its grid and blocks, to be called with its arguments; it goes to the stream of `work.stream`.

    Numba warns of grids of fewer than 128 blocks, which are intended here; its setting is put back at once, for kernels of the user's own.
    """
    with _SETTING:
        before = config.CUDA_LOW_OCCUPANCY_WARNINGS
        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
        try:
            return declared[grid, block, work.stream(), shared_bytes]
        finally:
            config.CUDA_LOW_OCCUPANCY_WARNINGS = before


def for_each(declared: Any, count: int, *arguments: Any) -> None:
    """Launch a kernel with a thread for each of ``count`` items."""
    if count > 0:
        configured(declared, -(-count // THREADS), THREADS)(*arguments)


def sized(declared: Any, shared_bytes: int, arguments: tuple[Any, ...]) -> Any:
    """Return the kernel compiled for these arguments, and allowed ``shared_bytes`` of dynamic shared memory."""
    if SIMULATED:
        return declared
    made = declared if declared.specialized else declared.specialize(*arguments)
    if shared_bytes > PLAIN_SHARED:
        _allow_shared(next(iter(made.overloads.values())), shared_bytes)
    return made


def _allow_shared(compiled: Any, shared_bytes: int) -> None:
    from cuda.bindings import driver

    handle = compiled._codelibrary.get_cufunc().handle
    if isinstance(handle, driver.CUkernel):
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        device = driver.CUdevice(cuda.get_current_device().id)
        (status,) = driver.cuKernelSetAttribute(attribute, shared_bytes, handle, device)
    else:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (status,) = driver.cuFuncSetAttribute(handle, attribute, shared_bytes)
    if int(status) != 0:
        raise BackendError(f"the CUDA driver refuses {shared_bytes} bytes of shared memory a block ({status.name})")


def most_blocks_that_meet(made: Any, threads: int, shared_bytes: int) -> int:
    """Return how many blocks of a cooperative kernel, which `sized` made, the device holds at once."""
    return int(next(iter(made.overloads.values())).max_cooperative_grid_blocks(threads, shared_bytes))
