"""A plugin of pytest that writes each test's outcome to a file as it comes, so that a run that is killed has told what it knew.

``pytest -p gpu_check.recorder`` with GPU_CHECK_RECORD naming the file, which gets one JSON object a line. With pytest-xdist the process that
hands out tests writes the file. Each process that runs tests has two rules more: a test that takes longer than GPU_CHECK_TEST_SECONDS ends
its process, after printing where it was; and so does one that leaves the device's context broken, in which every later test would fail too.
pytest-xdist then starts another process.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

BROKEN = (
    "ILLEGAL_ADDRESS", "LAUNCH_FAILED", "MISALIGNED_ADDRESS", "ILLEGAL_INSTRUCTION", "HARDWARE_STACK_ERROR", "INVALID_PC",
    "INVALID_ADDRESS_SPACE", "CUDA_ERROR_ASSERT", "LAUNCH_TIMEOUT", "ECC_UNCORRECTABLE", "CUDA_ERROR_UNKNOWN", "CONTEXT_IS_DESTROYED",
    "EXTERNAL_DEVICE", "unspecified launch failure", "illegal memory access",
)  # fmt: skip
"""What the driver's error says when a process can do nothing more on the device."""

LINES = 30
"""The last lines of a failure that are kept."""


class Recorder:
    """The hooks; ``file`` is None in a process that only runs tests."""

    def __init__(self, file: Path | None, seconds: float, alone: bool) -> None:
        self._file, self._seconds, self._broken, self._alone = file, seconds, False, alone
        self._stderr = os.dup(2)  # pytest puts a file in its place while a test runs

    def _write(self, **event: Any) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._alone:
            self._write(event="collected", count=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._write(event="collected", count=len(ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(
                event="result", test=report.nodeid, outcome="failed", seconds=0.0, lines=_end(report.longreprtext)
            )
        elif report.skipped:
            self._write(event="result", test=report.nodeid, outcome="skipped", seconds=0.0, lines=[_reason(report)])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(event="began", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        lines = _end(report.longreprtext) if report.failed else [_reason(report)] if report.skipped else []
        self._write(
            event="result",
            test=report.nodeid,
            outcome=report.outcome,
            seconds=report.duration,
            lines=lines,
            properties={key: str(value) for key, value in report.user_properties},
        )

    def pytest_warning_recorded(self, warning_message: Any) -> None:
        text = " ".join(str(warning_message.message).split())
        self._write(event="warning", text=f"{warning_message.category.__name__}: {text}"[:300])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        if self._seconds > 0:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        report = yield
        if report.failed and any(text in report.longreprtext for text in BROKEN):
            self._broken = True
        return report

    def pytest_runtest_logfinish(self) -> None:
        if self._broken and not self._alone:
            os.write(self._stderr, b"the device's context is broken: this process ends\n")
            os._exit(70)


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks: in the process that hands out tests, and in each that runs them."""
    worker = hasattr(config, "workerinput")
    distributes = not worker and bool(getattr(config.option, "numprocesses", None))
    place = os.environ.get("GPU_CHECK_RECORD")
    seconds = 0.0 if distributes else float(os.environ.get("GPU_CHECK_TEST_SECONDS", "0"))
    file = Path(place) if place and not worker else None
    config.pluginmanager.register(Recorder(file, seconds, not worker and not distributes), "gpu_check_recorder")


def _end(text: str) -> list[str]:
    return text.splitlines()[-LINES:]


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)[:200]
