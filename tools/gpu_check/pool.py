"""Run tests in several processes at a time, and continue when a test ends its process: by a crash, a hang or a broken device context.

pytest-xdist gives a test that has ended its process to the next process again and again, so processes are started here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_check import kernels_plugin
from gpu_check.recorder import append

POLL_SECONDS = 0.1


@dataclass
class Events:
    """What the processes have written to the file that they share."""

    file: Path
    groups: dict[str, str] = field(default_factory=dict)
    """The group of each test that was collected, in order."""
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    began: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    _at: int = 0

    def read(self) -> None:
        """Read what is new; for a test with several outcomes a failure is kept."""
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "collected":
                self.groups = event["groups"] if not self.groups else self.groups
            case "began":
                self.began.add(event["test"])
            case "warning":
                self.warnings.append(event["text"])
            case "result" if self.outcomes.get(event["test"], {}).get("outcome") != "failed":
                self.outcomes[event["test"]] = event


@dataclass
class Running:
    """A process and the tests that it was given."""

    tests: list[str]
    process: subprocess.Popen[bytes]


class Pool:
    """The tests, which `collect` finds and `run` runs."""

    def __init__(self, folder: Path, root: Path, processes: int, test_seconds: float) -> None:
        self.events = Events(folder / "record.jsonl")
        self._root, self._processes = root, processes
        self._kernels = folder / "kernels.jsonl"
        self._environment = dict(os.environ) | {
            "GPU_CHECK_RECORD": str(self.events.file),
            "GPU_CHECK_TEST_SECONDS": str(test_seconds),
            kernels_plugin.VARIABLE: str(folder / "kernels.jsonl"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CI": "1",  # the same random cases each time
        }

    def kernels(self) -> dict[str, Any]:
        """Return the kernels that ran in tests that passed, and in others; see `gpu_check.kernels_plugin`."""
        return kernels_plugin.summary(self._kernels)

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*pytest_command(), *more], cwd=self._root, env=self._environment)

    def collect(self, keyword: str, places: tuple[str, ...], seconds: float) -> int:
        """Find the tests whose names hold ``keyword``, and return pytest's exit status."""
        with self._start("--collect-only", "-q", "-q", "-k", keyword, *places) as collecting:
            try:
                status = collecting.wait(seconds)
            except subprocess.TimeoutExpired:
                collecting.kill()
                status = -9
        self.events.read()
        return status

    def run(self, together: Callable[[str, str], str], go_on: Callable[[], bool]) -> Iterator[None]:
        """Run what was collected, yielding to the caller several times per second; end early where ``go_on`` returns False.

        ``together`` of a test and its group names the tests that run in one process.
        """
        jobs: dict[str, list[str]] = {}
        for test, group in self.events.groups.items():
            jobs.setdefault(together(test, group), []).append(test)
        waiting, running = list(jobs.values()), list[Running]()
        while (waiting or running) and go_on():
            while waiting and len(running) < self._processes:
                tests = waiting.pop(0)
                running.append(Running(tests, self._start(*tests)))
            time.sleep(POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                self.events.read()
                if rest := self._rest(one):
                    waiting.insert(0, rest)
            self.events.read()
            yield
        for one in running:
            one.process.kill()
            one.process.wait()
        self.events.read()

    def _rest(self, ended: Running) -> list[str]:
        """Return the tests that a process has left. The one at which it ended has failed; so have all if it did not come to the first."""
        left = [test for test in ended.tests if test not in self.events.outcomes]
        failed = [test for test in left if test in self.events.began] or (left if left == ended.tests else [])
        for test in failed:
            lines = [f"its process ended with exit status {ended.process.returncode}; the log has what it printed"]
            append(
                self.events.file, {"event": "result", "test": test, "outcome": "failed", "seconds": 0.0, "lines": lines}
            )
        return [test for test in left if test not in failed]


def pytest_command() -> list[str]:
    """Return pytest's command, with no plugin but the recorder and with settings in which a newer package's warning is no failure."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "gpu_check.recorder"]
    command += ["-p", "gpu_check.kernels_plugin"]
    for setting in ("addopts=", "filterwarnings=default", "xfail_strict=true"):
        command += ["-o", setting]
    return [*command, "-m", "not long"]


def function_of(test: str) -> str:
    """Return a test's name without its parameters."""
    return test.partition("[")[0]
