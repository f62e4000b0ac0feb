"""Memory for what is read over and over: it begins at a cache line, and large pieces lie in huge pages where the system has them.

A huge page takes one entry of the processor's table of addresses where 512 usual ones would, and lies in one piece in the memory, so that
its lines are spread evenly over the sets of a cache.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

CACHE_LINE = 64

HUGE_PAGE = 1 << 21
"""The bytes of a huge page, on x86-64 and on AArch64 with pages of 4 KiB."""

LEAST_HUGE = HUGE_PAGE // 2
"""The least bytes that are worth a huge page: up to as many may be left over at the end."""


def aligned(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Return zeros that begin at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = _huge(size) if size >= LEAST_HUGE else None
    if raw is None:
        raw = np.zeros(size + CACHE_LINE, np.uint8)
        start = -raw.ctypes.data % CACHE_LINE
        raw = raw[start : start + size]
    found: npt.NDArray[Any] = raw.view(dtype).reshape(shape)
    return found


def _huge(size: int) -> npt.NDArray[Any] | None:
    """Return zeros for which huge pages are asked (Linux: madvise MADV_HUGEPAGE), or None where the system has no such request.

    Linux may say no, or not have any at the moment: then these are usual pages.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return None
    whole = -(-size // HUGE_PAGE) * HUGE_PAGE
    try:
        memory = mmap.mmap(-1, whole + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    found = np.frombuffer(memory, np.uint8)
    start = -found.ctypes.data % HUGE_PAGE
    with suppress(OSError):
        memory.madvise(advice, start, whole)
    return found[start : start + size]
