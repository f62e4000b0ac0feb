"""``qrnn convert --prune``: what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qrnn
from cli.running import Cli
from qrnn.examples import digits_calibration, digits_model


@pytest.fixture
def options(tmp_path: Path) -> list[object]:
    with np.load(digits_calibration()) as data:
        np.savez(tmp_path / "calibration.npz", x=data["x"][:16])
    return [
        "convert",
        digits_model(),
        "--calibration",
        tmp_path / "calibration.npz",
        "-o",
        tmp_path / "m.qrnn",
        "--weights",
        8,
    ]


def test_a_quarter_of_the_blocks_is_kept(cli: Cli, options: list[object], tmp_path: Path) -> None:
    assert cli(*options, "--prune", "0.25,8x4").status == 0
    for found in qrnn.load(tmp_path / "m.qrnn").matrices:
        rows, columns = found.matrix.weight.shape
        if rows % 8 == 0 and columns % 4 == 0:
            blocks = found.matrix.weight.reshape(rows // 8, 8, columns // 4, 4)
            kept = np.abs(blocks).max(axis=(1, 3)) > 0
            assert 0 < kept.mean() <= 0.25
    assert "Block-sparse weights" in cli("inspect", tmp_path / "m.qrnn").out


@pytest.mark.parametrize("value", ["0", "1.5", "nan", "half", "0.5,8", "0.5,0x4", "0.5,8x4x2"])
def test_what_is_no_density_is_refused(cli: Cli, options: list[object], tmp_path: Path, value: str) -> None:
    done = cli(*options, "--prune", value)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "expected" in done.err
    assert not (tmp_path / "m.qrnn").exists()
