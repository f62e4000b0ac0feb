"""Measure the processor time of every test, with that of the programs that it waits for.

``pytest --cpu-seconds 25`` prints the sum and the 25 most expensive tests, ``--cpu-file seconds.tsv`` writes the time of each to a file.
A busy machine makes every test take longer by the clock, while the processor time stays nearly what it is, so that it says what a run costs
anywhere. Tests of thread teams are the exception: their threads wait for each other, the longer the busier the cores are.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "cpu_seconds"


def processor_seconds() -> float:
    """Return the processor time so far of this process and of its children that have ended, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def add_options(parser: pytest.Parser) -> None:
    """Add the option of the command line."""
    parser.addoption(
        "--cpu-seconds",
        type=int,
        metavar="N",
        help="print the sum of all tests' processor time, and the N tests that took most",
    )
    parser.addoption(
        "--cpu-file", type=Path, metavar="FILE", help="write a line for each test: its processor time, a tab, its id"
    )


class Measure:
    """Hooks that note the time from a test's start to its end, setup and teardown included."""

    def __init__(self) -> None:
        self._start = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._start = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        report = yield
        if call.when == "teardown":
            report.user_properties.append((PROPERTY, processor_seconds() - self._start))
        return report


class Summary:
    """Hooks that collect what was measured, in this process or in those of pytest-xdist, and print it."""

    def __init__(self, shown: int, file: Path | None) -> None:
        self._shown = shown
        self._file = file
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._seconds[report.nodeid] = dict(report.user_properties)[PROPERTY]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section(f"{sum(self._seconds.values()):.0f} s of processor time in {len(self._seconds)} tests")
        dearest = sorted(self._seconds, key=self._seconds.__getitem__, reverse=True)
        for name in dearest[: self._shown]:
            terminalreporter.line(f"{self._seconds[name]:7.2f} s {name}")
        if self._file:
            self._file.write_text("".join(f"{self._seconds[name]:.3f}\t{name}\n" for name in dearest))


def pytest_configure(config: pytest.Config) -> None:
    """Measure and print where one of the options is given."""
    shown, file = config.getoption("cpu_seconds"), config.getoption("cpu_file")
    if shown is not None or file is not None:
        config.pluginmanager.register(Measure())
        config.pluginmanager.register(Summary(shown or 0, file))
