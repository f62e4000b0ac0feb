"""Thread teams: helper threads that compiled code hands calls to, without coming back to Python.

Each helper thread has a mailbox, a few words of memory. It reads the mailbox again and again for a while after its last call (it spins), so
that calls that follow each other closely find it awake. Then it sleeps until `Summons.wake`. A process has one team at a time: two teams on the
same cores would wait for each other's time slices. A call for which no team comes together is made by the calling thread alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.threads.placement import Placement
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

LOCK, TEAM_WORKERS, LISTS_BY_HELPERS = 0, 1, 2
"""The words of the first mailbox, which is nobody's: whether there is a team (`FREE` or `TAKEN`), the sum of the workers of all calls that
teams have made, and how many lists of calls helper threads have made."""

FREE, TAKEN = 0, 1

LISTS, HELPERS = 1, 2
"""The words behind the number of lists that are taken, of lists of calls: how many there are, and how many helper threads are offered them."""

STATE, ENTRY, ARGUMENTS, BEGIN, IDLE_SPINS, EXPECTED_SPINS, YIELD_SPINS = range(7)
"""The words of a helper's mailbox: its state, the addresses of the function that it calls and of the arguments, the state in
which it wakes up, and `Spins` without the last."""

ASLEEP, READY, EXPECTED, HELD, GIVEN, OFFERED = 0, 1, 2, 3, 4, 5
"""The states of a helper. It spins from `READY` on: longer where it is `EXPECTED` by a thread that will wait for it, and without an end where
it is `HELD` for a team that is not yet complete. `GIVEN` a call, it makes the call. `OFFERED` one, it may also be asleep: it takes the call
when it looks into its mailbox, unless the offer has been taken back."""


LAST_END, CLOSE_NS, CLOSE_STEPS, CLOSE, RESTING, REST = range(6)
"""The words of the pace of single steps.

They say when the last step that was made alone ended, the most ns to the next one that follows it closely, after how many of these helper
threads are woken, and how many there have been; how many steps are still left to one thread, and how many will be after one for which a
helper thread was late.
"""

LATE_YIELDS = 400
"""So often at most a thread offers its core to others while it waits for a helper thread that is in time with its part of a step.

