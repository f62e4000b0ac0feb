"""The kernels in Numba's CUDA simulator, in processes of their own: those that run by default, and those that no GPU may have confirmed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")

FOLDER = Path(__file__).parent / "simulated"
FILES = sorted(path.name for path in FOLDER.glob("test_*.py"))
THEIR_OWN = ("test_general.py", "test_steps.py", "test_sweep.py")
"""Files whose tests say themselves which kernels run."""
USUAL = (("test_contract.py", "test_elementwise.py", "test_memory.py"), ("test_loops.py", "test_steps.py"))
"""Files of the default run, those of a process together, for each takes seconds to begin; a simulated step takes long."""
RUNS = [
    *(pytest.param(names, "0", id=" ".join(names)) for names in USUAL),
    *(
        pytest.param((name,), unproved, id=f"{name}-{unproved}", marks=pytest.mark.matrix)
        for unproved in "01"
        for name in FILES
        if name not in (THEIR_OWN if unproved == "1" else sum(USUAL, ()))
    ),
]


def run(names: Sequence[str], unproved: str, *options: str) -> None:
    """Run the tests of some files."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    kept["QRNN_CUDA_UNPROVED"] = unproved
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(str(FOLDER / n) for n in names),
        *options,
    ]
    done = subprocess.run(
        command, env=kept | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.time_limit(600)
@pytest.mark.parametrize(("names", "unproved"), RUNS)
def test_in_the_simulator(names: tuple[str, ...], unproved: str) -> None:
    run(names, unproved)


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@pytest.mark.parametrize(
    "name", ["test_contract.py", "test_loops.py", "test_memory.py", "test_mixed_widths.py", "test_steps.py"]
)
def test_the_wide_products_in_the_simulator(name: str) -> None:
    """The cases that `test_in_the_simulator` leaves out."""
    run([name], "0", "-m", "matrix")
