"""The CPU backend's ways to use threads change nothing: pool, team, many Python threads on one session, a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import pytest
from forked import answer_of_child
from hypothesis import given
from models import Shape

from backends.generators import (
    Case,
    assert_equal,
    cases,
    eager,
    few,
    fewest,
    integers,
    many,
    quantized_or_refused,
)
from backends.isa_choice import isas_and_cells
from qrnn.backends.cpu.threads import pool, team, team_loops
from qrnn.backends.cpu.warm_up import wanted_by
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

CELLS = (("lstm", True), ("gru", True), ("gru", False), ("rnn", True))


def _case(cell: str, after: bool, hidden: int, sequences: int = 1, steps: int = 70, activations: int = 8) -> Case:
    shape = Shape(cell, 3, hidden, (False, True), linear_before_reset=after, weight=1.5)  # type: ignore[arg-type]
    lengths = tuple(steps - n % 7 for n in range(sequences))
    return Case(
        shape, "dense", sequences=sequences, steps=steps, lengths=lengths, scheme=Scheme(activations, input="8")
    )


@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("hidden", [pytest.param(size, marks=pytest.mark.matrix) for size in (1, 2, 16)] + [7, 40])
@isas_and_cells
@pytest.mark.parametrize("threads", [2, pytest.param(3, marks=pytest.mark.matrix)])
def test_a_team_equals_the_reference(isa: str, cell: str, after: bool, hidden: int, threads: int) -> None:
    """Odd sizes, fewer units than threads, more steps than a block of input products; traced runs use the plain kernels."""
    case = _case(cell, after, hidden, activations=16 if hidden == 7 else 8)
    model = case.quantized()
    batch = case.batch(model)
    traced = hidden == 7
    want, _ = integers(Session(model, "reference"), batch, traced=traced)
    before = team.team_workers()
    session = Session(model, "cpu", threads, isa, tuning=eager(3))
    assert_equal(want, integers(session, batch, traced=traced)[0])
    assert team.team_workers() - before == 2 * threads, "a direction was not shared"


@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.parametrize("isa", [pytest.param(None, marks=pytest.mark.matrix), "plain"])
def test_helper_threads_that_do_not_come_are_not_waited_for(isa: str | None) -> None:
    """The calling thread makes the call alone, also where another team is at work; and what waits then is not part of the next team."""
    case = _case("gru", False, hidden=40)
    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    session = Session(model, "cpu", 2, isa, tuning=eager(2))
    assert_equal(want, integers(session, batch)[0])
    with mock.patch.object(team.Summons, "wake"):
        hasty = Session(model, "cpu", 2, isa, tuning=eager(2, wake_spins=0))
        for _ in range(20):  # by the team as long as helper threads are awake, then alone
            assert_equal(want, integers(hasty, batch)[0])
    team._MAILBOXES[team.LOCK] = team.TAKEN
    before = team.team_workers()
    try:
        assert_equal(want, integers(session, batch)[0])
        assert team._MAILBOXES[team.LOCK] == team.TAKEN
    finally:
        team._MAILBOXES[team.LOCK] = team.FREE
    assert team.team_workers() == before
    assert_equal(want, integers(session, batch)[0])
    assert team.team_workers() == before + 4
    assert team._MAILBOXES[team.LOCK] == team.FREE


@pytest.mark.parametrize("isa", [pytest.param(None, marks=pytest.mark.matrix), "plain"])
def test_one_switch_turns_teams_off(isa: str | None) -> None:
    """No call is made by a team, and none is compiled for one."""
    case = _case("lstm", True, hidden=40)
    model = case.quantized()
    batch, before = case.batch(model), team.team_workers()
    want, _ = integers(Session(model, "reference"), batch)
    off = Session(model, "cpu", 2, isa, tuning=eager(2, thread_teams=False))
    for tuning in (off.engine.tasks.tuning, eager(2, largest_team=1)):  # type: ignore[attr-defined]
        session = Session(model, "cpu", 2, isa, tuning=tuning)
        assert_equal(want, integers(session, batch)[0])
        assert not {k.kernel.module for k in wanted_by(session.engine)} & {team_loops.__name__}  # type: ignore[arg-type]
    assert team.team_workers() == before
    on = Session(model, "cpu", 2, isa, tuning=eager(2)).engine
    assert (team_loops.__name__ in {k.kernel.module for k in wanted_by(on)}) == team.SUPPORTED  # type: ignore[arg-type]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_the_pool_equals_the_reference(cell: str, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_pool", None)
    case = _case(cell, after, hidden=5, sequences=11, steps=9)
    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    assert_equal(want, integers(Session(model, "cpu", 3, tuning=eager(3)), batch)[0])
    assert pool._pool is not None, "the pool was not used"
    pool._pool.shutdown()


def check_threads(case: Case) -> None:
    """One thread, and two that share every layer, or every sequence, however small."""
    model = quantized_or_refused(case)
    if model is None:
        return
    batch = case.batch(model)
    sessions = [Session(model, "cpu", threads, tuning=eager(2)) for threads in (1, 2)]
    for traced in (False, True):  # by fused steps where there are any, and by the plain kernels
        assert_equal(*(integers(session, batch, traced=traced)[0] for session in sessions))


@pytest.mark.usefixtures("loops")
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


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("shared", [False, True])
def test_many_threads_share_one_session(shared: bool) -> None:
    """Eight Python threads at once: each gets the bits of a run alone, whether it gets the team or not."""
    case = _case("gru", False, hidden=13, sequences=1 if shared else 4, steps=40)
    model = case.quantized()
    session, batch = Session(model, "cpu", tuning=eager(2, wake_spins=1 << 16)), case.batch(model)
    want, _ = integers(Session(model, "cpu", 1), batch)
    start = threading.Barrier(8)

    def work(_: int) -> list[dict[str, Any]]:
        start.wait()
        return [integers(session, batch)[0] for _ in range(5)]

    with ThreadPoolExecutor(8) as executor:
        for results in executor.map(work, range(8)):
            for got in results:
                assert_equal(want, got)


def _run_in_child(session: Session, batch: Any, answers: Any) -> None:
    answers.put({name: value.tolist() for name, value in integers(session, batch)[0].items()})


@pytest.mark.usefixtures("loops")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_makes_its_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_pool", None)
    case = _case("lstm", True, hidden=5, sequences=6, steps=9)
    model = case.quantized()
    session, batch = Session(model, "cpu", 3, tuning=eager(3)), case.batch(model)
    want, _ = integers(session, batch)
    assert pool._pool is not None
    got = answer_of_child(_run_in_child, session, batch)
    for name, value in want.items():
        np.testing.assert_array_equal(value, np.asarray(got[name]).reshape(value.shape))
    pool._pool.shutdown()


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
