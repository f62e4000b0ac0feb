"""Thread teams: helper threads that compiled code hands calls to, without coming back to Python.

Each helper thread has a mailbox, a few words of memory. It reads the mailbox again and again for a while after its last call (it spins), so
that calls that follow each other closely find it awake. Then it sleeps until `Summons.wake`. A process has one team at a time: two teams on the
same cores would wait for each other's time slices. A call for which no team comes together is made by the calling thread alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel, Wanted
from qrnn.model.parts import Int64Array

SUPPORTED = sys.platform != "win32"
"""Whether this platform has thread teams: workers that wait offer their core to others by sched_yield, which POSIX systems have."""

MOST = 128
"""The workers for whom there is memory."""

STRIDE = 16
"""int64 words between the flags of two workers, and between two mailboxes: 128 bytes, so that no two share a cache line."""

EPOCH, BARRIER_SPINS = 0, 1
"""The words of a worker's flags: how often it has arrived at the barrier, and `Tuning.barrier_spins`."""

LOCK, TEAM_WORKERS = 0, 1
"""The words of the first mailbox, which is nobody's: whether there is a team (`FREE` or `TAKEN`), and the sum of the workers of all calls that
teams have made."""

FREE, TAKEN = 0, 1

STATE, ENTRY, ARGUMENTS, BEGIN, IDLE_SPINS, EXPECTED_SPINS, YIELD_SPINS = range(7)
"""The words of a helper's mailbox: its state, the addresses of the function that it calls and of the arguments, the state in
which it wakes up, and `Spins` without the last."""

ASLEEP, READY, EXPECTED, HELD, GIVEN = 0, 1, 2, 3, 4
"""The states of a helper. It spins from `READY` on: longer where it is `EXPECTED` by a thread that will wait for it, and without an end where
it is `HELD` for a team that is not yet complete. `GIVEN` a call, it makes the call."""


class Spins(NamedTuple):
    """How long threads outside the barrier wait, in pauses: fields of `Tuning`, and at last how long a team waits until it is complete."""

    idle: int
    expected: int
    between_yields: int
    wake: int

    @classmethod
    def of(cls, tuning: Tuning, wake: int) -> Spins:
        """Return the spins of a team that is worth waiting for ``wake`` pauses."""
        return cls(tuning.idle_spins, tuning.expected_spins, tuning.yield_spins, min(wake, tuning.wake_spins))


def worth_waiting(macs: int, tuning: Tuning) -> int:
    """Return the pauses that a call of so many multiply-adds by dot products is worth waiting for helper threads; 0 for a short one."""
    if macs < tuning.fused_task_macs:
        return 0
    return max(1, macs // tuning.macs_per_wake_spin) if tuning.macs_per_wake_spin else tuning.wake_spins


def most_workers(tuning: Tuning) -> int:
    """Return how many workers a thread team may have; 1 where there are no teams."""
    return min(tuning.largest_team, MOST) if tuning.thread_teams and SUPPORTED else 1


def barrier_flags(workers: int, tuning: Tuning) -> Int64Array:
    """Make the flags of a barrier, [workers · `STRIDE`] int64."""
    flags = np.zeros(workers * STRIDE, np.int64)
    flags[BARRIER_SPINS::STRIDE] = tuning.barrier_spins
    return flags


_MAILBOXES: Int64Array = np.zeros(MOST * STRIDE, np.int64)
_helpers: list[threading.Event] = []
_starting = threading.Lock()


def _forget_helpers() -> None:
    """Begin anew in a forked child, which has none of its parent's threads. Calls that the parent laid out still know these mailboxes."""
    global _starting
    _starting = threading.Lock()
    _helpers.clear()
    _MAILBOXES[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


_WATCH, _EXPECT, _SHARE = (
    Kernel("qrnn.backends.cpu.threads.team_loops", name) for name in ("watch", "expect", "share")
)


def _control() -> Int64Array:
    return np.zeros(3, np.int64)


def _help(me: int, wanted: threading.Event) -> None:
    """Run helper thread ``me``."""
    watching = CallList((Call(_WATCH, _MAILBOXES, me),), _control())
    while True:
        wanted.wait()
        wanted.clear()
        watching.run(0, 0)


def _helper(me: int) -> threading.Event:
    """Start helper thread ``me`` if it does not exist, and return the event that wakes it."""
    with _starting:
        while len(_helpers) < me:
            _helpers.append(threading.Event())
            place = (len(_helpers), _helpers[-1])
            threading.Thread(target=_help, args=place, name=f"qrnn-helper-{place[0]}", daemon=True).start()
    return _helpers[me - 1]


def team_workers() -> int:
    """Return the sum of the workers of all calls that teams of this process have made; a call by one thread alone adds nothing."""
    return int(_MAILBOXES[TEAM_WORKERS])


class Summons:
    """Wakes helper threads 1 … ``count`` and lets them spin. It is not for two threads at once."""

    def __init__(self, count: int, spins: Spins) -> None:
        state, places = EXPECTED if spins.wake > 0 else READY, [_control() for _ in range(count)]
        self.calls = [Call(_EXPECT, place, _MAILBOXES, me, state, tuple(spins)) for me, place in enumerate(places, 1)]
        self._places = places
        self._lists: list[CallList] = []

    def wake(self) -> None:
        """Wake the helper threads that sleep, and tell the others to spin for longer."""
        if not self._lists:
            self._lists = [CallList((call,), place) for call, place in zip(self.calls, self._places, strict=True)]
        for me, calls in enumerate(self._lists, 1):
            if calls.run(0, 0):
                _helper(me).set()


class TeamCall(Call):
    """A call that a thread team makes together. Its helper threads have to be woken before.

    Parameters
    ----------
    workers: the call of each worker; the first is made by the calling thread.
    alone: the call that is made in their place where another team is at work or helper threads do not come.
    flags: `barrier_flags` of the workers' barrier.
    spins: how long threads wait.
    """

    def __init__(self, workers: Sequence[Call], alone: Call, flags: Int64Array, spins: Spins) -> None:
        self._calls = (*workers, alone)
        self._summons = Summons(len(workers) - 1, spins)
        self._addresses = np.zeros((len(workers) + 1, 2), np.int64)
        waiting = spins.wake, spins.between_yields
        super().__init__(_SHARE, _MAILBOXES, self._addresses[:-1], self._addresses[-1:], flags, *waiting)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The kernels of this call, of the workers' calls, and of the helper threads."""
        parts = (*self._calls, *self._summons.calls, Call(_WATCH, _MAILBOXES, 1))
        return (*super().wanted, *(wanted for call in parts for wanted in call.wanted))

    def link(self, code: Code) -> tuple[int, int]:
        """Link the workers' calls, then this one; see `Call.link`."""
        self._addresses[:] = [call.link(code) for call in self._calls]
        return super().link(code)

    def put_all(self, number: int, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Put the arrays into the calls of all workers; see `Call.put_all`."""
        for call in self._calls:
            call.put_all(number, arrays)

    def wake(self) -> None:
        """Wake the helper threads, before a list with this call is run."""
        self._summons.wake()
