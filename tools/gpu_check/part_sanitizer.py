"""Run NVIDIA's compute-sanitizer over one small run of each kind of kernel: accesses, races in shared memory, barriers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_check.frame import ROOT, CheckError, Options, Result, Write

ORDER = 30
SECONDS = 45.0
TITLE = "compute-sanitizer"

PROGRAM = "compute-sanitizer"
FILE = "tests/backends/cuda/on_device/test_small.py"
TESTS = ("test_fused[block]", "test_fused[block_cache]", "test_fused[grid]", "test_fused[grid_dp4a]", "test_general")
DRY_TESTS = ("test_fused[block]",)
TOOLS = ("memcheck", "racecheck", "synccheck")
FOUND = 9
"""The exit status that compute-sanitizer is told to end with where it finds something."""

MOST_AT_ONCE = 14
SPARE_SECONDS = 4.0
DEATH_SECONDS = 0.2
LINES = 25
KEPT_LINES = 2000

CLEAN, ERRORS, UNAVAILABLE, LEFT = "clean", "found something", "not available here", "not done in time"


@dataclass
class Run:
    """One run: ``tool`` is None for the tests by themselves."""

    tool: str | None
    test: str
    output: Path
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    result: dict[str, Any] | None = None


def measure(options: Options, write: Write) -> None:
    """Measure the part; see `gpu_check.frame`. In a dry run the tests run by themselves where compute-sanitizer is not installed."""
    program = shutil.which(PROGRAM)
    result: Result = {"program": program, "runs": {}}
    write(result)
    if program is None and not options.dry_run:
        return
    tools: tuple[str | None, ...] = TOOLS if program is not None else (None,)
    at_once = 1 if options.dry_run else max(2, min(MOST_AT_ONCE, (os.cpu_count() or 2) - 2))
    with tempfile.TemporaryDirectory(prefix="sanitizer-") as name:
        tests = DRY_TESTS if options.dry_run else TESTS
        every = [
            Run(tool, test, Path(name) / f"{tool}-{number}") for number, test in enumerate(tests) for tool in tools
        ]
        while any(run.result is None for run in every) and options.left() > SPARE_SECONDS:
            for run in every:
                going = sum(other.process is not None and other.result is None for other in every)
                if run.process is None and going < at_once:
                    _begin(run, program)
                elif run.process is not None and run.result is None and run.process.poll() is not None:
                    run.result = outcome(run.process.returncode, _said(run), time.monotonic() - run.began)
                    write(with_runs(result, every))
            time.sleep(0.1)
        for run in every:
            if run.process is not None and run.result is None:
                run.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(DEATH_SECONDS)
        write(with_runs(result, every))
    bad = [f"{run.tool or 'alone'} {run.test}" for run in every if is_bad(run.result)]
    if bad:
        raise CheckError(f"compute-sanitizer found something, or did not run to its end: {', '.join(bad)}")


def is_bad(found: dict[str, Any] | None) -> bool:
    """Return whether a run needs a look, as one does that was not done in time."""
    return found is None or found["state"] not in (CLEAN, UNAVAILABLE)


def command_of(tool: str | None, test: str, program: str | None) -> list[str]:
    """Return the command that runs a test, by itself or under a tool of compute-sanitizer."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts="]
    pytest += ["-o", "filterwarnings=default", f"{FILE}::{test}"]
    if tool is None or program is None:
        return pytest
    return [program, "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "20", *pytest]


def _begin(run: Run, program: str | None) -> None:
    environment = dict(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "1"}
    with run.output.open("wb") as output:
        run.process = subprocess.Popen(
            command_of(run.tool, run.test, program), cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    run.began = time.monotonic()


def _said(run: Run) -> str:
    return run.output.read_text(encoding="utf-8", errors="replace")


def outcome(status: int, said: str, seconds: float) -> dict[str, Any]:
    """Tell what a run's exit status and output mean."""
    summary = re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: .*$", said, re.MULTILINE)
    if re.search(r"Device not supported|[Uu]nsupported (?:device|driver)|does not support", said):
        state = UNAVAILABLE
    elif status == FOUND or any(
        int(number) for line in summary for number in re.findall(r"(\d+) (?:error|hazard)", line)
    ):
        state = ERRORS
    elif status == 0 and re.search(r"\b\d+ passed", said):
        state = CLEAN
    else:
        state = f"failed with exit status {status}"
    lines = [] if state == CLEAN else said.splitlines()
    return {"state": state, "seconds": seconds, "summary": summary[-1:], "lines": lines[:KEPT_LINES]}


def with_runs(result: Result, every: list[Run]) -> Result:
    """Return the result with what is known of each run."""
    found: dict[str, dict[str, Any]] = {}
    for run in every:
        found.setdefault(run.tool or "alone", {})[run.test] = run.result or {
            "state": LEFT, "seconds": 0.0, "summary": [], "lines": [] if run.process is None else _said(run).splitlines()[-LINES:],
        }  # fmt: skip
    return result | {"runs": found}


def page(result: Result) -> str:
    """Return Markdown of the section."""
    if result["program"] is None:
        note = "compute-sanitizer is not installed."
        return note if not result["runs"] else f"{note} The tests ran by themselves:\n\n{_tables(result)}"
    return _tables(result)


def _tables(result: Result) -> str:
    text = ["| tool | test | outcome | seconds |", "|---|---|---|---|"]
    shown = []
    for tool, tests in result["runs"].items():
        for test, run in tests.items():
            text.append(f"| {tool} | {test} | {run['state']} | {run['seconds']:.1f} |")
            if run["state"] not in (CLEAN, LEFT):
                shown.append((f"{tool}, {test}: {run['state']}", tuple(run["lines"][:LINES])))
    kept: dict[tuple[str, ...], str] = {}
    for title, lines in shown:  # the same words of several runs are shown once
        kept.setdefault(lines, title)
    for lines, title in kept.items():
        text += [
            "",
            f"**{title.replace('_', chr(92) + '_')}**",
            "",
            "```",
            *(line.replace("```", "'''") for line in lines),
            "```",
        ]
    return "\n".join(text)
