"""Attention pooling over time: by its equation, and in integers everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES
from test_reductions import everywhere

import qrnn
from qrnn import DataError, Session, layers
from qrnn.accuracy.compare import compare
from qrnn.accuracy.explain import explain
from qrnn.arithmetic.running_softmax import LOWEST_EXPONENT, MOST_WEIGHTED
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.attention_pool import QuantAttentionPool
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]


def network(heads: int = 1, values: int = 4, shared: bool = False, seed: int = 0, size: float = 3.0) -> FloatModel:
    """Scores and values of a GRU's steps, the pool of all steps so far, its last step, and a dense layer behind that."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", 3)
    h = layers.gru(x, rng.normal(size=(15, 3)), 0.4 * rng.normal(size=(15, 5))).output
    scores = layers.dense(h, size * rng.normal(size=(heads, 5)), rng.normal(size=heads))
    pool = layers.attention_pool(scores, layers.dense(h, rng.normal(size=(values, 5))), shared=shared, name="pool")
    last = layers.last_step(pool)
    out = layers.dense(last, rng.normal(size=(2, last.features)))
    return layers.model("attention", {"so_far": pool, "all": last, "y": out})


def made_of(model: FloatModel, seed: int = 1) -> QuantModel:
    rng = np.random.default_rng(seed)
    return quantize(model, {i.name: rng.normal(size=(6, 12, i.features)) for i in model.inputs}, BYTES)


def pool_of(model: QuantModel) -> QuantAttentionPool:
    (layer,) = (layer for layer in model.layers if isinstance(layer, QuantAttentionPool))
    return layer


