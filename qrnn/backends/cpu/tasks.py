"""How the work of a layer is spread over threads, and how its calls are laid out and used again.

Rows and sequences are spread over helper threads, and over a pool of Python threads where these are turned off (the kernels release the GIL).
Numba's own threading layers are not used: one of them aborts the process when two threads run parallel kernels at once, and which layer a
user has depends on the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call, CallList, ReusedCalls, reused_call
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.threads.pool import shared_pool
from qrnn.backends.cpu.threads.team import ListsCall, most_workers
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.parts import Int64Array

Together = Callable[[Callable[..., None], Sequence[int], int], Any]
"""Calls a function for each pair of neighbouring bounds, on so many threads at most."""

ROWS = "qrnn.backends.cpu.rows"
"""The package of the loops over rows, which imports Numba: its modules are named here, and imported where something is compiled."""


@dataclass(frozen=True)
class Reused:
    """A kind of call for `ReusedCalls`: its name among all of an engine, how it is laid out, and the argument where its arrays begin."""

    kind: Hashable
    make: Callable[[Int64Array, Sequence[Any]], Call]
    number: int


class Tasks:
    """The threads, the instruction set, the code and the thresholds of an engine. ``workers`` is the most threads at once."""

    def __init__(self, workers: int, isa: Isa | None, code: Code, tuning: Tuning | None = None) -> None:
        self.workers, self.isa, self.code = workers, isa, code
        self.tuning = tuning or Tuning()
        self.together: Together | None = None
        """Calls a function on several threads in the place of the pool; see `qrnn.qat.spreading.together`."""
        self._reused = ReusedCalls(code)
        self._idle: dict[Hashable, list[_Parts]] = {}

    def call(self, module: str, name: str, place: Any, *values: Any) -> Call:
        """Return the call of the function ``name`` of `qrnn.backends.cpu.rows`' ``module`` for rows place[FIRST] … place[LAST] - 1."""
        return Call(Kernel(f"{ROWS}.{module}", name), place, *values, isa=self.isa)

    def parts(self, count: int, macs: int, task_macs: int, grain: int = 1) -> int:
        """Return into how many tasks of ``task_macs`` or more ``count`` items of ``macs`` multiply-adds each are split.

        A task has ``grain`` items where there are enough for all workers.
        """
        if self.workers == 1 or count < 2 or count * macs < 2 * task_macs:
            return 1
        most = min(4 * self.workers, count * macs // task_macs, count // grain)
        return min(count, max(self.workers, most))

    def spread(self, run: Callable[[int, int], None], count: int, parts: int) -> None:
        """Call ``run(first, last)`` for ``parts`` parts of items 0 … count - 1, by the threads of the pool."""
        if parts == 1:
            run(0, count)
            return
        spans = _spans(count, parts)
        if self.together is None:
            list(shared_pool().map(run, *zip(*spans, strict=True)))
        else:
            self.together(run, [first for first, _ in spans] + [count], self.workers)

    def in_tasks(self, arrays: Sequence[Any], how: Reused, macs: int, task_macs: int, grain: int = 1) -> None:
        """Make a call for all rows of ``arrays`` now, split as `parts` says."""
        count = len(arrays[0])
        parts = self.parts(count, macs, task_macs, grain)
        self.in_parts(arrays, how, parts, count * macs * self.tuning.share_macs // task_macs)

    def in_parts(self, arrays: Sequence[Any], how: Reused, parts: int, macs: int) -> None:
        """Make a call for all rows of ``arrays`` now, for ``parts`` parts at once, which together take as long as ``macs`` dot products."""
        if parts == 1 or self.together is not None or most_workers(self.tuning) == 1:
            run = partial(self._reused.run, how.kind, how.make, arrays, how.number)
            self.spread(run, len(arrays[0]), parts)
            return
        idle = self._idle.setdefault((how.kind, parts), [])
        try:
            made = idle.pop()
        except IndexError:
            made = _Parts(self, arrays, how, parts)
        made.run(arrays, how.number, macs)
        idle.append(made)

    def alone(self, arrays: Sequence[Any], how: Reused) -> None:
        """Make a call for all rows of ``arrays`` now, by one thread."""
        self._reused.run(how.kind, how.make, arrays, how.number, 0, len(arrays[0]))


def _spans(count: int, parts: int) -> list[tuple[int, int]]:
    bounds = [count * k // parts for k in range(parts + 1)]
    return list(pairwise(bounds))


class _Parts:
    """A call as `ReusedCalls` keeps it, for so many parts of its rows, which helper threads share."""

    def __init__(self, tasks: Tasks, arrays: Sequence[Any], how: Reused, parts: int) -> None:
        made = [reused_call(how.make, arrays, tasks.code) for _ in range(parts)]
        self._calls = [call for call, _ in made]
        helpers = min(parts, tasks.workers, most_workers(tasks.tuning)) - 1
        control = np.zeros(3, np.int64)
        self._shared = ListsCall(control, [calls for _, calls in made], helpers, tasks.tuning)
        self._list = CallList((self._shared,), control, tasks.code)

    def run(self, arrays: Sequence[Any], number: int, macs: int) -> None:
        """Make the calls; see `Tasks.in_parts`."""
        for call in self._calls:
            call.put_all(number, arrays)
        self._shared.share(_spans(len(arrays[0]), len(self._calls)), macs)
        self._list.wake()
        self._list.run(0, 0)
