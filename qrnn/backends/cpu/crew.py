"""Threads that share one sequence: compiled code hands them calls, and gets them done, without coming back to Python.

Each helper has a post, words in memory that it watches for a while after its last call, so that calls that follow each other closely find it
awake; then it sleeps until `wake`. There is one gang at a time: two on the same cores would wait for each other's time slices.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from qrnn.backends.cpu.barrier import FLAG_STRIDE, exchange_if, load_acquire, pause, store_release, yield_processor
from qrnn.backends.cpu.calls import Call, call_at
from qrnn.backends.cpu.jit import jit, jit_entry
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


@jit_entry
def watch(posts: Any, me: int) -> None:
    """As helper ``me``: make the calls that are given, until none has come for a while."""
    own, waited = me * FLAG_STRIDE, 0
    store_release(posts, own, posts[own + BEGIN])
    while True:
        state = load_acquire(posts, own)
        if state == GIVEN:
            call_at(posts[own + ENTRY], posts[own + WORDS])
            store_release(posts, own, READY)
            waited = 0
            continue
        pause()
        waited += 1
        if state == HELD and waited % YIELD == 0:
            yield_processor()
        tired = waited > (LINGER if state == READY else EXPECTED_LINGER) and state <= EXPECTED
        if tired and exchange_if(posts, own, state, ASLEEP):
            return


@jit_entry
def expect(posts: Any, me: int, state: int) -> bool:
    """Let helper ``me`` watch in ``state``; False where it sleeps and has to be woken."""
    own = me * FLAG_STRIDE
    posts[own + BEGIN] = state
    awake: bool = exchange_if(posts, own, READY, state) or load_acquire(posts, own) != ASLEEP
    return awake


@jit
def _hold(posts: Any, k: int, patience: int) -> bool:
    """Whether helper ``k`` is this thread's now."""
    for waited in range(patience + 1):
        state = load_acquire(posts, k * FLAG_STRIDE)
        if READY <= state <= EXPECTED and exchange_if(posts, k * FLAG_STRIDE, state, HELD):
            return True
        pause()
        if waited % YIELD == YIELD - 1:
            yield_processor()
    return False


@jit
def share(posts: Any, members: Any, alone: Any, flags: Any, patience: int) -> None:
    """The calls of ``members`` [threads, 2] at once, the first by this thread; or the call ``alone`` [1, 2] where no gang is to be had.

    ``flags``: those of the members' barrier, set to zero.
    """
    mine = exchange_if(posts, 0, FREE, TAKEN)
    held = 0
    if mine:
        flags[:] = 0
        while held < members.shape[0] - 1 and _hold(posts, held + 1, patience):
            held += 1
    if mine and held == members.shape[0] - 1:
        for k in range(1, members.shape[0]):
            posts[k * FLAG_STRIDE + ENTRY] = members[k, 0]
            posts[k * FLAG_STRIDE + WORDS] = members[k, 1]
            store_release(posts, k * FLAG_STRIDE, GIVEN)
        call_at(members[0, 0], members[0, 1])
        for k in range(1, members.shape[0]):
            waited = 0
            while load_acquire(posts, k * FLAG_STRIDE) == GIVEN:
                waited += 1
                if waited % YIELD == 0:
                    yield_processor()
    else:
        for k in range(1, held + 1):
            store_release(posts, k * FLAG_STRIDE, READY)
        call_at(alone[0, 0], alone[0, 1])
    if mine:
        store_release(posts, 0, FREE)


@cache
def _entries() -> tuple[Any, Any]:
    """`watch` and `expect`, compiled."""
    posts, word = types.int64[::1], types.int64
    found = []
    for called, kinds in ((watch, (posts, word)), (expect, (posts, word, word))):
        called.compile(kinds)
        found.append(called.get_overload(kinds))
    return found[0], found[1]


def _help(me: int, wanted: threading.Event) -> None:
    watcher, _ = _entries()
    while True:
        wanted.wait()
        wanted.clear()
        watcher(_POSTS, me)


def wake(count: int, patient: bool) -> None:
    """Let helpers 1 … ``count`` watch their posts; ``patient``: for somebody who will wait for them."""
    _, expected = _entries()
    for me in range(1, count + 1):
        if not expected(_POSTS, me, EXPECTED if patient else READY):
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
        self._calls = (*members, alone)  # kept alive
        self._helpers, self._patience = len(members) - 1, min(patience, PATIENCE)
        addresses = np.array([call.addresses for call in self._calls], np.int64)
        super().__init__(share, _POSTS, addresses[:-1], addresses[-1:], flags, self._patience)

    def put(self, number: int, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Let the calls' arguments from ``number`` on be other arrays; see `Frame.put`."""
        for call in self._calls:
            for k, array in enumerate(arrays, number):
                call.frame.put(k, array)

    def wake(self) -> None:
        """Before a list with this call is run."""
        wake(self._helpers, self._patience > 0)
