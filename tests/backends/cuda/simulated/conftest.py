"""Tests that run in Numba's CUDA simulator, which a whole process is in or not: `test_simulated.py` starts it for each of these files.

NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/backends/cuda/simulated
"""

from __future__ import annotations

import os
import sys

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
collect_ignore_glob = [] if SIMULATED else ["test_*.py"]

if SIMULATED:
    sys.setswitchinterval(3e-4)  # the simulator's threads wait for each other all the time
