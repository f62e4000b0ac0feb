"""The plugin of pytest that says which kernels ran in which tests: those of tests that passed are evidence, all others speak against theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import sweep.made_up  # noqa: F401  (puts tools on the path)
from qrnn.backends.cuda.kernel_variants import BLOCK, StepKind
from qrnn.backends.cuda.proofs import Evidence, kind_record
from qrnn.model.cell_codes import LSTM

from gpu_check import kernels_plugin  # isort: skip

ROOT = Path(__file__).parents[2]
TESTS = """
import os
import pytest
from qrnn.model.cell_codes import LSTM
from qrnn.backends.cuda.kernel_variants import BLOCK, StepKind
from qrnn.backends.cuda.proofs import note_launch

def kind(tiles):
    return StepKind(LSTM, 4, 1, tiles, BLOCK, True, 0, (9, 0))

@pytest.mark.parametrize("turn", [0, 1])
def test_good(turn):
    note_launch(kind(1))
    note_launch(kind(1))

def test_bad():
    note_launch(kind(1))
    note_launch(kind(2))
    assert False

def test_skipped():
    note_launch(kind(1))
    pytest.skip("says nothing")

def test_that_kills_its_process():
    note_launch(kind(4))
    os._exit(3)
"""


def kind(tiles: int) -> StepKind:
    return StepKind(LSTM, 4, 1, tiles, BLOCK, True, 0, (9, 0))


def test_a_run_in_the_simulator(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    place = tmp_path / "kernels.jsonl"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tools")))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_check.kernels_plugin", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=kept | {"GPU_CHECK_KERNELS": str(place), "PYTHONPATH": path, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    found = kernels_plugin.summary(place)
    assert found["evidence"]["device"] == "CUDA simulator"
    evidence = Evidence()
    evidence.add_records("here", json.loads(json.dumps(found["kernels"])))
    assert evidence.exact == {kind(1): 2}
    assert evidence.wrong == {kind(1): 1, kind(2): 1, kind(4): 1}


def test_nothing_ran(tmp_path: Path) -> None:
    assert kernels_plugin.summary(tmp_path / "none.jsonl") == {}


def test_a_kernel_that_ran_in_two_processes(tmp_path: Path) -> None:
    """A test that was begun again after its process was killed has one outcome: the worse one."""
    lines = [
        {"evidence": {"device": "D", "capability": [9, 0], "driver": "CUDA 13.0", "code": "c"}},
        {"test": "a", "kernel": kind_record(kind(1)), "capability": [9, 0]},
        {"test": "a", "outcome": "failed"},
        {"test": "a", "kernel": kind_record(kind(1)), "capability": [9, 0]},
        {"test": "a", "outcome": "passed"},
    ]
    place = tmp_path / "kernels.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert [(r["exact"], r["wrong"]) for r in kernels_plugin.summary(place)["kernels"]] == [(0, 1)]
