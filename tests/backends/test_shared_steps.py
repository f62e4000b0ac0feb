"""Helper threads that are awake take part in single steps of large layers: bits, and helper threads that sleep or do not come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from forked import answer_of_child
from hypothesis import given
from hypothesis import strategies as st
from models import Shape

from backends.generators import Case, cases, eager, few, fewest, quantized_or_refused
from backends.isa_choice import isas_and_cells
from qrnn.backends.cpu.calls import CallList
from qrnn.backends.cpu.threads import team
from qrnn.backends.cpu.tuning import Tuning
from qrnn.errors import DataError
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.streaming import Stream

pytestmark = pytest.mark.skipif(not team.SUPPORTED, reason="no helper threads on this platform")

ALWAYS = {"shared_step_macs": 1, "close_steps": 1, "close_step_us": 1_000_000, "rest_steps": 0}
"""Every step is large, and helper threads are woken after the first one."""


@contextmanager
def nobody_comes(state: int = team.READY) -> Iterator[Any]:
    """Mailboxes of helper threads in ``state`` that nobody reads."""
    boxes = np.zeros_like(team._MAILBOXES)
    boxes[team.STRIDE + team.STATE :: team.STRIDE] = state
    with mock.patch.object(team, "_MAILBOXES", boxes), mock.patch.object(team, "_helper"):
        yield boxes


def check_steps(model: QuantModel, stream: Stream, steps: int = 5, seed: int = 0) -> None:
    """Compare the outputs of so many steps, and the states after them, with the reference's."""
    want = Session(model, "reference").stream(stream.size)
    stream.reset()
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        x = {i.name: rng.normal(size=(stream.size, *i.shape)) for i in model.inputs if i.kind == "features"}
        expected, got = want.step(x), stream.step(x)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)
    for name, arrays in want.state.layers.items():
        for one, other in zip(arrays, stream.state.layers[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@cache
def _model(cell: str = "lstm", after: bool = True, hidden: int = 40, activations: int = 8) -> QuantModel:
    shape = Shape(cell, 3, hidden, linear_before_reset=after, weight=1.5, layers=2)  # type: ignore[arg-type]
    return Case(shape, "dense", lengths=(5, 5), scheme=Scheme(activations, input="8")).quantized()


@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.parametrize("hidden", [pytest.param(size, marks=pytest.mark.matrix) for size in (1, 7, 16)] + [75])
@isas_and_cells
def test_the_parts_of_a_step_equal_the_reference(isa: str, cell: str, after: bool, hidden: int) -> None:
    """Nobody takes the other workers' parts, so that the calling thread makes them: one and two streams, and three, which have no parts."""
    model = _model(cell, after, hidden, 16 if hidden == 7 else 8)
    with nobody_comes() as boxes:
        for size, threads in ((1, 2), (2, 3), (3, 2)):
            before = team.team_workers()
            check_steps(model, Session(model, "cpu", threads, isa, tuning=eager(3, **ALWAYS)).stream(size))
            fused = not Session(model, "cpu", 1, isa).engine.plain_directions()  # type: ignore[attr-defined]
            made = 2 * 5 * threads if size < 3 and fused else 0  # two layers, five steps
            assert team.team_workers() - before == made
        assert set(boxes[team.STRIDE + team.STATE :: team.STRIDE]) == {team.READY}
        assert boxes[team.LOCK] == team.FREE


def check_any_stream(case: Case, threads: int, size: int) -> None:
    """Streams of any model, all of whose layers have parts."""
    model = quantized_or_refused(case)
    if model is None:
        return
    with nobody_comes():
        check_steps(model, Session(model, "cpu", threads, tuning=eager(threads, **ALWAYS)).stream(size), 3, case.seed)


@pytest.mark.matrix
@fewest
@given(case=cases(forward=True, usual=True), threads=st.integers(2, 5), size=st.integers(1, 2))
def test_parts_of_usual_models(case: Case, threads: int, size: int) -> None:
    check_any_stream(case, threads, size)


@pytest.mark.matrix
@few
@given(case=cases(forward=True), threads=st.integers(2, 5), size=st.integers(1, 2))
def test_parts_of_any_model(case: Case, threads: int, size: int) -> None:
    check_any_stream(case, threads, size)


@pytest.mark.parametrize("after", [True, False])
def test_helper_threads_take_part(after: bool) -> None:
    """They are woken behind the first steps, and take part in later ones."""
    model = _model("gru", after)
    alone, shared = (Session(model, "cpu", threads, tuning=eager(2, **ALWAYS)).stream() for threads in (1, 2))
    before = team.team_workers()
    for _ in range(200):  # until they do, unless the machine is busy every time
        for stream in (alone, shared):
            stream.inputs["x"][...] += 0.01
            for _ in range(500):
                stream.advance()
        for name, value in alone.outputs.items():
            np.testing.assert_array_equal(shared.outputs[name], value)
        if team.team_workers() > before:
            return
    pytest.fail("the calling thread made all steps")


def test_helper_threads_are_woken_where_steps_follow_each_other() -> None:
    """Behind so many steps that each began soon after the one before; not where time is up, and not by larger steps."""
    model = _model()
    for wait, size, woken in ((1_000_000, 1, 2), (0, 1, 0), (1_000_000, 3, 0)):
        tuning = eager(2, **ALWAYS | {"close_step_us": wait, "close_steps": 4})
        with nobody_comes(team.ASLEEP), mock.patch.object(team.Summons, "wake") as wake:
            stream = Session(model, "cpu", 2, tuning=tuning).stream(size)
            for _ in range(9):  # the first step follows none
                stream.advance()
            assert wake.call_count == 2 * woken  # of two layers
            check_steps(model, stream)


def test_late_helper_threads_are_left_alone_for_a_while() -> None:
    """After a step in which one did not come, a 16th of so many are made by the calling thread alone."""
    model = _model()
    with nobody_comes():
        stream = Session(model, "cpu", 2, tuning=eager(2, **ALWAYS | {"rest_steps": 48})).stream()
        shared = []
        for _ in range(9):
            before = team.team_workers()
            stream.advance()
            shared.append(team.team_workers() > before)
        assert shared == [k % 4 == 0 for k in range(9)]
        check_steps(model, stream)


def test_another_team_at_work_is_not_waited_for() -> None:
    model = _model()
    with nobody_comes() as boxes:
        boxes[team.LOCK] = team.TAKEN
        check_steps(model, Session(model, "cpu", 2, tuning=eager(2, **ALWAYS)).stream())
        assert boxes[team.LOCK] == team.TAKEN
        assert boxes[team.STRIDE + team.STATE] == team.READY


def test_small_layers_have_no_parts() -> None:
    """Nor has one where there are no helper threads."""
    model = _model()
    assert model.recurrent_layers
    for tuning in (Tuning(cores=2), eager(2, thread_teams=False, **ALWAYS), eager(1, **ALWAYS)):
        streams = Session(model, "cpu", 2, tuning=tuning).engine.streams(1)
        assert not any(isinstance(call, team.StepCall) for call in streams.layer_calls().calls)  # type: ignore[attr-defined]


def test_what_a_wake_up_raises_is_raised() -> None:
    """And the state is that after the step."""
    model = _model()
    with nobody_comes(team.ASLEEP):
        stream = Session(model, "cpu", 2, tuning=eager(2, **ALWAYS)).stream()
        stream.advance()
        with mock.patch.object(team.Summons, "wake", side_effect=MemoryError), pytest.raises(MemoryError):
            stream.advance()
        check_steps(model, stream)
    assert CallList((), np.zeros(4, np.int64)).run(0, 0) == 0


def _step_in_child(stream: Stream, x: Any, answers: Any) -> None:
    answers.put([stream.step(x)["y"].tolist() for _ in range(30)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_steps_on() -> None:
    model, x = _model(), {"x": np.ones((1, 3))}
    stream = Session(model, "cpu", 2, tuning=eager(2, **ALWAYS)).stream()
    for _ in range(20):
        stream.step(x)
    got = answer_of_child(_step_in_child, stream, x)
    for value in got:
        np.testing.assert_array_equal(stream.step(x)["y"], np.asarray(value))


@pytest.mark.parametrize("bad", range(0, 12, 3))
def test_pools_are_shared_out(bad: int) -> None:
    """An input out of range is found in every share, and changes no state; fewer streams than before are shared anew."""
    model = _model()
    tuning = eager(3, stream_task_macs=1)
    pools = [Session(model, "cpu", threads, tuning=tuning).pool(12) for threads in (1, 3)]
    numbers = [[pool.open() for _ in range(12)] for pool in pools]
    rng = np.random.default_rng(bad)
    for count in (12, 12, 5, 1, 12):
        x = rng.normal(size=(count, 3))
        one, other = (pool.step(who[:count], {"x": x})["y"] for pool, who in zip(pools, numbers, strict=True))
        np.testing.assert_array_equal(one, other)
        wrong = rng.normal(size=(12, 3))
        wrong[bad, 1] = np.nan
        for pool, who in zip(pools, numbers, strict=True):
            with pytest.raises(DataError, match=rf"value nan at \[{bad}, 0, 1\]"):
                pool.step(who, {"x": wrong})


def test_helper_threads_step_a_part_of_a_pool() -> None:
    """A step that takes a while: a helper thread that was woken makes one of its lists, unless the machine is busy every time."""
    model, before = _model(hidden=75), team.lists_by_helpers()
    pool = Session(model, "cpu", 2, tuning=eager(2, stream_task_macs=1)).pool(600)
    numbers, x = [pool.open() for _ in range(600)], np.ones((600, 3))
    for _ in range(500):
        pool.step(numbers, {"x": x})
        if team.lists_by_helpers() > before:
            return
    pytest.fail("the calling thread made all lists")
