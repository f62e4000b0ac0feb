"""The kernels in Numba's CUDA simulator, in processes of their own: those that run by default, and those that no GPU may have confirmed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")

FOLDER = Path(__file__).parent / "simulated"
FILES = sorted(path.name for path in FOLDER.glob("test_*.py"))
THEIR_OWN = ("test_general.py", "test_steps.py", "test_sweep.py")
"""Files whose tests say themselves which kernels run."""


@pytest.mark.parametrize(
    ("name", "unproved"), [(name, "0") for name in FILES] + [(name, "1") for name in FILES if name not in THEIR_OWN]
)
def test_in_the_simulator(name: str, unproved: str) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    kept["QRNN_CUDA_UNPROVED"] = unproved
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / name)]
    done = subprocess.run(
        command, env=kept | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
