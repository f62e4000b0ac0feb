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
USUAL = ("test_contract.py", "test_elementwise.py", "test_loops.py", "test_memory.py", "test_steps.py")
"""Files of the default run; a simulated step takes long."""
RUNS = [(name, "0") for name in FILES] + [(name, "1") for name in FILES if name not in THEIR_OWN]


def run(name: str, unproved: str, *options: str) -> None:
    """Run one file's tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    kept["QRNN_CUDA_UNPROVED"] = unproved
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / name), *options]
    done = subprocess.run(
        command, env=kept | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.time_limit(600)
@pytest.mark.parametrize(
    ("name", "unproved"),
    [pytest.param(*r, marks=() if r[0] in USUAL and r[1] == "0" else pytest.mark.matrix) for r in RUNS],
)
def test_in_the_simulator(name: str, unproved: str) -> None:
    run(name, unproved)


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@pytest.mark.parametrize(
    "name", ["test_contract.py", "test_loops.py", "test_memory.py", "test_mixed_widths.py", "test_steps.py"]
)
def test_the_wide_products_in_the_simulator(name: str) -> None:
    """The cases that `test_in_the_simulator` leaves out."""
    run(name, "0", "-m", "matrix")
