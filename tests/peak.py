"""Measure the most memory that a process has held.

``ru_maxrss`` does not tell it on Linux: it outlives ``exec``, so that a program begins with the peak of the process that started it. The
kernel's ``VmHWM`` belongs to the address space, which a program does not share with what ran before it.
"""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5)


def peak() -> int:
    """Return the most memory that this process has held, in bytes, since it began or since the last call of :func:`forget_peak`."""
    if sys.platform == "linux":
        found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> int:
    """Let the peak start again from what this process holds now, where the kernel can do that, and return it in bytes."""
    if sys.platform == "linux":
        with contextlib.suppress(
            OSError
        ):  # some sandboxes have no such file: growth is then measured from the peak so far
            CLEAR.write_text(RESET_PEAK)
    return peak()
