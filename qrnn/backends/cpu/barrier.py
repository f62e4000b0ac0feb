"""The barrier at which the threads of a gang meet: where it works, and how its flags lie. Its code is `qrnn.backends.cpu.atomics`."""

from __future__ import annotations

import sys

GANGS_WORK = sys.platform != "win32"
"""The barrier yields the processor by sched_yield, which POSIX systems have."""

FLAG_STRIDE = 16
"""int64 entries between two threads' flags: 128 bytes, so that no two share a cache line."""
