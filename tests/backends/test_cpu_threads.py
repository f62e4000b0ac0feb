"""The CPU backend's ways to use threads change nothing: pool, gang, many Python threads on one session, a forked child."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from models import Shape

from backends.generators import Case, assert_equal, cases, eager_threads, few, integers, many, quantized_or_refused
from qrnn.backends.cpu import engine, kernels, packed, pools
from qrnn.backends.cpu.barrier import GANGS_WORK
from qrnn.backends.cpu.isa import available_isas
from qrnn.quantization import Scheme
from qrnn.session import Session

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
@pytest.mark.parametrize("hidden", [1, 2, 7, 16, 40])
@pytest.mark.parametrize(("cell", "after"), CELLS)
@pytest.mark.parametrize("isa", available_isas())
def test_a_gang_equals_the_reference(
    isa: str, cell: str, after: bool, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes, fewer units than threads, more steps than a block of input products; traced runs use the plain kernels."""
    places = []
    run_sequences, run_fused = kernels.run_sequences, packed.FusedRun.run

    def spy(*arguments: Any) -> None:
        places.append(arguments[-1])
        run_sequences(*arguments)

    def spy_fused(*arguments: Any) -> None:
        places.append(arguments[-2])
        run_fused(*arguments)

    case = _case(cell, after, hidden, activations=16 if hidden == 7 else 8)
    model = case.quantized()
    batch = case.batch(model)
    traced = hidden == 7
    want, _ = integers(Session(model, "reference"), batch, traced=traced)
    monkeypatch.setattr(kernels, "run_sequences", spy)
    monkeypatch.setattr(packed.FusedRun, "run", spy_fused)
    for threads in (2, 3):
        places.clear()
        assert_equal(want, integers(Session(model, "cpu", threads, isa), batch, traced=traced)[0])
        assert sorted(places) == sorted([(0, 1, me, threads) for me in range(threads)] * 2), "the gang was not used"


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_the_pool_equals_the_reference(cell: str, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_pools", {})
    case = _case(cell, after, hidden=5, sequences=11, steps=9)
    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    assert_equal(want, integers(Session(model, "cpu", 3), batch)[0])
    assert "qrnn" in pools._pools, "the pool was not used"
    pools._pools["qrnn"].shutdown()


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


@few
@given(case=cases(most_hidden=12))
def test_one_thread_equals_two(case: Case) -> None:
    check_threads(case)


@pytest.mark.long
@many
@given(case=cases())
def test_one_thread_equals_two_long(case: Case) -> None:
    check_threads(case)


@pytest.mark.parametrize("gang", [False, True])
def test_many_threads_share_one_session(gang: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight Python threads at once: each gets the bits of a run alone, whether it gets the gang or not."""
    if gang:
        monkeypatch.setattr(engine, "GANG_MACS", 1)
        monkeypatch.setattr(engine, "FUSED_GANG_MACS", 1)
        monkeypatch.setattr(engine, "TASK_MACS", 1)
        monkeypatch.setattr(engine, "FUSED_TASK_MACS", 1)
        monkeypatch.setattr(engine, "core_count", lambda: 2)
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
    monkeypatch.setattr(pools, "_pools", {})
    case = _case("lstm", True, hidden=5, sequences=6, steps=9)
    model = case.quantized()
    session, batch = Session(model, "cpu", 3), case.batch(model)
    want, _ = integers(session, batch)
    assert "qrnn" in pools._pools
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
    pools._pools["qrnn"].shutdown()
