"""Memory for packed weights: zeros at a cache line, and at a huge page where there are enough of them and the system has such pages."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest

from qrnn.backends.cpu import pages

HAS_HUGE = hasattr(mmap, "MADV_HUGEPAGE")


def check(shape: tuple[int, ...], dtype: Any, alignment: int) -> None:
    found = pages.aligned(shape, dtype)
    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.flags.c_contiguous
    assert found.ctypes.data % alignment == 0
    assert not found.any()
    found.reshape(-1)[-1] = 1


@pytest.mark.parametrize("size", [1, 63, pages.LEAST_HUGE - 1])
def test_small(size: int) -> None:
    check((size,), np.int8, pages.CACHE_LINE)


@pytest.mark.parametrize("size", [pages.LEAST_HUGE, pages.HUGE_PAGE, pages.HUGE_PAGE + 4])
def test_large(size: int) -> None:
    check((2, size // 4), np.int32, pages.HUGE_PAGE if HAS_HUGE else pages.CACHE_LINE)


def test_without_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    check((pages.HUGE_PAGE,), np.int8, pages.CACHE_LINE)


@pytest.mark.skipif(not HAS_HUGE, reason="the system has no such request")
def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux without huge pages answers EINVAL."""
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)
    check((pages.HUGE_PAGE,), np.int8, pages.HUGE_PAGE)
