"""Runs of whole sequences through a backend's own buffers: the bits of the reference, for every model, however often they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.generators import Case, cases, eager, few, fewest, quantized_or_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn import DataError, Session
from qrnn.backends.base import ModelRows
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.state import RunResult

BOTH = Case(Shape("lstm", 3, 19, (False, True), layers=2), sequences=3, steps=7, lengths=(7, 7, 7))


def assert_same(got: RunResult, want: RunResult) -> None:
    assert got.outputs.keys() == want.outputs.keys()
    for name, value in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], value, err_msg=name)
        assert got.outputs[name].dtype == value.dtype
    for name, (h, c) in want.state.layers.items():
        np.testing.assert_array_equal(got.state.layers[name][0], h)
        np.testing.assert_array_equal(got.state.layers[name][1], c)


def check_runs(model: QuantModel, session: Session, seed: int, kind: Any) -> None:
    """Several shapes in turn, each again with other values and from another state."""
    rng, reference = np.random.default_rng(seed), Session(model, "reference")
    width = next(i.features for i in model.inputs if i.name == "x")
    for size, steps in ((1, 5), (3, 2), (1, 5), (1, 1), (3, 2)):
        x = (rng.normal(size=(size, steps, width)) * 10.0 ** rng.uniform(-2, 1)).astype(kind)
        want = reference.run({"x": x})
        assert_same(session.run({"x": x}), want)
        got = session.run({"x": x})  # buffers are made for what comes again
        assert_same(got, want)
        assert_same(session.run({"x": x}, state=got.state), reference.run({"x": x}, state=want.state))
        assert_same(got, want)  # nothing of it was overwritten


def check_any_runs(case: Case, seed: int, kind: Any) -> None:
    model = quantized_or_refused(case)
    if model is not None:
        check_runs(model, Session(model, "cpu", 1), seed, kind)


@pytest.mark.usefixtures("loops")
@fewest
@given(case=cases(usual=True), seed=st.integers(0, 1 << 16), kind=st.sampled_from([np.float32, np.float64]))
def test_usual_models(case: Case, seed: int, kind: Any) -> None:
    check_any_runs(case, seed, kind)


@pytest.mark.matrix
@settings(few, max_examples=40)
@given(case=cases(), seed=st.integers(0, 1 << 16), kind=st.sampled_from([np.float32, np.float64]))
def test_any_model(case: Case, seed: int, kind: Any) -> None:
    check_any_runs(case, seed, kind)


@pytest.mark.matrix
@pytest.mark.parametrize("threads", [1, 2])
def test_four_bit_weights_that_outgrow_the_cache(threads: int) -> None:
    shape = Shape("lstm", 40, 70, (False, True))
    model = Case(shape, lengths=(5, 5), scheme=Scheme(input="8", weights=4)).quantized()
    check_runs(model, Session(model, "cpu", threads, tuning=eager(threads, cache_bytes=0)), 0, np.float32)


@pytest.mark.matrix
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_teams_within(cell: Any) -> None:
    """What several threads share is begun between the compiled calls."""
    model = Case(Shape(cell, 5, 70, (False, True), layers=2), lengths=(5, 5)).quantized()
    session = Session(model, "cpu", 2, tuning=eager(2))
    check_runs(model, session, 0, np.float32)
    assert isinstance(session.engine.sequences(1, 5, np.float32), ModelRows)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("directions", [pytest.param((False,), marks=pytest.mark.matrix), (False, True)])
def test_sequences_shared_out_over_threads(directions: tuple[bool, ...]) -> None:
    model = Case(Shape("gru", 5, 20, directions, layers=2, head=4), lengths=(5, 5)).quantized()
    check_runs(model, Session(model, "cpu", 3, tuning=eager(3, thread_teams=False)), 0, np.float32)


@pytest.mark.usefixtures("loops")
def test_arrays_of_any_layout() -> None:
    session, x = Session(BOTH.quantized(), "cpu", 1), BOTH.data()["x"]
    want = [session.run({"x": x}) for _ in range(2)][-1]
    raw = np.zeros(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(x.dtype).reshape(x.shape)
    odd[...] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    for other in (np.asfortranarray(x), odd, fixed, wide, x):
        assert_same(session.run({"x": other}), want)


@pytest.mark.usefixtures("loops")
def test_the_buffers_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(BOTH.quantized(), "cpu", 1)
    x = BOTH.data()["x"]
    narrow = x.astype(np.float32)
    for array in (x, x, narrow, narrow):
        session.run({"x": array})
    monkeypatch.setattr(session, "run_batch", None)  # the general way
    session.run({"x": x})
    session.run({"x": narrow})


def test_lengths_that_always_change_make_no_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    session, x = Session(BOTH.quantized(), "cpu", 1), BOTH.data()["x"]
    session.run({"x": x})  # the first run of all makes some
    monkeypatch.setattr(session.engine, "sequences", None)
    for steps in (5, 6, 7, 5, 6):
        session.run({"x": x[:, :steps]})


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_bad_values_are_found(kind: Any) -> None:
    session = Session(BOTH.quantized(), "cpu", 1)
    x = BOTH.data()["x"].astype(kind)
    good = [session.run({"x": x}) for _ in range(2)][-1]
    for wrong in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[1, 2, 0] = wrong
        with pytest.raises(DataError, match=r"input 'x': value -?(nan|inf) at \[1, 2, 0\]"):
            session.run({"x": bad})
        assert_same(session.run({"x": x}), good)


def test_float64_features_are_not_rounded_to_float32() -> None:
    """The type of the buffers is that of the input, and values that only float64 tells apart are quantized as such."""
    model = Case(Shape("rnn", 2, 3), lengths=(5, 5)).quantized()
    fmt = model.tensors["x"]
    edge = 2.5 * fmt.scales[0] * (1 + 1e-12)
    x = np.full((1, 1, 2), edge)
    want = Session(model, "reference").run({"x": x})
    session = Session(model, "cpu", 1)
    for _ in range(2):
        session.run({"x": x.astype(np.float32)})
    for _ in range(2):
        assert_same(session.run({"x": x}), want)


def test_large_runs_take_the_general_way() -> None:
    session = Session(BOTH.quantized(), "cpu", 1)
    assert session.engine.sequences(64, 20000, np.float32) is None


@pytest.mark.usefixtures("loops")
def test_outputs_that_are_called_as_inputs_are() -> None:
    """A written network may call its output x too; each is read and written at its own place."""
    model = make_model(Shape("gru", 3, 4), np.random.default_rng(0))
    y, h = model.outputs
    model = replace(model, outputs=(replace(y, name="h"), replace(h, name="x")))
    data = {"x": np.random.default_rng(1).normal(size=(2, 5, 3))}
    quantized = quantize(model, data, Scheme(input="8"))
    want, session = Session(quantized, "reference").run(data), Session(quantized, "cpu")
    for _ in range(3):
        assert_same(session.run(data), want)