def softmax_mean(scores: Array, values: Array) -> Array:
    """Σ softmax(scores) · values over time, of [T, F] both."""
    weights = np.exp(scores - scores.max(axis=0))
    return np.asarray((weights * values).sum(axis=0) / weights.sum(axis=0))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equation(heads: int, shared: bool) -> None:
    s, v = layers.input("s", heads), layers.input("v", 4)
    pool = layers.attention_pool(s, v, shared=shared)
    model = layers.model("m", {"so_far": pool, "all": layers.last_step(pool)})
    rng, lengths = np.random.default_rng(0), np.array([7, 3, 1])
    scores, values = rng.normal(0, 30, (3, 7, heads)), rng.normal(size=(3, 7, 4))
    scores[1, 3:] = 1e4  # padding takes no part
    found = run_oracle(model, {"s": scores, "v": values}, lengths).outputs
    for n, length in enumerate(lengths):
        for t in range(length):
            own, seen = scores[n, : t + 1], values[n, : t + 1]
            if shared:
                want = np.concatenate([softmax_mean(own[:, [i]], seen) for i in range(heads)])
            else:
                want = softmax_mean(np.repeat(own, 4 // heads, axis=1), seen)
            np.testing.assert_allclose(found["so_far"][n, t], want, atol=1e-12)
        np.testing.assert_array_equal(found["all"][n], found["so_far"][n, length - 1])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_integers_are_near_the_exact_mean(data: st.DataObject) -> None:
    """From the integers of both inputs to those of the output: half a unit, and a tenth for the weights; docs/arithmetic.md, section 5."""
    s, v = layers.input("s", 2), layers.input("v", 4)
    model = layers.model("m", {"y": layers.attention_pool(s, v)})
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size = data.draw(st.sampled_from([0.01, 1.0, 30.0, 3000.0]))
    made = quantize(
        model, {"s": rng.uniform(-size, size, (4, 9, 2)), "v": rng.uniform(-1, 1, (4, 9, 4))}, qrnn.Scheme(input="16")
    )
    steps = data.draw(st.integers(1, 30))
    ends = [-32767, -32766, -1, 0, 1, 32766, 32767]
    given = {
        key: np.where(
            rng.random((1, steps, width)) < 0.3,
            rng.choice(ends, (1, steps, width)),
            rng.integers(-32767, 32768, (1, steps, width)),
        ).astype(np.int16)
        for key, width in (("s", 2), ("v", 4))
    }
    got = Session(made, "reference", integers=True).run(given).outputs["y"]
    layer = pool_of(made)
    unit = 2.0 ** (layer.out_frac - layer.right_frac)
    for t in range(steps):
        scores = np.repeat(given["s"][0, : t + 1] / 2.0**layer.left_frac, 2, axis=1)
        want = softmax_mean(scores, given["v"][0, : t + 1].astype(np.float64)) * unit
        assert (np.abs(np.clip(want, -32768, 32767) - got[0, t]) <= 0.5 + 0.1 * unit).all()


@cache
def drawn_model(heads: int, each: int, shared: bool, size: float) -> QuantModel:
    model, rng = network(heads, heads * each, shared, size=size), np.random.default_rng(1)
    return quantize(model, {"x": rng.normal(size=(6, 12, 3))}, qrnn.Scheme(input="8"))


def check_pool(backend: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0.1, 40.0]))
    made = drawn_model(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), data.draw(st.booleans()), size)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), 3))
    everywhere(backend, made, x, data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_pool(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_pool(backend, data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_the_ends_of_the_ranges(backend: str, data: st.DataObject) -> None:
    """Scores and values at the ends of int16, that rise, fall and jump, in every format of the scores."""
    s, v = layers.input("s", 2), layers.input("v", 2)
    model = layers.model("m", {"y": layers.attention_pool(s, v, shared=True)})
    largest = data.draw(st.sampled_from([0.4, 7.0, 900.0, 16000.0]))
    calibration = {"s": np.full((1, 2, 2), largest), "v": np.ones((1, 2, 2))}
    made = quantize(model, calibration, qrnn.Scheme(input="16"))
    rows = st.lists(st.sampled_from([-32767, -32766, -1, 0, 1, 32767]), min_size=4, max_size=4)
    drawn = np.array(data.draw(st.lists(rows, min_size=1, max_size=8)), np.int16)[None]
    given = {"s": np.ascontiguousarray(drawn[..., :2]), "v": np.ascontiguousarray(drawn[..., 2:])}
    want, got = (Session(made, name, integers=True).run(given) for name in ("reference", backend))
    np.testing.assert_array_equal(got.outputs["y"], want.outputs["y"])
    for a, b in zip(want.state.layers["attention_pool"], got.state.layers["attention_pool"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_padding_changes_nothing() -> None:
    made = made_of(network())
    x = np.random.default_rng(3).normal(size=(1, 9, 3))
    alone = Session(made).run({"x": x[:, :5]}).outputs["all"]
    np.testing.assert_array_equal(Session(made).run({"x": x}, np.array([5])).outputs["all"], alone)


@pytest.mark.parametrize("backend", available_backends())
def test_the_most_steps(backend: str) -> None:
    """A step past 2^22 is refused by name; the last one that fits is exact."""
    made = made_of(network())
    session = Session(made, backend)
    start = session.initial_state(1)
    full = [array.copy() for array in start.layers["pool"]]
    full[-1][...] = MOST_WEIGHTED - 2
    state = qrnn.State({**start.layers, "pool": tuple(full)})
    x = np.ones((1, 3, 3))
    after = session.run({"x": x[:, :2]}, state=state).state
    assert after.layers["pool"][-1].item() == MOST_WEIGHTED
    stream = session.stream(state=state)
    for _ in range(2):
        stream.step({"x": x[:, 0]})
    for call in (
        lambda: session.run({"x": x}, state=state),
        lambda: session.step({"x": x[:, 0]}, after),
        lambda: stream.step({"x": x[:, 0]}),
    ):
        with pytest.raises(DataError, match=f"layer 'pool' takes at most {MOST_WEIGHTED} steps"):
            call()


@pytest.mark.parametrize("backend", available_backends())
def test_any_state_that_is_taken_is_harmless(backend: str) -> None:
    """Parts of sums that no sum has: every backend makes the same of them, and ends within the ranges that are declared."""
    made = made_of(network(2, 4))
    start = Session(made, backend).initial_state(4)
    most, low = 1 << 30, (1 << 31) - 1
    exponent = np.array([[LOWEST_EXPONENT] * 2, [-LOWEST_EXPONENT] * 2, [0, 0], [5, -70]], np.int32)[:, None]
    weights = (
        np.array([[0, 0], [most, most], [0, most], [1, 2]], np.int32),
        np.array([[0, 0], [low, low], [0, low], [3, 4]], np.int32),
    )
    high = np.array([[0] * 4, [most] * 4, [-most] * 4, [-most, most, 0, -1]], np.int32)
    sums = high, np.array([[0] * 4, [low] * 4, [0] * 4, [low, 0, 1, 2]], np.int32)
    steps = np.array([[0], [MOST_WEIGHTED - 3], [9], [1]], np.int32)
    state = qrnn.State({**start.layers, "pool": (exponent, *weights, *sums, steps)})
    x = np.full((4, 3, 3), -100.0)
    want, got = (Session(made, name).run({"x": x}, state=state) for name in ("reference", backend))
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    Session(made, backend).check_state(got.state, 4)
    for a, b in zip(want.state.layers["pool"], got.state.layers["pool"], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.wide("heads", "cc")
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize(("heads", "shared"), [(1, False), (2, False), (3, True)])
def test_exported_c(heads: int, shared: bool, cc: str, tmp_path: Any) -> None:
    check(made_of(network(heads, 6, shared)), tmp_path, cc)


def test_exported_c_of_whole_sequences(tmp_path: Any) -> None:
    """Behind a layer that reads backwards."""
    rng, x = np.random.default_rng(5), layers.input("x", 3)
    h = layers.bidirectional(
        layers.gru(x, rng.normal(size=(12, 3)), rng.normal(size=(12, 4))),
        layers.gru(x, rng.normal(size=(12, 3)), rng.normal(size=(12, 4)), reverse=True),
    ).output
    pool = layers.last_step(layers.attention_pool(layers.dense(h, rng.normal(size=(1, 8))), h))
    check(made_of(layers.model("m", {"y": pool})), tmp_path, "gcc")


def test_exported_c_behind_a_stride(tmp_path: Any) -> None:
    """Steps may give no row: the mean so far is kept."""
    rng, x = np.random.default_rng(6), layers.input("x", 3)
    h = layers.conv(x, rng.normal(size=(4, 3, 2)), stride=2)
    pool = layers.attention_pool(layers.dense(h, rng.normal(size=(2, 4))), h)
    check(made_of(layers.model("m", {"so_far": pool, "y": layers.last_step(pool)})), tmp_path, "gcc")


def test_file(tmp_path: Any) -> None:
    made, x = made_of(network(2, 4, True)), np.random.default_rng(5).normal(size=(4, 10, 3))
    qrnn.save(made, tmp_path / "pool.qrnn")
    again = qrnn.load(tmp_path / "pool.qrnn")
    for name, values in Session(made, "reference").run({"x": x}).outputs.items():
        np.testing.assert_array_equal(Session(again).run({"x": x}).outputs[name], values)


def test_a_saved_state_of_other_ranges_is_refused() -> None:
    session = Session(made_of(network()))
    start = session.initial_state(1)
    for place, value in ((0, LOWEST_EXPONENT - 1), (1, -1), (2, -1), (4, -1)):
        own = [array.copy() for array in start.layers["pool"]]
        own[place][...] = value
        with pytest.raises(DataError, match="pool"):
            session.run({"x": np.ones((1, 2, 3))}, state=qrnn.State({**start.layers, "pool": tuple(own)}))


def test_the_laboratory() -> None:
    """The layer is one of the parts that are explained, and its share is small; the floor is below the result."""
    model, x = network(2, 4), np.random.default_rng(7).normal(size=(6, 12, 3))
    made = quantize(model, {"x": x}, BYTES)
    report = compare(model, made, {"x": x})
    assert report.outputs["all"].sqnr_db > 30.0
    found = explain(model, made, {"x": x})
    (cost,) = (cost for cost in found.costs if cost.part.where == "pool")
    assert 0 <= cost.share < 0.2


def test_refusals() -> None:
    x = layers.input("x", 6)
    four = layers.dense(x, np.ones((4, 6)))
    for says, call in {
        "4 scores for 6 values, expected a number of scores that divides": lambda: layers.attention_pool(four, x),
        "expected a sequence": lambda: layers.attention_pool(layers.input("v", 3, has_time=False), x),
    }.items():
        with pytest.raises(DataError, match=says):
            call()
