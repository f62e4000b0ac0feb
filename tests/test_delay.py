"""Layers of past steps, and concatenations with zeros: against their definition, and in integers on every backend and in C."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError
from qrnn.layers.tensors import simple_layer
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.concat import Concat, QuantConcat
from qrnn.model.kinds.delay import QuantDelay

pytestmark = pytest.mark.usefixtures("loops")


def network(delays: tuple[int, ...], features: int, seed: int, gathered: list[int] | None = None) -> FloatModel:
    """Past steps of x, and then of a dense layer; features and zeros (-1) gathered of both; a GRU over these."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", features)
    d = layers.delay(layers.dense(x, rng.normal(size=(3, features)), rng.normal(size=3)), delays, name="late")
    late = layers.concat(layers.delay(x, delays), d)
    if gathered is not None:
        picks = np.array([min(k, late.features - 1) for k in gathered])
        late = simple_layer(
            "gather", None, (late,), (picks.size, True), lambda own, names: Concat(own, own, ((names[0], picks),))
        )
    h = layers.gru(late, rng.normal(0, 0.4, (12, late.features)), rng.normal(0, 0.4, (12, 4)), rng.normal(size=12))
    return layers.model("delay", {"y": layers.dense(h.output, rng.normal(size=(2, 4))), "late": late, "h": h.h_n})


def delayed(x: np.ndarray[Any, Any], delays: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The definition, for one sequence [T, F]."""
    rows = [[x[t - d] if t >= d else np.zeros(x.shape[1]) for d in delays] for t in range(len(x))]
    return np.array(rows).reshape(len(x), -1)


@pytest.mark.parametrize("delays", [(0,), (1,), (2, 1, 0), (5, 0, 0, 3), (9,)])
def test_equation(delays: tuple[int, ...]) -> None:
    model = network(delays, 3, 0)
    x, lengths = np.random.default_rng(1).normal(size=(3, 7, 3)), np.array([7, 4, 1])
    found = run_oracle(model, {"x": x}, lengths).outputs["late"]
    for n, length in enumerate(lengths):
        want = delayed(x[n, :length], delays)
        np.testing.assert_array_equal(found[n, :length, : want.shape[1]], want)


def check_backend(backend: str, data: st.DataObject) -> None:
    """Whole, ragged, in chunks and step by step, with inputs beyond the calibrated range."""
    delays = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    features = data.draw(st.integers(1, 4))
    gathered = data.draw(
        st.none() | st.lists(st.integers(-1, 20), min_size=1, max_size=12).filter(lambda g: max(g) >= 0)
    )
    model = network(delays, features, data.draw(st.integers(0, 3)), gathered)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    quantized = quantize(model, {"x": rng.normal(size=(2, 20, features))}, BYTES)
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    x, lengths = rng.normal(0, 4, (N, T, features)), rng.integers(0, T + 1, N)
    want = Session(quantized, "reference").run({"x": x}, lengths)
    session = Session(quantized, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    cut = data.draw(st.integers(0, T))
    whole, first = session.run({"x": x}), session.run({"x": x[:, :cut]}) if cut else None
    second = session.run({"x": x[:, cut:]}, state=first.state if first else None) if cut < T else None
    pieces = [run.outputs["late"] for run in (first, second) if run is not None]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole.outputs["late"])
    for n in range(N):
        stream = session.stream()
        for t, frame in enumerate(x[n, : lengths[n]]):
            np.testing.assert_array_equal(stream.step({"x": frame[None]})["late"][0], want.outputs["late"][n, t])


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=8)
@given(st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


def test_the_definition() -> None:
    """Copies are exact: every integer of the output is one of the input of that many steps before, or zero."""
    made = quantize(
        network((3, 0, 1), 2, 0, [-1, 4, 0, -1, 1, 7]), {"x": np.random.default_rng(2).normal(size=(2, 20, 2))}, BYTES
    )
    kinds = [type(layer) for layer in made.layers]
    assert kinds.count(QuantDelay) == 2
    assert kinds.count(QuantConcat) == 2
    x = np.random.default_rng(3).normal(size=(1, 9, 2))
    late = Session(made, "reference").run({"x": x}).outputs["late"][0]
    assert not late[:, [0, 3]].any()
    assert late[:, [1, 2, 4, 5]].any(axis=0).all()


def test_file_and_c(tmp_path: Any) -> None:
    made = quantize(
        network((2, 0), 3, 1, [-1, 2, 8, -1, -1, 0, 5]), {"x": np.random.default_rng(4).normal(size=(2, 12, 3))}, BYTES
    )
    qrnn.save(made, tmp_path / "delay.qrnn")
    again = qrnn.load(tmp_path / "delay.qrnn")
    x = np.random.default_rng(5).normal(size=(2, 6, 3))
    np.testing.assert_array_equal(Session(again).run({"x": x}).outputs["y"], Session(made).run({"x": x}).outputs["y"])
    check(made, tmp_path, "gcc")


def test_a_gather_of_zeros_carries_offsets() -> None:
    """A tensor whose integer 0 is not the real 0: the zeros beside its features are real zeros."""
    rng = np.random.default_rng(6)
    x = layers.input("x", 3)
    picks = np.array([2, -1, 0, 0])
    g = simple_layer("gather", None, (x,), (4, True), lambda own, names: Concat(own, own, ((names[0], picks),)))
    h = layers.gru(g, rng.normal(0, 0.4, (12, 4)), rng.normal(0, 0.4, (12, 4)), rng.normal(size=12))
    model = layers.model("zeros", {"y": h.output, "g": layers.dense(g, np.eye(4))})
    data = {"x": rng.normal(size=(4, 20, 3)) + 100.0}
    made = quantize(model, data, BYTES)
    found = qrnn.compare(model, made, data)
    assert found.outputs["g"].sqnr_db > 40
    for backend in available_backends():
        np.testing.assert_array_equal(
            Session(made, backend).run(data).outputs["y"], Session(made, "reference").run(data).outputs["y"]
        )


def test_refusals() -> None:
    x = layers.input("x", 3)
    for says, call in {
        r"delays holds -1": lambda: layers.delay(x, -1),
        r"delays holds 1\.5": lambda: layers.delay(x, (1, 1.5)),  # type: ignore[arg-type]
        r"delays is empty": lambda: layers.delay(x, ()),
        r"expected a sequence": lambda: layers.delay(layers.input("v", 3, has_time=False), 1),
    }.items():
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.parametrize(
    ("indices", "delays", "says"),
    [
        ([0], [-1], "delays below 0"),
        ([-1], [0], "indices below 0"),
        ([0, 1], [0], "different lengths"),
        ([], [], "is not int64"),
        ([1 << 20], [1 << 10], "is too large"),
        ([0], [1 << 17], "a delay above"),
    ],
)
def test_integer_layers_that_are_none(indices: list[int], delays: list[int], says: str) -> None:
    with pytest.raises((ModelFileError, ValueError), match=says):
        QuantDelay("d", "x", "y", 8, np.array(indices, np.int64), np.array(delays, np.int64))


def test_a_ring_is_checked_against_its_input() -> None:
    """A layer that reads a feature that its input does not have would read outside of the array."""
    made = quantize(network((1,), 2, 0), {"x": np.random.default_rng(7).normal(size=(2, 9, 2))}, BYTES)
    (first,) = (layer for layer in made.layers if isinstance(layer, QuantDelay) and layer.input == "x")
    wrong = replace(first, indices=first.indices + 1)
    with pytest.raises(ModelFileError, match="reads feature 2 of 'x', which has 2"):
        replace(made, layers=tuple(wrong if layer is first else layer for layer in made.layers))
