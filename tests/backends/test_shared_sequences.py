"""Sequences of one length are shared out over threads by compiled code: bits, errors, and helper threads that sleep or do not come."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from forked import answer_of_child
from hypothesis import given
from hypothesis import strategies as st
from models import Shape

from backends.generators import Case, eager, few, fewest
from qrnn.backends.cpu.sequences import CpuSequences
from qrnn.backends.cpu.threads import placement, team
from qrnn.backends.cpu.tuning import Tuning
from qrnn.errors import DataError
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

pytestmark = pytest.mark.skipif(not team.SUPPORTED, reason="no helper threads on this platform")

FEATURES = 3


@cache
def _model(cell: str) -> QuantModel:
    shape = Shape(cell, FEATURES, 20, (False, True), weight=1.5)  # type: ignore[arg-type]
    return Case(shape, "dense", sequences=2, steps=9, lengths=(9, 9)).quantized()


def _x(size: int, steps: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(size, steps, FEATURES))


def _equal(want: Any, got: Any) -> None:
    for name, value in want.outputs.items():
        np.testing.assert_array_equal(value, got.outputs[name])
    for name, arrays in want.state.layers.items():
        for one, other in zip(arrays, got.state.layers[name], strict=True):
            np.testing.assert_array_equal(one, other)


def check_shares(cell: str, size: int, steps: int, threads: int, seed: int) -> None:
    """Two runs, the second of which goes on from the first, as the reference makes them."""
    x, model = _x(size, 2 * steps, seed), _model(cell)
    reference, session = Session(model, "reference"), Session(model, "cpu", threads, tuning=eager(threads))
    want = got = None
    for part in (x[:, :steps], x[:, steps:]):
        given = {"x": np.ascontiguousarray(part)}
        want = reference.run(given, state=want and want.state)
        got = session.run(given, state=got and got.state)
        _equal(want, got)


@fewest
@given(size=st.integers(2, 11), steps=st.integers(1, 9), threads=st.integers(2, 5), seed=st.integers(0, 99))
def test_any_number_of_sequences_and_threads(size: int, steps: int, threads: int, seed: int) -> None:
    check_shares("lstm", size, steps, threads, seed)


@pytest.mark.matrix
@few
@given(
    cell=st.sampled_from(("lstm", "gru", "rnn")),
    size=st.integers(2, 70),
    steps=st.integers(1, 9),
    threads=st.integers(2, 9),
    seed=st.integers(0, 99),
)
def test_any_cell_number_of_sequences_and_threads(cell: str, size: int, steps: int, threads: int, seed: int) -> None:
    check_shares(cell, size, steps, threads, seed)


def test_helper_threads_make_their_part() -> None:
    """A run that takes milliseconds: a helper thread that was woken makes one of its lists, unless the machine is busy every time."""
    model = _model("lstm")
    session, x = Session(model, "cpu", 2, tuning=eager(2)), {"x": _x(32, 300)}
    want, before = Session(model, "cpu", 1).run(x), team.lists_by_helpers()
    for _ in range(200):
        _equal(want, session.run(x))
        if team.lists_by_helpers() > before:
            return
    pytest.fail("the calling thread made all lists")


@pytest.mark.parametrize("size", [2, 5, 9])
def test_padded_batches_are_shared_too(size: int) -> None:
    """Each thread has some of the sequences, of any lengths, also none."""
    model, x, lengths = _model("lstm"), _x(size, 9), np.arange(size) * 9 // (size - 1)
    want = Session(model, "reference").run({"x": x}, lengths)
    for tuning in (eager(3), eager(3, thread_teams=False)):
        session = Session(model, "cpu", 3, tuning=tuning)
        for _ in range(3):
            _equal(want, session.run({"x": x}, lengths))


def test_helper_threads_that_do_not_come_are_not_waited_for() -> None:
    """The calling thread makes all lists where helper threads sleep, and where another team is at work."""
    model = _model("lstm")
    session, x = Session(model, "cpu", 3, tuning=eager(3)), {"x": _x(6, 5)}
    want = Session(model, "cpu", 1).run(x)
    with mock.patch.object(team.Summons, "wake"):
        for _ in range(5):
            _equal(want, session.run(x))
    assert all(team._MAILBOXES[k * team.STRIDE + team.STATE] not in (team.OFFERED, team.GIVEN) for k in range(1, 3))
    before = team.lists_by_helpers()
    team._MAILBOXES[team.LOCK] = team.TAKEN
    try:
        _equal(want, session.run(x))
        assert team._MAILBOXES[team.LOCK] == team.TAKEN
    finally:
        team._MAILBOXES[team.LOCK] = team.FREE
    assert team.lists_by_helpers() == before
    _equal(want, session.run(x))
    assert team._MAILBOXES[team.LOCK] == team.FREE


@pytest.mark.parametrize("bad", range(6))
def test_an_input_out_of_range_is_found_in_every_share(bad: int) -> None:
    """Its place is named as by one thread, and the next run is as if nothing had been."""
    model = _model("lstm")
    session, x = Session(model, "cpu", 3, tuning=eager(3)), _x(6, 5)
    want = session.run({"x": x})
    wrong = x.copy()
    wrong[bad, 2, 1] = np.nan
    with pytest.raises(DataError) as alone:
        Session(model, "cpu", 1).run({"x": wrong})
    with pytest.raises(DataError) as shared:
        session.run({"x": wrong})
    assert str(shared.value) == str(alone.value)
    _equal(want, session.run({"x": x}))


def test_many_threads_share_out_at_once() -> None:
    """Eight Python threads: whoever does not get the helper threads makes all lists of a run itself."""
    model = _model("lstm")
    session, x = Session(model, "cpu", 3, tuning=eager(3)), {"x": _x(6, 30)}
    want, start = Session(model, "cpu", 1).run(x), threading.Barrier(8)

    def work(_: int) -> list[Any]:
        start.wait()
        return [session.run(x) for _ in range(10)]

    with ThreadPoolExecutor(8) as executor:
        for results in executor.map(work, range(8)):
            for got in results:
                _equal(want, got)


def _run_in_child(session: Session, x: Any, answers: Any) -> None:
    answers.put([session.run(x).outputs["y"].tolist() for _ in range(3)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_has_helper_threads_of_its_own() -> None:
    model = _model("lstm")
    session, x = Session(model, "cpu", 2, tuning=eager(2)), {"x": _x(4, 9)}
    want = session.run(x).outputs["y"]
    assert team._helpers
    for got in answer_of_child(_run_in_child, session, x):
        np.testing.assert_array_equal(want, np.asarray(got))


def test_small_runs_are_made_by_one_thread() -> None:
    """And none is shared where there are no helper threads."""
    model = _model("lstm")
    for tuning in (Tuning(cores=3), eager(3, thread_teams=False)):
        engine = Session(model, "cpu", 3, tuning=tuning).engine
        rows = engine.sequences(6, 5, np.float64)
        assert isinstance(rows, CpuSequences)
        assert rows._together is None
        assert len(rows.shares) == (3 if tuning.share_macs == 1 else 1)


def test_short_runs_wake_helper_threads_only_where_they_follow_each_other() -> None:
    tuning = Tuning(wake_macs=1000, again_us=50)
    for macs, woken in ((999, [False, True, False]), (1000, [True, True, True])):
        summons, times = team.Summons(1, team.Spins.of(tuning, macs)), iter((0.0, 40e-6, 100e-6))
        found = []
        for _ in range(3):
            team._MAILBOXES[team.STRIDE + team.STATE] = team.ASLEEP
            with (
                mock.patch.object(team, "perf_counter", lambda times=times: next(times)),
                mock.patch.object(team, "_helper") as helper,
            ):
                summons.wake()
            found.append(helper.called)
        assert found == woken


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no cores of threads on this platform")
def test_a_thread_is_kept_off_the_core_of_the_one_that_wakes_it() -> None:
    cores = sorted(os.sched_getaffinity(0))
    ready, done, number = threading.Event(), threading.Event(), []

    def wait() -> None:
        number.append(threading.get_native_id())
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    place = placement.Placement(number[0])
    try:
        for core in (*cores, None):
            with mock.patch.object(placement, "_core", None if core is None else mock.Mock(return_value=core)):
                place.keep_off_this_core()
            if core is not None:
                assert os.sched_getaffinity(number[0]) == ({*cores} - {core} or {core})
    finally:
        done.set()
        thread.join()
    with mock.patch.object(placement, "_core", return_value=cores[-1]):
        placement.Placement(number[0]).keep_off_this_core()  # of a thread that has ended: nothing happens
