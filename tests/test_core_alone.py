"""A converted model runs where the libraries of the extras are not installed; what needs one says which extra brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qrnn.conversion import quantize
from qrnn.examples import digits_calibration, digits_model
from qrnn.model.file import save
from qrnn.onnx_import import load_onnx

HIDE = """
import importlib.machinery, sys
sys.path.insert(0, {tests!r})

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("onnx", "typer", "rich", "elftools"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in core_alone.ABSENT else found(name, *more)
import core_alone
"""


def hidden(code: str) -> subprocess.CompletedProcess[str]:
    script = HIDE.format(tests=str(Path(__file__).parent)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)


def test_the_core_runs_alone(tmp_path: Path) -> None:
    import numpy as np

    with np.load(digits_calibration()) as data:
        model = quantize(load_onnx(digits_model()), {"x": data["x"][:8]})
    save(model, tmp_path / "m.qrnn")
    done = hidden(f"core_alone.check({str(tmp_path / 'm.qrnn')!r})")
    assert done.returncode == 0, done.stderr


def test_the_command_line_names_its_extra() -> None:
    done = hidden("sys.argv = ['qrnn', '--version']\nfrom qrnn.cli import main\nmain()")
    assert (done.returncode, done.stderr) == (
        2,
        "error: the command line needs typer, which is not installed: pip install 'qrnn[cli]'\n",
    )
