"""The bundled example, cut small, and a target whose costs come from a model, so that nothing is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.lab.sweep import sweep
from qrnn.lab.sweep_result import SweepResult
from qrnn.targets import Target, read_target

TARGET = """\
name = "board"
description = "A board of the tests"
[core]
word_bits = 32
instructions = ["mul"]
[scheme]
activations = 8
gates = "pwl:128"
[cost]
source = "Assumed."
cycles_per_instruction = 1.0
instructions_per_mac = 2.0
instructions_per_unit = 100.0
instructions_per_step = 50.0
"""


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write model.onnx, calibration.npz, test.npz (with labels) and board.toml."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "model.onnx").write_bytes(digits_model().read_bytes())
    (folder / "board.toml").write_text(TARGET)
    for name, path, count in (("calibration", digits_calibration(), 32), ("test", digits_test(), 96)):
        with np.load(path) as arrays:
            np.savez(folder / f"{name}.npz", **{key: arrays[key][:count] for key in arrays.files})
    return folder


@pytest.fixture(scope="session")
def board(files: Path) -> Target:
    return read_target(files / "board.toml")


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return {key: found[key] for key in found.files}


@pytest.fixture(scope="session")
def calibration(files: Path) -> dict[str, Any]:
    return arrays(files / "calibration.npz")


@pytest.fixture(scope="session")
def data(files: Path) -> dict[str, Any]:
    return arrays(files / "test.npz")


VARY = {"weights": (8, 4), "gates": ("pwl:128", "hard")}


@pytest.fixture(scope="session")
def swept(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path_factory: pytest.TempPathFactory
) -> SweepResult:
    """Sweep four configurations in this process."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    return sweep(files / "model.onnx", calibration, data, folder, target=board, vary=VARY)
