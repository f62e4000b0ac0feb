"""The CPU backend's ways to use threads change nothing: pool, gang, many Python threads on one session, a forked child."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from models import Shape

from backends.generators import (
    Case,
    GangOfThreads,
    assert_equal,
    cases,
    eager_threads,
    few,
    fewest,
    integers,
    many,
    quantized_or_refused,
)
from backends.isa_choice import isas_and_cells
from qrnn.backends.cpu import crew, engine, packed, pools
from qrnn.backends.cpu.barrier import GANGS_WORK
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.crew import SharedCall
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.kinds import recurrent
from qrnn.backends.cpu.wanted import Kernel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

CELLS = (("lstm", True), ("gru", True), ("gru", False), ("rnn", True))


def _case(cell: str, after: bool, hidden: int, sequences: int = 1, steps: int = 70, activations: int = 8) -> Case:
    shape = Shape(cell, 3, hidden, (False, True), linear_before_reset=after, weight=1.5)  # type: ignore[arg-type]
    lengths = tuple(steps - n % 7 for n in range(sequences))
    return Case(
        shape, "dense", sequences=sequences, steps=steps, lengths=lengths, scheme=Scheme(activations, input="8")
    )


@pytest.fixture
def eager() -> Iterator[None]:
    """Every layer is big enough for threads, and there are cores for three."""
    with eager_threads(3):
        yield


@pytest.mark.skipif(not GANGS_WORK, reason="no gangs on this platform")
@pytest.mark.usefixtures("eager")
@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.parametrize("hidden", [pytest.param(size, marks=pytest.mark.matrix) for size in (1, 2, 16)] + [7, 40])
@isas_and_cells
def test_a_gang_equals_the_reference(isa: str, cell: str, after: bool, hidden: int) -> None:
    """Odd sizes, fewer units than threads, more steps than a block of input products; traced runs use the plain kernels."""
    case = _case(cell, after, hidden, activations=16 if hidden == 7 else 8)
    model = case.quantized()
    batch = case.batch(model)
    traced = hidden == 7
    want, _ = integers(Session(model, "reference"), batch, traced=traced)
    for threads in (2, 3):
        GangOfThreads.sizes.clear()
        assert_equal(want, integers(Session(model, "cpu", threads, isa), batch, traced=traced)[0])
        assert GangOfThreads.sizes == [threads] * 2, "a direction was not shared"


@pytest.fixture
def gangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is big enough for a gang of the crew, of two."""
    for module in (engine, recurrent):
        for name in vars(module).copy():
            if name.endswith("_MACS"):
                monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(engine, "core_count", lambda: 2)


@jit
def _count(count: Any) -> None:
    """Instead of what makes the result."""
    count[0] += 1


@pytest.mark.skipif(not GANGS_WORK, reason="no gangs on this platform")
@pytest.mark.usefixtures("gangs")
@pytest.mark.parametrize("isa", [None, "plain"])
def test_the_crew(isa: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers come, be it at the second call or, on a busy machine, much later; one that does not come is not waited for."""
    case = _case("gru", False, hidden=40)
    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    alone = np.zeros(1, np.int64)

    class NeverAlone(SharedCall):
        def __init__(self, members: Any, _alone: Any, *arguments: Any) -> None:
            self.counting = Call(Kernel(__name__, "_count"), alone)
            super().__init__(members, self.counting, *arguments)
            self._calls = tuple(members)  # those that work on arrays

    with monkeypatch.context() as patched:
        patched.setattr(recurrent, "SharedCall", NeverAlone)
        patched.setattr(packed, "SharedCall", NeverAlone)
        patched.setattr(recurrent, "_patience", lambda _macs: crew.PATIENCE)
        session, deadline = Session(model, "cpu", 2, isa), time.monotonic() + 300
        while True:
            alone[:] = 0
            got, _ = integers(session, batch)
            if not alone[0]:
                break
            assert time.monotonic() < deadline, "no gang came together"
        assert_equal(want, got)
    session = Session(model, "cpu", 2, isa)
    for _ in range(20):  # by the gang or alone
        assert_equal(want, integers(session, batch)[0])
    crew._POSTS[0] = crew.TAKEN
    assert_equal(want, integers(session, batch)[0])
    assert crew._POSTS[0] == crew.TAKEN
    crew._POSTS[0] = crew.FREE
    with mock.patch.object(crew.Expecting, "wake"):
        assert_equal(want, integers(session, batch)[0])
    assert crew._POSTS[0] == crew.FREE


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_the_pool_equals_the_reference(cell: str, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_pool", None)
    case = _case(cell, after, hidden=5, sequences=11, steps=9)
    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    assert_equal(want, integers(Session(model, "cpu", 3), batch)[0])
    assert pools._pool is not None, "the pool was not used"
    pools._pool.shutdown()


def check_threads(case: Case) -> None:
    """One thread, and two that share every layer, or every sequence, however small."""
    model = quantized_or_refused(case)
    if model is None:
        return
    batch = case.batch(model)
    with eager_threads(2):
        sessions = [Session(model, "cpu", threads) for threads in (1, 2)]
        for traced in (False, True):  # by fused steps where there are any, and by the plain kernels
            assert_equal(*(integers(session, batch, traced=traced)[0] for session in sessions))


@fewest
@given(case=cases(most_hidden=12, usual=True))
def test_one_thread_equals_two(case: Case) -> None:
    check_threads(case)


@pytest.mark.matrix
@few
@given(case=cases(most_hidden=12))
def test_one_thread_equals_two_for_any_model(case: Case) -> None:
    check_threads(case)


@pytest.mark.long
@many
@given(case=cases())
def test_one_thread_equals_two_long(case: Case) -> None:
    check_threads(case)


@pytest.mark.usefixtures("gangs")
@pytest.mark.parametrize("gang", [False, True])
def test_many_threads_share_one_session(gang: bool) -> None:
    """Eight Python threads at once: each gets the bits of a run alone, whether it gets the gang or not."""
    case = _case("gru", False, hidden=13, sequences=1 if gang else 4, steps=40)
    model = case.quantized()
    session, batch = Session(model, "cpu"), case.batch(model)
    want, _ = integers(Session(model, "cpu", 1), batch)
    start = threading.Barrier(8)

    def work(_: int) -> list[dict[str, Any]]:
        start.wait()
        return [integers(session, batch)[0] for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            for got in results:
                assert_equal(want, got)


def _run_in_child(session: Session, batch: Any, answers: Any) -> None:
    answers.put({name: value.tolist() for name, value in integers(session, batch)[0].items()})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.usefixtures("eager")
def test_a_forked_child_makes_its_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_pool", None)
    case = _case("lstm", True, hidden=5, sequences=6, steps=9)
    model = case.quantized()
    session, batch = Session(model, "cpu", 3), case.batch(model)
    want, _ = integers(session, batch)
    assert pools._pool is not None
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_run_in_child, args=(session, batch, answers))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of forks in threaded processes: that is the test
        child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "the child waits for threads that it does not have"
    assert child.exitcode == 0
    got = answers.get()
    for name, value in want.items():
        np.testing.assert_array_equal(value, np.asarray(got[name]).reshape(value.shape))
    pools._pool.shutdown()


FIRST_AT_ONCE = """
import gc, sys, threading
import numpy as np
from qrnn.backends.cpu import python_calls
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
def use():
    together.wait()
    for _ in range(300):
        values = np.zeros(3)
        assert python_calls.address_of(values) == values.ctypes.data
        gc.collect(0)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_all_be_the_first() -> None:
    """What the first call makes is made once: of several that make it, all but one would be dropped with the code that others were given."""
    done = subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
