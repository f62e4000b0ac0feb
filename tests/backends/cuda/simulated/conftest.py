"""Tests that run in Numba's CUDA simulator, which a whole process is in or not: `test_simulated.py` starts it for each of these files.

NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/backends/cuda/simulated

On a GPU they run too, without being started anew; but for the fused steps, whose kinds `on_device/test_kinds.py` goes through there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qrnn.backends import available_backends

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
ON_GPU = not SIMULATED and "cuda" in available_backends()
collect_ignore_glob = [] if SIMULATED else ["test_steps.py", "test_sweep.py"] if ON_GPU else ["test_*.py"]

if SIMULATED:
    sys.setswitchinterval(3e-4)  # the simulator's threads wait for each other all the time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ON_GPU and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cuda)
