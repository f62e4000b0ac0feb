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


SLOW = ("test_arrays.py",)


def run(name: str, unproved: str, *options: str) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    kept["QRNN_CUDA_UNPROVED"] = unproved
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / name), *options]
    done = subprocess.run(
        command, env=kept | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.time_limit(600)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.matrix] if n in SLOW else []) for n in FILES])
def test_in_the_simulator(name: str) -> None:
    run(name, "0")


@pytest.mark.time_limit(600)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.matrix] if n in SLOW else []) for n in FILES if n not in THEIR_OWN],
)
def test_unproved_kernels_in_the_simulator(name: str) -> None:
    run(name, "1")


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@pytest.mark.parametrize("name", ["test_contract.py", "test_steps.py"])
def test_the_wide_products_in_the_simulator(name: str) -> None:
    run(name, "1", "-m", "matrix")
