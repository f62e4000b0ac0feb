"""All tests of this folder need a GPU, or Numba's simulator in its place."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _unproved_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are what proves a kernel: sessions without a tuning of their own run them all."""
    monkeypatch.setenv("QRNN_CUDA_UNPROVED", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cuda)
