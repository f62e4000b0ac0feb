"""The notebooks are those of their sources, and every cell runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from make_notebooks import SOURCES, cells

ROOT = Path(__file__).parents[1]
NEEDS = {"fine_tune": "torch"}
names = pytest.mark.parametrize("name", [path.stem for path in sorted(SOURCES.glob("*.py"))])


@names
def test_the_notebook_is_that_of_its_source(name: str) -> None:
    made = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = cells((SOURCES / f"{name}.py").read_text(encoding="utf-8"))
    assert [(cell["cell_type"] == "markdown", "".join(cell["source"])) for cell in made] == [
        (cell.is_text, cell.content) for cell in source
    ]
    outputs = [output for cell in made for output in cell.get("outputs", ())]
    assert outputs
    assert all(output["output_type"] != "error" for output in outputs)


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@names
def test_every_cell_runs(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    pytest.importorskip("matplotlib")
    code = "\n".join(cell.content for cell in cells((SOURCES / f"{name}.py").read_text()) if not cell.is_text)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": "agg"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
