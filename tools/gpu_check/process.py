"""Run a command with a limit: its output goes to a log as it comes, and at the end nothing that it started is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.2
KEPT_BYTES = 6000
"""The end of a command's output that is kept for the report."""

LOG_BYTES = 1 << 20
"""Bytes of the log that one command may fill: the whole log stays a file that can be copied and read."""

DEATH_SECONDS = 10.0
"""How long a killed process may take to end. One that waits inside the driver can take longer, and is left to it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: ``status`` is its exit status, negative for a signal, None where it was killed at its limit."""

    status: int | None
    seconds: float
    said: str

    @property
    def state(self) -> str:
        """Return one word, or a few, for the report."""
        if self.status is None:
            return "killed at its limit"
        if self.status < 0:
            try:
                return f"crashed ({signal.Signals(-self.status).name})"
            except ValueError:
                return f"crashed (signal {-self.status})"
        return "ok" if self.status == 0 else "failed"


class _Output:
    """Copies a pipe to the log, in a thread, and keeps the end of what came."""

    def __init__(self, pipe: BinaryIO, log: Path) -> None:
        self._pipe, self._log, self._left = pipe, log, LOG_BYTES
        self.end = b""
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while chunk := os.read(self._pipe.fileno(), 1 << 16):
                self.end = (self.end + chunk)[-KEPT_BYTES:]
                log.write(chunk[: self._left])
                if 0 < self._left <= len(chunk):
                    log.write(b"\n[the rest of this output is left out]\n")
                self._left = max(0, self._left - len(chunk))

    def wait(self, seconds: float) -> None:
        """Wait for the end of the pipe."""
        self._thread.join(seconds)


def run_limited(
    command: Sequence[str],
    seconds: float,
    log: Path,
    environment: Mapping[str, str] | None = None,
    poll: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a command for at most ``seconds``, calling ``poll`` several times a second; afterwards its whole session is killed.

    An exception of ``poll``, or Ctrl-C, kills the session too.
    """
    began = time.monotonic()
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert child.stdout is not None
    output = _Output(child.stdout, log)  # type: ignore[arg-type]
    status: int | None = None
    try:
        while time.monotonic() - began < seconds:
            try:
                status = child.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                poll()
    finally:
        kill_session(child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(DEATH_SECONDS)
        output.wait(2.0)
        child.stdout.close()
    return Ended(status, time.monotonic() - began, output.end.decode(errors="replace"))


def kill_session(leader: int) -> None:
    """Kill every process of the session that the process ``leader`` began, whichever groups they have made."""
    for pid in [leader, *_session(leader)]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _session(leader: int) -> list[int]:
    """Return the processes of a session, if the system lists processes in /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader:
                found.append(int(folder.name))
    return found
