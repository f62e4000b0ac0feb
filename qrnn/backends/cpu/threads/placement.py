"""On which cores threads wake up.

Linux often wakes a thread on the core of the thread that woke it, however idle the others are: a helper thread and the thread that waits for
it then take turns on one core. So a thread that sleeps is kept off the core of the one that wakes it, just before. On systems where that
cannot be said the threads wake up where the system puts them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any


def _current_core() -> Callable[[], int] | None:
    """Return the function that says on which core the calling thread runs; None where the system has none."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        found: Any = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None
    found.argtypes, found.restype = (), ctypes.c_int
    made: Callable[[], int] = found
    return made


_core = _current_core()


class Placement:
    """The cores on which a thread, by its number in the system, may wake up."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._cores: set[int] = set()

    def keep_off_this_core(self) -> None:
        """Let the thread wake up on another core than the caller's, of those that the caller may use; it stays where it is while it runs."""
        if _core is None:
            return
        others = os.sched_getaffinity(0) - {_core()}
        if others and others != self._cores:
            try:
                os.sched_setaffinity(self._thread, others)
            except OSError:  # The thread has ended, or the system allows none of this.
                return
            self._cores = others
