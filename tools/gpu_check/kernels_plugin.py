"""A plugin of pytest that records which kernels of backend cuda ran in which tests; `--adopt` promotes kernels by this evidence.

``pytest -p gpu_check.kernels_plugin`` with GPU_CHECK_KERNELS naming a file, to which all processes of a run append one JSON object per
line: a kernel when a test first launches it, before it runs, and the test's outcome at its end. So a test that hangs or kills its process
leaves the names of its kernels and no outcome, and `summary` counts them as wrong, as it does those of a test that failed. A test that was
skipped adds nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from qrnn.backends.cuda.kernel_variants import Kind
from qrnn.backends.cuda.proofs import Evidence, kind_of, kind_record, watched_kernels
from qrnn.backends.cuda.records import capability_of

VARIABLE = "GPU_CHECK_KERNELS"


class Watcher:
    """The hooks of the plugin."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._headed = False

    def _write(self, **event: Any) -> None:
        line = (json.dumps(event) + "\n").encode()
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)  # one write at the file's end: lines of several processes do not mix
        finally:
            os.close(descriptor)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Record kernels while the test runs."""
        seen: set[Kind] = set()

        def see(kind: Kind) -> None:
            if kind not in seen:
                seen.add(kind)
                self._head()
                self._write(test=item.nodeid, kernel=kind_record(kind), capability=list(kind.capability))

        with watched_kernels(see):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Record the test's outcome."""
        report = yield
        if call.when == "call":
            self._write(test=item.nodeid, outcome=report.outcome)
        return report

    def _head(self) -> None:
        if not self._headed:
            from gpu_check.adopt import evidence_head
            from qrnn.backends.cuda.device import find_device

            self._headed = True
            self._write(**evidence_head(find_device()))


def summary(file: Path) -> dict[str, Any]:
    """Return what a part adds to its result: ``kernels`` and ``evidence``, as `gpu_check.adopt` reads them. Empty where no kernel ran."""
    ran: dict[str, list[Kind]] = {}
    outcomes: dict[str, set[str]] = {}
    head: dict[str, Any] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        event = json.loads(line)
        if "evidence" in event:
            head = event
        elif "kernel" in event:
            kind = kind_of(str(file), event["kernel"], capability_of(str(file), event["capability"]))
            ran.setdefault(event["test"], []).append(kind)
        else:
            outcomes.setdefault(event["test"], set()).add(event["outcome"])
    evidence = Evidence()
    for test, kinds in ran.items():
        found = outcomes.get(test, {"none"}) - {"skipped"}
        for kind in dict.fromkeys(kinds) if found else ():
            evidence.add(kind, found == {"passed"})
    return head | {"kernels": evidence.records()} if head else {}


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks in each process that runs tests."""
    place = os.environ.get(VARIABLE)
    distributes = not hasattr(config, "workerinput") and bool(getattr(config.option, "numprocesses", None))
    if place and not distributes:
        config.pluginmanager.register(Watcher(Path(place)), "gpu_check_kernels")
