"""Measure which statements of qrnn/ the tests execute, and write the section "Coverage" of docs/tests.md.

    python tools/measure_coverage.py [--output docs/tests.md] [-- ARGUMENT …]

The arguments are those of pytest, ``-q -n 2`` when left out: the default run. Programs that tests start are measured too. Coverage.py sees
what the interpreter executes. The bodies of functions that Numba compiles are therefore counted by themselves: most are executed as machine
code, and tests compare their results with the reference's, bit for bit.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_section import COVERAGE, with_section
from provenance import ROOT, when

from qrnn.system.atomic import write_atomically

PAGE = ROOT / "docs" / "tests.md"
COMPILED = frozenset(["jit", "njit", "kernel", "intrinsic"])
"""The last names of decorators that hand a function to Numba."""


@dataclass
class Count:
    """Statements, and how many of them were executed; the same of functions that Numba compiles."""

    statements: int = 0
    executed: int = 0
    compiled: int = 0

    def add(self, other: Count) -> None:
        """Add the counts of another part."""
        self.statements += other.statements
        self.executed += other.executed
        self.compiled += other.compiled

    @property
    def percent(self) -> float:
        """The share of the statements that was executed."""
        return 100.0 * self.executed / max(1, self.statements)


def compiled_lines(source: str) -> set[int]:
    """Return the lines of the bodies of functions that Numba compiles."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(last_name(own) in COMPILED for own in node.decorator_list):
            found.update(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
    return found


def last_name(decorator: ast.expr) -> str:
    """Return the last name of a decorator: ``jit`` of ``@cuda.jit(device=True)``."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def counts(measured: Mapping[str, Any], root: Path) -> Iterator[tuple[str, Count]]:
    """Return the package of each file and its counts, from coverage.py's JSON."""
    for name, file in measured["files"].items():
        compiled = compiled_lines((root / name).read_text(encoding="utf-8"))
        executed, missing = set(file["executed_lines"]), set(file["missing_lines"])
        parts = Path(name).parts
        package = f"qrnn.{parts[1]}" if len(parts) > 2 else "qrnn"
        if parts[1] == "backends" and len(parts) > 3:
            package = f"qrnn.backends.{parts[2]}"
        every = executed | missing
        yield package, Count(len(every - compiled), len(executed - compiled), len(every & compiled))


def section(measured: Mapping[str, Any], arguments: list[str], seconds: float, outcome: str, root: Path = ROOT) -> str:
    """Return the section's text."""
    packages: dict[str, Count] = {}
    total = Count()
    for package, count in counts(measured, root):
        packages.setdefault(package, Count()).add(count)
        total.add(count)
    return "\n".join([
        COVERAGE,
        "",
        f"Made by `python tools/measure_coverage.py` on {when()}: Python {platform.python_version()}, `pytest {' '.join(arguments)}`, "
        f"{outcome}, {seconds / 60:.0f} minutes.",
        "",
        f"The tests execute **{total.percent:.1f} %** of the {total.statements:,} statements that Python interprets. Another "
        f"{total.compiled:,} statements stand in",
        "functions that Numba compiles, which the interpreter does not see; what they compute is compared with the reference, bit for bit.",
        "Packages that need what a machine lacks (PyTorch, a GPU) are covered less there.",
        "",
        "| Package | Statements | Executed | Compiled by Numba |",
        "|---|---|---|---|",
        *(f"| `{name}` | {own.statements:,} | {own.percent:.1f} % | {own.compiled or '-'} |" for name, own in sorted(packages.items())),
        f"| together | {total.statements:,} | {total.percent:.1f} % | {total.compiled:,} |",
        "",
    ])  # fmt: skip


def main() -> None:
    """Run the tests, and write the section; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("arguments", nargs="*", help="of pytest, behind --; -q -n 2 when left out")
    options = parser.parse_args()
    arguments = options.arguments or ["-q", "-n", "2"]
    try:
        import coverage  # noqa: F401 - only whether it is there
    except ImportError:
        sys.exit("error: this needs coverage: pip install -e '.[dev]'")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # some tests start programs as another user
        data, report = Path(folder) / "data", Path(folder) / "coverage.json"
        tool = [sys.executable, "-m", "coverage"]
        began = time.perf_counter()
        tests = subprocess.Popen(
            [*tool, "run", f"--data-file={data}", "-m", "pytest", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        last = ""
        for line in tests.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
        tests.wait()
        seconds = time.perf_counter() - began
        for command in (("combine", "-q"), ("json", "-q", "-o", str(report))):
            subprocess.run([*tool, *command, f"--data-file={data}"], cwd=ROOT, check=True)
        measured = json.loads(report.read_text(encoding="utf-8"))
    outcome = last.strip("= ").split(" in ")[0]
    text = section(measured, arguments, seconds, outcome)
    print(text)
    page = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
    write_atomically(options.output, with_section(page, COVERAGE, text).encode())
    sys.exit(tests.returncode)


if __name__ == "__main__":
    main()
