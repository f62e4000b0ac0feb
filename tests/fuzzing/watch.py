"""Watch one case: limits of CPU time and memory, warnings, opened files, and a note of what the process was doing when it died."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

SECONDS = 5.0
"""CPU time in which a small file must be imported or refused."""

MEGABYTES = 1024
"""Memory that a case may take beyond what the process had before it."""

OTHER_SECONDS = 60.0
"""CPU time for what is not promised to be quick: compiled kernels are made when a kind of layer is first run."""

STUCK_SECONDS = 120.0
"""Time by the clock after which a case is stuck: it waits for something that does not come."""

SYSTEM = ("/proc/", "/sys/fs/cgroup")
"""Where the kernel says how much memory there is; Modules and compiled kernels may be opened too."""

STAGES = ("make", "load", "judge", "run", "oracle")
"""What a case may be doing: it is made; the code under test reads it; the fuzzer looks at it; the model runs; another runtime runs it."""


def address_space() -> int:
    """Return the bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Watch:
    """Limits and notes of the case that a process is at. The note survives the process: the one that forked it reads it."""

    def __init__(self) -> None:
        self._note = mmap.mmap(-1, 32)
        self._base = 0
        self._armed = False
        self._allowed: tuple[str, ...] = ()
        self.opened: list[str] = []
        self.warned: list[str] = []
        self.seconds = 0.0
        self.forgiven = 0
        """Bytes on stderr that are another runtime's."""

    @property
    def case(self) -> int:
        return int.from_bytes(self._note[:8], "little", signed=True)

    @property
    def stage(self) -> str:
        return STAGES[self._note[8]]

    def install(self) -> None:
        """Prepare a process that is to run cases: it records warnings and opened files, and an alarm ends it."""
        warnings.simplefilter("always")
        warnings.showwarning = self._on_warning
        sys.addaudithook(self._on_audit)
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        self._base = address_space()

    def begin(self, case: int) -> None:
        """Start the watch over a case."""
        self._note[:8] = case.to_bytes(8, "little", signed=True)
        self.opened, self.warned, self.seconds, self.forgiven = [], [], 0.0, 0
        self._enter("make", OTHER_SECONDS, False)
        signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS)

    def end(self) -> None:
        """Stop every clock."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _enter(self, stage: str, seconds: float, limited: bool) -> None:
        self._note[8] = STAGES.index(stage)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        most = self._base + (MEGABYTES << 20) if limited else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

    @contextmanager
    def loading(self, *allowed: Path) -> Iterator[None]:
        """Limit CPU time and memory while the code under test reads a file, and allow only paths in ``allowed`` to be opened."""
        self._allowed = tuple(os.path.realpath(path) for path in allowed)
        self._enter("load", SECONDS, True)
        self._armed = True
        start = time.process_time()
        try:
            yield
        finally:
            self._armed = False
            self.seconds += time.process_time() - start
            self._enter("judge", OTHER_SECONDS, False)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Limit memory while a model runs."""
        self._enter("run", OTHER_SECONDS, True)
        try:
            yield
        finally:
            self._enter("judge", OTHER_SECONDS, False)

    @contextmanager
    def other_runtime(self) -> Iterator[None]:
        """Forget warnings and output while another runtime is at work, whose faults are not the project's."""
        before, said = len(self.warned), os.fstat(2).st_size
        self._enter("oracle", OTHER_SECONDS, False)
        try:
            yield
        finally:
            del self.warned[before:]
            self.forgiven += os.fstat(2).st_size - said
            self._enter("judge", OTHER_SECONDS, False)

    def _on_warning(self, message: Warning | str, category: type[Warning], *_: object) -> None:
        if category.__name__ != "RandomCalibrationWarning":
            self.warned.append(f"{category.__name__}: {message}")

    def _on_audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._armed or event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, int):
            return
        # a name without a folder is opened within one that is open: in this process only the model's own
        real = os.path.realpath(os.path.join(self._allowed[0], os.fsdecode(path)))  # type: ignore[arg-type]
        refused_links = isinstance(flags, int) and flags & os.O_NOFOLLOW
        own = real.endswith((".py", ".pyc", ".so", ".nbi", ".nbc")) or real.startswith(SYSTEM)
        inside = any(real == allowed or real.startswith(allowed + os.sep) for allowed in self._allowed)
        if not own and not inside and not refused_links:
            self.opened.append(str(path))


class Unwatched:
    """Takes the place of a watch while a fuzzer is prepared: nothing is limited."""

    def __init__(self) -> None:
        self.loading = self.running = self.other_runtime = lambda *_: nullcontext()