That takes less than a millisecond: longer than a part whose weights come from memory, and shorter than others keep a core.
"""


class Spins(NamedTuple):
    """How long threads outside the barrier wait, in pauses: fields of `Tuning`, then how long a team waits until it is complete."""

    idle: int
    expected: int
    between_yields: int
    wake: int
    again_us: int
    """Helper threads that sleep are woken for a call only where one like it was made less than so many µs before; 0 wakes them always."""

    @classmethod
    def of(cls, tuning: Tuning, macs: int) -> Spins:
        """Return the spins of a call of so many multiply-adds by dot products, or of work that takes as long."""
        again = 0 if macs >= tuning.wake_macs else tuning.again_us
        return cls(tuning.idle_spins, tuning.expected_spins, tuning.yield_spins, worth_waiting(macs, tuning), again)


def worth_waiting(macs: int, tuning: Tuning) -> int:
    """Return the pauses that a call of so many multiply-adds by dot products is worth waiting for helper threads; 0 for a short one."""
    if macs < tuning.fused_task_macs:
        return 0
    return min(
        tuning.wake_spins, max(1, macs // tuning.macs_per_wake_spin) if tuning.macs_per_wake_spin else tuning.wake_spins
    )


def most_workers(tuning: Tuning) -> int:
    """Return how many workers a thread team may have; 1 where there are no teams."""
    return min(tuning.largest_team, MOST) if tuning.thread_teams and SUPPORTED else 1


def barrier_flags(workers: int, tuning: Tuning) -> Int64Array:
    """Make the flags of a barrier, [workers · `STRIDE`] int64."""
    flags = np.zeros(workers * STRIDE, np.int64)
    flags[BARRIER_SPINS::STRIDE] = tuning.barrier_spins
    return flags


class _Helper:
    """Helper thread ``me``, which begins asleep."""

    def __init__(self, me: int) -> None:
        self._ends = os.pipe()
        thread = threading.Thread(target=_help, args=(me, self._ends[0]), name=f"qrnn-helper-{me}", daemon=True)
        thread.start()
        self._placement = Placement(thread.native_id or 0)

    def wake(self) -> None:
        """Wake the thread, on another core than this one."""
        self._placement.keep_off_this_core()
        os.write(self._ends[1], b"\0")

    def forget(self) -> None:
        """Close the ends of the pipe, in a process that does not have the thread."""
        for end in self._ends:
            os.close(end)


_MAILBOXES: Int64Array = np.zeros(MOST * STRIDE, np.int64)
_helpers: list[_Helper] = []
_starting = threading.Lock()


def _forget_helpers() -> None:
    """Begin anew in a forked child, which has none of its parent's threads. Calls that the parent laid out still know these mailboxes."""
    global _starting
    _starting = threading.Lock()
    for helper in _helpers:
        helper.forget()
    _helpers.clear()
    _MAILBOXES[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


_WATCH, _EXPECT, _SHARE, _SHARE_STEP, _MAKE_LISTS, _HELP = (
    Kernel("qrnn.backends.cpu.threads.team_loops", name)
    for name in ("watch", "expect", "share", "share_step", "make_lists", "help_with_lists")
)


def _control() -> Int64Array:
    return np.zeros(3, np.int64)


def _watching(me: int, pipe: int) -> Call:
    return Call(_WATCH, _MAILBOXES, me, pipe, np.zeros(1, np.uint8))


def _help(me: int, pipe: int) -> None:
    """Run helper thread ``me``."""
    CallList((_watching(me, pipe),), _control()).run(0, 0)


def _helper(me: int) -> _Helper:
    """Return helper thread ``me``, which is started if it does not exist."""
    with _starting:
        while len(_helpers) < me:
            _helpers.append(_Helper(len(_helpers) + 1))
    return _helpers[me - 1]


def lists_by_helpers() -> int:
    """Return how many lists of calls the helper threads of this process have made; see `ListsCall`."""
    return int(_MAILBOXES[LISTS_BY_HELPERS])


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
        self._expect: list[Callable[[], int]] = []
        self.again_us, self.needed = spins.again_us, count
        self._last = -inf

    def wake(self) -> None:
        """Wake the first ``needed`` helper threads where they sleep, else tell them to spin for longer; see `Spins.again_us`."""
        if self.again_us:
            now = perf_counter()
            soon, self._last = now - self._last < 1e-6 * self.again_us, now
            if not soon:
                return
        if not self._lists:
            self._lists = [CallList((call,), place) for call, place in zip(self.calls, self._places, strict=True)]
            self._expect = [calls.runner(0, 0) for calls in self._lists]
        for me, expect in enumerate(self._expect[: self.needed], 1):
            if expect():
                _helper(me).wake()


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
        parts = (*self._calls, *self._summons.calls, _watching(1, 0))
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


class StepParts(NamedTuple):
    """A step of few streams as a team makes it, or one thread.

    That is the call ``before``, by the calling thread, then the ``parts`` one by one, each with a call for every worker; or ``alone``.
    """

    before: Call
    parts: Sequence[Sequence[Call]]
    alone: Call
    most: int
    """The largest number of streams for which the parts are made."""


class StepCall(Call):
    """A step that helper threads take part in if they are awake. Nobody waits for one that sleeps, or that does not come in time.

    ``place`` says for which streams. The helper threads are woken by `wake`, which the list of calls makes where control[ASKED] was set: steps
    have followed each other closely for a while.
    """

    def __init__(self, place: Int64Array, control: Int64Array, step: StepParts, tuning: Tuning) -> None:
        self._calls = (step.before, *(call for part in step.parts for call in part), step.alone)
        workers = len(step.parts[0])
        spins = Spins.of(tuning, 0)._replace(wake=0, again_us=0)
        self._summons = Summons(workers - 1, spins)
        self._addresses = np.zeros((len(self._calls), 2), np.int64)
        parts = self._addresses[1:-1].reshape(len(step.parts), workers, 2)
        pace = np.zeros(6, np.int64)
        pace[[CLOSE_NS, CLOSE_STEPS, REST]] = 1000 * tuning.close_step_us, tuning.close_steps, tuning.rest_steps
        super().__init__(
            _SHARE_STEP, place, control, _MAILBOXES, self._addresses[:1], parts, self._addresses[-1:],
            np.zeros(workers, np.int64), pace, step.most, spins.between_yields,
        )  # fmt: skip

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The kernels of this call, of its parts, and of the helper threads."""
        others = (*self._calls, *self._summons.calls, _watching(1, 0))
        return (*super().wanted, *(wanted for call in others for wanted in call.wanted))

    def link(self, code: Code) -> tuple[int, int]:
        """Link the parts, then this call; see `Call.link`."""
        self._addresses[:] = [call.link(code) for call in self._calls]
        return super().link(code)

    def wake(self) -> None:
        """Wake the helper threads."""
        self._summons.wake()


class ListsCall(Call):
    """Lists of calls that have nothing in common, made by the calling thread and by ``helpers`` helper threads, which have to be woken before.

    The calling thread begins at once, and makes those that no helper thread has taken when it comes to them: it waits for none that sleeps.
    ``control[STATUS]`` is set where it is set in one of the lists.

    Parameters
    ----------
    lists: which of them are made, and what each works on, is said by `share`.
    """

    def __init__(self, control: Int64Array, lists: Sequence[CallList], helpers: int, tuning: Tuning) -> None:
        self._tuning, self._lists = tuning, tuple(lists)
        spins = Spins.of(tuning, 0)._replace(wake=0)  # The calling thread does not wait.
        self._summons = Summons(helpers, spins)
        self._helpers, self._taken = helpers, np.zeros(2 * STRIDE, np.int64)[STRIDE:]
        self._words = np.array([(*made.words, 0, 0) for made in lists], np.int64).reshape(-1, 5)
        self._help = Call(_HELP, self._words, self._taken)
        self._helping = np.zeros((1, 2), np.int64)
        given = self._helping, self._words, self._taken, spins.between_yields
        super().__init__(_MAKE_LISTS, control, _MAILBOXES, *given)

    def share(self, spans: Sequence[tuple[int, int]], macs: int) -> None:
        """Let as many lists work on these, `FIRST` and `LAST` of each, in all so many multiply-adds; the other lists are not made."""
        self._words[: len(spans), 3:] = spans
        self._taken[LISTS] = len(spans)
        self._taken[HELPERS] = self._summons.needed = max(0, min(self._helpers, len(spans) - 1))
        self._summons.again_us = Spins.of(self._tuning, macs).again_us

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The kernels of this call and of the helper threads; the lists have theirs already."""
        parts = (self._help, *self._summons.calls, _watching(1, 0))
        return (*super().wanted, *(wanted for call in parts for wanted in call.wanted))

    def link(self, code: Code) -> tuple[int, int]:
        """Link what the helper threads call, then this call; see `Call.link`."""
        self._helping[:] = self._help.link(code)
        return super().link(code)

    def wake(self) -> None:
        """Wake the helper threads, before a list with this call is run."""
        self._summons.wake()
