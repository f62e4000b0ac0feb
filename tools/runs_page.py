"""Write the page of the last whole run of the tests, docs/test_runs.md, from pytest's JUnit files.

    python tools/runs_page.py FILE...

``.ci/run --all`` calls this. A file is named for its run: ``default.xml``, ``matrix-0.xml``.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from provenance import ROOT, when

PAGE = ROOT / "docs" / "test_runs.md"


@dataclass(frozen=True)
class Run:
    """One run of pytest: numbers of tests by outcome, and seconds by the clock."""

    name: str
    passed: int
    skipped: int
    failed: int
    seconds: float


def read(path: Path) -> Run:
    """Return what a JUnit file says of its run."""
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    counts = {
        key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    }
    failed = counts["failures"] + counts["errors"]
    seconds = sum(float(suite.get("time", 0)) for suite in suites)
    return Run(path.stem, counts["tests"] - failed - counts["skipped"], counts["skipped"], failed, seconds)


def row(run: Run) -> str:
    """Return a row of the page's table."""
    return f"| {run.name} | {run.passed:,} | {run.skipped:,} | {run.failed:,} | {run.seconds / 60:.1f} |"


def page(runs: list[Run]) -> str:
    """Return the page's text."""
    total = Run(
        "together", *(sum(getattr(run, key) for run in runs) for key in ("passed", "skipped", "failed", "seconds"))
    )
    return "\n".join([
        "# The last whole run of the tests",
        "",
        f"Made by `.ci/run --all` on {when()}: Python {platform.python_version()}, {os.cpu_count()} cores, an empty cache of compiled code.",
        "[tests.md](tests.md) says what the runs are. Skipped tests need what this machine lacks: a GPU, PyTorch, a compiler, shared models.",
        "",
        "| Run | Passed | Skipped | Failed | Minutes |",
        "|---|---|---|---|---|",
        *map(row, [*runs, total]),
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page([read(Path(name)) for name in sys.argv[1:]]), encoding="utf-8")
