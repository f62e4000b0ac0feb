"""The threads of the CPU backend, of the whole process."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_gang_lock = threading.Lock()
_pools: dict[str, ThreadPoolExecutor] = {}
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    """A forked child has none of its parent's threads: it makes its own pools when it needs them."""
    global _pools, _pool_lock, _gang_lock
    _pools, _pool_lock, _gang_lock = {}, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lone_gang() -> threading.Lock:
    """Held by the one gang at a time: two gangs on the same cores would wait for each other's time slices."""
    return _gang_lock


def _pool(name: str) -> ThreadPoolExecutor:
    """A pool of the process, of one thread a core, made at first use."""
    with _pool_lock:
        if name not in _pools:
            _pools[name] = ThreadPoolExecutor(core_count(), thread_name_prefix=name)
        return _pools[name]


def shared_pool() -> ThreadPoolExecutor:
    """Threads for tasks that are independent of each other."""
    return _pool("qrnn")


def gang_pool() -> ThreadPoolExecutor:
    """Threads for a gang's other members: of their own, for a gang must not wait for a thread that is busy with something else."""
    return _pool("qrnn-gang")
