"""A plugin of pytest that writes each test's outcome to a file as it comes, so that a run that is killed leaves what it knew.

``pytest -p gpu_check.recorder`` with GPU_CHECK_RECORD naming the file, to which each event is appended as one line of JSON; several
processes may share it. A test that takes longer than GPU_CHECK_TEST_SECONDS ends its process, after printing where it was; and so does one
that leaves the device's context broken, in which every later test would fail too.
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

ENDED = 70
"""The exit status of a process whose context is broken."""


class Recorder:
    """The hooks of the plugin."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file, self._seconds, self._broken = file, seconds, False
        self._stderr = os.dup(2)  # pytest puts a file in its place while a test runs

    def _write(self, **event: Any) -> None:
        append(self._file, event)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the tests that were found."""
        groups = {item.nodeid: _group(item) for item in session.items}
        self._write(event="collected", groups=groups)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record files that could not be collected."""
        if report.failed:
            self._write(
                event="result", test=report.nodeid, outcome="failed", seconds=0.0, lines=_end(report.longreprtext)
            )
        elif report.skipped:
            self._write(event="result", test=report.nodeid, outcome="skipped", seconds=0.0, lines=[_reason(report)])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record that a test begins."""
        self._write(event="began", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of the test itself, or of a setup or teardown that did not pass."""
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
        """Record a warning."""
        text = " ".join(str(warning_message.message).split())
        self._write(event="warning", text=f"{warning_message.category.__name__}: {text}"[:300])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """Limit the test's time."""
        if self._seconds > 0:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Look whether the test broke the device's context."""
        report = yield
        if report.failed and any(text in report.longreprtext for text in BROKEN):
            self._broken = True
        return report

    def pytest_runtest_logfinish(self) -> None:
        """End this process after a test that broke the device's context."""
        if self._broken:
            os.write(self._stderr, b"the device's context is broken: this process ends\n")
            os._exit(ENDED)


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks, and the marker that pytest-xdist would register."""
    config.addinivalue_line("markers", "xdist_group(name): tests that run in one process")
    recorder = Recorder(Path(os.environ["GPU_CHECK_RECORD"]), float(os.environ.get("GPU_CHECK_TEST_SECONDS", "0")))
    config.pluginmanager.register(recorder, "gpu_check_recorder")


def append(file: Path, event: dict[str, Any]) -> None:
    """Append one line by one call of the system, so that lines of several processes do not mix."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(event) + "\n").encode())
    finally:
        os.close(descriptor)


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker is not None and marker.args else ""


def _end(text: str) -> list[str]:
    return [line[:400] for line in text.splitlines()[-LINES:]]


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)[:200]
