"""How the work of a layer is spread over threads, and how its calls are laid out and used again.

Rows and sequences are spread over a pool of Python threads (the kernels release the GIL). Numba's own threading layers are not used: one of
them aborts the process when two threads run parallel kernels at once, and which layer a user has depends on the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from qrnn.backends.cpu.calls import Call, ReusedCalls
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.threads.pool import shared_pool
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.parts import Int64Array

ROWS = "qrnn.backends.cpu.rows"
"""The package of the loops over rows, which imports Numba: its modules are named here, and imported where something is compiled."""


@dataclass(frozen=True)
class Reused:
    """A kind of call for `ReusedCalls`: its name among all of an engine, how it is laid out, and the argument where its arrays begin."""

    kind: Hashable
    make: Callable[[Int64Array, Sequence[Any]], Call]
    number: int


class Tasks:
    """The threads, the instruction set, the code and the thresholds of an engine; ``workers``: the most threads at once."""

    def __init__(self, workers: int, isa: Isa | None, code: Code, tuning: Tuning | None = None) -> None:
        self.workers, self.isa, self.code = workers, isa, code
        self.tuning = tuning or Tuning()
        self._reused = ReusedCalls(code)

    def call(self, module: str, name: str, place: Any, *values: Any) -> Call:
        """The function ``name`` of `qrnn.backends.cpu.rows`' ``module`` for rows place[FIRST] … place[LAST] - 1."""
        return Call(Kernel(f"{ROWS}.{module}", name), place, *values, isa=self.isa)

    def spread(self, run: Callable[..., None], count: int, macs: int, task_macs: int, grain: int = 1) -> None:
        """Run items 0 … count - 1 of ``macs`` multiply-adds each, split over the pool into tasks of ``task_macs`` or more.

        A task has ``grain`` items where there are enough for all workers.
        """
        workers = self.workers
        if workers == 1 or count == 1 or count * macs < 2 * task_macs:
            run(0, count)
            return
        tasks = min(count, max(workers, min(4 * workers, count * macs // task_macs, count // grain)))
        bounds = [count * k // tasks for k in range(tasks + 1)]
        list(shared_pool().map(run, bounds[:-1], bounds[1:]))

    def in_tasks(self, arrays: Sequence[Any], how: Reused, macs: int, task_macs: int, grain: int = 1) -> None:
        """Make a call for all rows of ``arrays`` now, spread as `spread` does."""
        self.spread(
            lambda first, last: self._reused.run(how.kind, how.make, arrays, how.number, first, last),
            len(arrays[0]), macs, task_macs, grain,
        )  # fmt: skip

    def alone(self, arrays: Sequence[Any], how: Reused) -> None:
        """Make a call for all rows of ``arrays`` now, by one thread."""
        self._reused.run(how.kind, how.make, arrays, how.number, 0, len(arrays[0]))
