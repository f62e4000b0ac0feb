"""Threads that share one sequence: compiled code hands them calls, and gets them done, without coming back to Python.

Each helper has a post, words in memory that it watches for a while after its last call, so that calls that follow each other closely find it
awake; then it sleeps until `wake`. There is one gang at a time: two on the same cores would wait for each other's time slices.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu.barrier import FLAG_STRIDE
from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.wanted import Kernel, Wanted
from qrnn.model.parts import Int64Array

MOST = 128
"""Members of a gang, at most."""

FREE, TAKEN = 0, 1
"""Of the crew, posts[0]: whether there is a gang."""

ASLEEP, READY, EXPECTED, HELD, GIVEN = 0, 1, 2, 3, 4
"""Of a helper, posts[FLAG_STRIDE · k]: it watches from READY on, longer where it is EXPECTED by somebody who will wait for it, is HELD for a
gang that is not yet complete, and GIVEN a call."""

ENTRY, WORDS, BEGIN = 1, 2, 3
"""After a helper's state: the addresses of its call, and the state in which it wakes up."""

LINGER, EXPECTED_LINGER = 1 << 13, 1 << 16
"""Pauses, of 15 to 45 ns each, that a helper watches its post before it sleeps."""

YIELD = 1 << 10
"""Pauses after which a gang that is not complete offers its processors to whom it waits for."""

PATIENCE = 1 << 16
"""Pauses that a gang waits for helpers to wake up, which takes some 50 µs, at most."""

_POSTS: Int64Array = np.zeros(MOST * FLAG_STRIDE, np.int64)
_helpers: list[threading.Event] = []
_hiring = threading.Lock()


def _forget_helpers() -> None:
    """A forked child has none of its parent's threads; what was prepared in the parent still knows these posts."""
    global _hiring
    _hiring = threading.Lock()
    _helpers.clear()
    _POSTS[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


_WATCH, _EXPECT, _SHARE = (Kernel("qrnn.backends.cpu.gangs", name) for name in ("watch", "expect", "share"))


def _control() -> Int64Array:
    return np.zeros(3, np.int64)


def _help(me: int, wanted: threading.Event) -> None:
    watching = CallList((Call(_WATCH, _POSTS, me),), _control())
    while True:
        wanted.wait()
        wanted.clear()
        watching.run(0, 0)


class Expecting:
    """Lets helpers 1 … ``count`` watch their posts; ``patient``: for somebody who will wait for them. Not by two threads at once."""

    def __init__(self, count: int, patient: bool) -> None:
        state, places = EXPECTED if patient else READY, [_control() for _ in range(count)]
        self.calls = [Call(_EXPECT, place, _POSTS, me, state) for me, place in enumerate(places, 1)]
        self._places = places
        self._lists: list[CallList] = []

    def wake(self) -> None:
        """Now."""
        if not self._lists:
            self._lists = [CallList((call,), place) for call, place in zip(self.calls, self._places, strict=True)]
        for me, calls in enumerate(self._lists, 1):
            if calls.run(0, 0):
                _helper(me).set()


def _helper(me: int) -> threading.Event:
    """What wakes helper ``me``, who is there from then on."""
    with _hiring:
        while len(_helpers) < me:
            _helpers.append(threading.Event())
            place = (len(_helpers), _helpers[-1])
            threading.Thread(target=_help, args=place, name=f"qrnn-helper-{place[0]}", daemon=True).start()
    return _helpers[me - 1]


class SharedCall(Call):
    """A call that a gang makes, a member each; or ``alone``, where another gang is at work or helpers do not come.

    Its helpers are to be woken before.
    """

    def __init__(self, members: Sequence[Call], alone: Call, flags: Int64Array, patience: int) -> None:
        """``flags``: of the members' barrier; ``patience``: pauses worth waiting until helpers are awake, 0 for none."""
        self._calls = self._linked = (*members, alone)
        patience = min(patience, PATIENCE)
        self._expecting = Expecting(len(members) - 1, patience > 0)
        self._addresses = np.zeros((len(members) + 1, 2), np.int64)
        super().__init__(_SHARE, _POSTS, self._addresses[:-1], self._addresses[-1:], flags, patience)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """Its own, the members', and what helpers run."""
        parts = (*self._linked, *self._expecting.calls, Call(_WATCH, _POSTS, 1))
        return (*super().wanted, *(wanted for call in parts for wanted in call.wanted))

    def link(self, code: Code) -> tuple[int, int]:
        self._addresses[:] = [call.link(code) for call in self._linked]
        return super().link(code)

    def put_all(self, number: int, arrays: Sequence[npt.NDArray[Any]]) -> None:
        for call in self._calls:
            call.put_all(number, arrays)

    def wake(self) -> None:
        """Before a list with this call is run."""
        self._expecting.wake()
