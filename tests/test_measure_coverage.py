"""tools/measure_coverage.py counts interpreted and compiled statements apart."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from measure_coverage import compiled_lines, section

SOURCE = """\
import numba
from numba import cuda

@numba.njit(nogil=True)
def fast(x):
    y = x + 1
    return y

@cuda.jit
def kernel(x):
    x[0] = 1

def plain(x):
    return x
"""


def test_lines_of_compiled_functions() -> None:
    assert compiled_lines(SOURCE) == {6, 7, 11}


def test_the_section(tmp_path: Path) -> None:
    (tmp_path / "qrnn" / "backends" / "cpu").mkdir(parents=True)
    (tmp_path / "qrnn" / "backends" / "cpu" / "k.py").write_text(SOURCE)
    (tmp_path / "qrnn" / "top.py").write_text("a = 1\n")
    measured = {
        "files": {
            "qrnn/backends/cpu/k.py": {"executed_lines": [1, 2, 5, 10, 13], "missing_lines": [6, 7, 11, 14]},
            "qrnn/top.py": {"executed_lines": [], "missing_lines": [1]},
        }
    }
    text = section(measured, ["-q"], 120.0, "3 passed", tmp_path)
    assert text.startswith("## Coverage\n")
    assert "`pytest -q`, 3 passed, 2 minutes." in text
    assert "| `qrnn.backends.cpu` | 6 | 83.3 % | 3 |" in text
    assert "| `qrnn` | 1 | 0.0 % | - |" in text
    assert "| together | 7 | 71.4 % | 3 |" in text
