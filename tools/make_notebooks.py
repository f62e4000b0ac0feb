"""Make the notebooks of docs/notebooks from their sources in tools/notebooks, run them, and keep what they show.

    python tools/make_notebooks.py [NAME …] [--output docs/notebooks]

A source is Python with cells after lines ``# %%``; comments after ``# %% [markdown]`` are text. Needs nbformat, nbclient and ipykernel
(extra ``docs``).
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "notebooks"
SECONDS = 600


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: text or code."""

    is_text: bool
    content: str


def cells(source: str) -> list[Cell]:
    """Return the cells of a source."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        kind, _, body = part.partition("\n")
        if kind.strip() == "[markdown]":
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        found.append(Cell(kind.strip() == "[markdown]", body.strip()))
    return found


def notebook(source: str) -> Any:
    """Return the notebook of a source, run in a kernel of this interpreter."""
    import nbformat
    from nbclient import NotebookClient

    v4 = nbformat.v4
    made = v4.new_notebook(
        cells=[v4.new_markdown_cell(c.content) if c.is_text else v4.new_code_cell(c.content) for c in cells(source)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    NotebookClient(made, timeout=SECONDS, kernel_name="python3").execute()
    for k, cell in enumerate(made.cells):
        cell["id"] = f"cell-{k}"
        cell.metadata.pop("execution", None)  # the times of this run
    return made


def main() -> None:
    """Make the notebooks; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="those to make; all when left out")
    parser.add_argument("--output", type=Path, default=SOURCES.parents[1] / "docs" / "notebooks")
    arguments = parser.parse_args()
    try:
        import nbformat
    except ImportError:
        sys.exit("error: notebooks need nbformat, nbclient and ipykernel: pip install 'qrnn[docs]'")
    arguments.output.mkdir(exist_ok=True)
    for path in sorted(SOURCES.glob("*.py")):
        if not arguments.names or path.stem in arguments.names:
            nbformat.write(notebook(path.read_text(encoding="utf-8")), arguments.output / f"{path.stem}.ipynb")
            print(f"{path.stem}.ipynb", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
