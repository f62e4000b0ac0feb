"""How the threads of a gang hand each other calls, and get them done: the code of `qrnn.backends.cpu.crew`."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.atomics import exchange_if, load_acquire, pause, store_release, yield_processor
from qrnn.backends.cpu.barrier import FLAG_STRIDE
from qrnn.backends.cpu.crew import (
    ASLEEP,
    BEGIN,
    ENTRY,
    EXPECTED,
    EXPECTED_LINGER,
    FREE,
    GIVEN,
    HELD,
    LINGER,
    READY,
    TAKEN,
    WORDS,
    YIELD,
)
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.memory import call_at
from qrnn.backends.cpu.python_calls import STATUS


@jit
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


@jit
def expect(place: Any, posts: Any, me: int, state: int) -> None:
    """Let helper ``me`` watch in ``state``; place[STATUS] = 1 where it sleeps and has to be woken."""
    own = me * FLAG_STRIDE
    posts[own + BEGIN] = state
    if not exchange_if(posts, own, READY, state) and load_acquire(posts, own) == ASLEEP:
        place[STATUS] = 1


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
        for k in range(flags.shape[0]):
            flags[k] = 0
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
