"""Cases from practice, by their own scripts: each trains a small model, and runs the plain command line with its defaults.

The scripts need PyTorch and ONNX Runtime: those of this interpreter, or of the one that the variable TORCH_PYTHON names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from accuracy.test_shared_models import SHARED

CASES = SHARED / "cases"
PYTHON = os.environ.get("TORCH_PYTHON", sys.executable)
pytestmark = [
    pytest.mark.matrix,  # it trains
    pytest.mark.time_limit(900),
    pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here"),
]


def run(name: str, folder: Path) -> list[str]:
    """The lines that a case's script prints, with a command ``qrnn`` that is this checkout's."""
    needs = subprocess.run([PYTHON, "-c", "import torch, onnxruntime"], capture_output=True, check=False)
    if needs.returncode:
        pytest.skip(f"{PYTHON} has no PyTorch with ONNX Runtime; name one that has by TORCH_PYTHON")
    command = folder / "bin" / "qrnn"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m qrnn "$@"\n')
    command.chmod(0o755)
    own = os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([PYTHON, CASES / name, folder / "work"], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_21_outputs_far_from_0(tmp_path: Path) -> None:
    """A pressure of 1013.25 ± 0.5 hPa has the accuracy that it has about 0, and `compare` shows the figure about the mean too."""
    lines = run("21_offset_output.py", tmp_path)
    assert lines[-1].startswith("21: OK: "), lines
    without, with_it = map(float, re.findall(r"(-?[\d.]+) dB", lines[-1]))
    assert with_it > without - 1.0
    assert with_it > 40.2  # 42.2 dB was measured
    found = json.loads((tmp_path / "work" / "cmp.json").read_text())["outputs"]["y"]
    assert abs(found["sqnr_about_mean_db"] - with_it) < 0.2
    assert found["sqnr_db"] > 110.0
    assert sum("device bits equal" in line for line in lines) == 2


def about_means(lines: list[str]) -> dict[str, float]:
    """Return the SQNR about the mean of each tag, such as 18-auto, in dB."""
    found = (re.match(r"(.+?): \w+: .*\(about its mean (-?[\d.]+)\)", line) for line in lines)
    return {m[1]: float(m[2]) for m in found if m}


def test_18_raw_sensors(tmp_path: Path) -> None:
    """101325 ± 250 Pa beside degrees and g, by default, are as exact as with each feature's middle subtracted by hand: 48.6 dB."""
    found = about_means(run("18_raw_weather_sensors.py", tmp_path))
    assert found["18-auto"] >= found["18-centred by hand"] - 1.0
    assert found["18-auto"] > 46.6
    assert found["18-per-feature"] > 46.6
    assert found["18-act16"] > 46.6


def test_19_one_corrupt_reading(tmp_path: Path) -> None:
    """One reading of 5000 in 72,000 costs the default ranges nothing, and conversion names it (the script's tag ``minmax`` has no option)."""
    found = about_means(run("19_calibration_spike.py", tmp_path))
    assert found["19-minmax"] >= found["19-clean"] - 0.5
    assert found["19-clean"] > 39.0


def test_32_an_encoder_starts_a_decoder(tmp_path: Path) -> None:
    """A past of 24 steps and a future of 8 in one file: converted, run, compared, exported and verified."""
    lines = run("32_encoder_decoder.py", tmp_path)
    assert lines[-1].startswith("32: OK: "), lines
    assert "device bits equal" in lines[-1]
    (db,) = map(float, re.findall(r"y (-?[\d.]+) dB", lines[-1]))
    assert db > 53.0  # 55.6 dB was measured
