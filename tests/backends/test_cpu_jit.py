"""The compile cache: kept under a digest of every source, and apart for each signature and instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qrnn.backends.cpu import wanted
from qrnn.backends.cpu.isa import PLAIN, available_isas


def test_the_digest_covers_the_contract_and_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def spy(path: Path) -> bytes:
        read.append(f"{path.parent.name}/{path.name}")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    assert wanted.source_digest() == wanted.SOURCE_DIGEST
    assert {"arithmetic/fixedpoint.py", "arithmetic/gates.py", "arithmetic/cells.py", "cpu/kernels.py"} <= set(read)


RUN_ISAS = """
import sys
from models import Shape
from backends.generators import Case
from qrnn.running.session import Session
import numpy as np
case = Case(Shape("lstm", 20, 33), steps=3, lengths=(3, 3))
model, x = case.quantized(), case.data()["x"]
want = Session(model, "reference").run({"x": x}).outputs["y"]
for isa in sys.argv[1:]:
    np.testing.assert_array_equal(Session(model, "cpu", 1, isa).run({"x": x}).outputs["y"], want)
"""


@pytest.mark.matrix
def test_code_kept_by_different_processes_stays_apart(tmp_path: Path) -> None:
    """Each counts its functions for itself, so that functions of two processes may have the same number."""
    isas = [isa for isa in available_isas() if isa != PLAIN]
    environment = os.environ | {"QRNN_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    for chosen in (*([isa] for isa in isas), isas):
        subprocess.run([sys.executable, "-c", RUN_ISAS, *chosen], env=environment, check=True, timeout=300)
