"""Work that is independent row by row is spread over the cores here."""

from __future__ import annotations

from collections.abc import Callable

from qrnn.backends.cpu.threads.pool import core_count, shared_pool


def spread(run: Callable[[int, int], None], count: int) -> None:
    """Run rows 0 … count - 1, a part on each core."""
    workers = min(core_count(), max(1, count // 4))
    if workers == 1:
        run(0, count)
        return
    bounds = [count * k // workers for k in range(workers + 1)]
    list(shared_pool().map(run, bounds[:-1], bounds[1:]))
