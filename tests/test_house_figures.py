"""tools/house_figures.py counts what it says, in a small repository."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import house_figures


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("cell == 'lstm'", True),
        ("'gru' != cell", True),
        ("cell in ('rnn', other)", True),
        ("cell in {'min_gru'}", True),
        ("match cell:\n    case 'indrnn': pass", True),
        ("name = 'lstm'", False),
        ("cell == 'LSTM'", False),
        ("codes['lstm'] == 1", False),
    ],
)
def test_comparisons_with_names_of_cells(source: str, found: bool) -> None:
    assert any(house_figures.compares_cells(node) for node in ast.walk(ast.parse(source))) == found


def commit(root: Path, title: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git = ("git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run((*git, "add", "."), check=True)
    subprocess.run((*git, "commit", "-q", "--no-gpg-sign", "-m", title), check=True)


KINDS = {
    "qrnn/model/kinds/dense.py": "class QuantDense(QuantLayer):\n    pass\n",
    "qrnn/model/kinds/conv.py": "class QuantConv(QuantMatrixLayer):\n    pass\n\n\nclass QuantTap:\n    pass\n",
}


DEVICES = """made at revision 0123abc

## Trained models

| model | target | bits | instructions a step | flash |
|---|---|---|---|---|
| a | m4 | equal | 1,003 | 5 |
| a | m7 | equal | 7 | 6 |
| b | m4 | – | it does not fit | |

### gcc -O3

| target | H | qrnn, this command | ratio | qrnn, this command |
|---|---|---|---|---|
| m4 | 16 | 20 | 0.5 | 33 |
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(("git", "init", "-q", str(tmp_path)), check=True)
    before = {
        "qrnn/__init__.py": "",
        "qrnn/a/x.py": "from qrnn.b import y\nQuantDense\n",
        "qrnn/b/y.py": "import qrnn.a.x\n",
    }
    counts = {"docs/benchmarks/devices.md": DEVICES.replace("1,003", "1,001")}
    commit(tmp_path, "The first", {**before, **counts, "tests/t.py": "1\n2\n"})
    after = {**KINDS, "qrnn/b/y.py": "'lstm' == x\nx in ('gru', 'rnn')\n"}
    commit(tmp_path, "minGRU (Feng et al. 2024): a cell", {**after, "docs/benchmarks/devices.md": DEVICES})
    monkeypatch.setattr(house_figures, "ROOT", tmp_path)
    return tmp_path


def test_the_page_of_a_small_repository(repository: Path) -> None:
    page = house_figures.page("HEAD~1", "HEAD")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for row in (
        "| qrnn | 3 | 5 | 3 | 12 |",
        "| tests | 1 | 1 | 2 | 2 |",
        "| b | 1 | 2 |",
        "| `QuantDense` | 1 | 2 |",
        "| `QuantConv` | – | 1 |",
        "| three or more of them | 0 | 0 |",
        "| lines | 0 | 2 |",
        "| files | 0 | 1 |",
        "| packages | 3 | 4 |",
        "| circles of packages | 1, of 2 | 0 |",
        "| circles of files | 1, of 2 | 0 |",
        "| Trained models | a, m4 | 1,001 | 1,003 | +2 (+0.200 %) |",
    ):
        assert row in rows, row
    assert "3 rows are counted in both: 2 are the same, 0 take fewer instructions, 1 take more." in page
    assert "(made at 0123abc and 0123abc)" in page
    (added,) = [row for row in rows if row.startswith("| minGRU | ")]
    assert added.endswith(" | 2 | 1 | +10 −1 | – | – | – | 1: +1 −1 |")


def test_an_unknown_revision_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["house_figures.py", "HEAD", "nowhere", "--output", str(repository / "page.md")])
    with pytest.raises(SystemExit, match="nowhere"):
        house_figures.main()
    assert not (repository / "page.md").exists()
