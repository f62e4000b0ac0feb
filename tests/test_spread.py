"""Variances and standard deviations over time: by their definition, and in integers everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES
from test_reductions import everywhere

import qrnn
from qrnn import DataError, Session, layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, QrnnError, QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.spread import QuantSpread

pytestmark = pytest.mark.usefixtures("loops")


def network(root: bool, sample: bool, epsilon: float, features: int = 3) -> FloatModel:
    """The spread of x so far and at the end, and a dense layer of the means and spreads of a GRU."""
    x = layers.input("x", features)
    rng = np.random.default_rng(1)
    so_far = layers.spread(x, root=root, sample=sample, epsilon=epsilon)
    h = layers.gru(x, rng.normal(size=(9, features)), 0.4 * rng.normal(size=(9, 3))).output
    pooled = layers.concat(
        layers.last_step(layers.running(h, "mean")),
        layers.last_step(layers.spread(h, root=root, sample=sample, epsilon=epsilon)),
    )
    y = layers.dense(pooled, rng.normal(size=(2, 6)))
    return layers.model("spread", {"so_far": so_far, "all": layers.last_step(so_far), "y": y})


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_equation(root: bool, sample: bool, epsilon: float) -> None:
    model = network(root, sample, epsilon)
    x, lengths = 50 + np.random.default_rng(1).normal(size=(3, 7, 3)), np.array([7, 3, 1])
    found = run_oracle(model, {"x": x}, lengths).outputs
    for n, length in enumerate(lengths):
        for t in range(length):
            want = np.var(x[n, : t + 1], axis=0, ddof=int(sample and t > 0)) + epsilon
            np.testing.assert_allclose(found["so_far"][n, t], np.sqrt(want) if root else want, atol=1e-9)
        np.testing.assert_array_equal(found["all"][n], found["so_far"][n, length - 1])


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("sample", [True, False])
def test_integers_are_exact_but_for_the_last_digit(root: bool, sample: bool) -> None:
    """From the integers of the input to those of the output, at the ends of the range."""
    model = network(root, sample, 0.0)
    rng = np.random.default_rng(2)
    made = quantize(model, {"x": rng.uniform(-1, 1, (4, 9, 3))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantSpread) and layer.input == "x")
    x = rng.choice([-32767, -32766, -1, 0, 1, 32767], (2, 40, 3)).astype(np.int16)
    got = Session(made, "reference", integers=True).run({"x": x}).outputs["so_far"]
    real = x * 2.0**-layer.in_frac
    for t in range(40):
        want = np.var(real[:, : t + 1], axis=1, ddof=int(sample and t > 0))
        want = np.clip((np.sqrt(want) if root else want) * 2.0**layer.out_frac, -32768, 32767)
        assert np.abs(got[:, t] - want).max() <= 0.5 + (
            2.0 ** (layer.out_frac - layer.in_frac) / (t + 1) if root else 1.0
        )


def check_spreads(backend: str, data: st.DataObject) -> None:
    root, sample = data.draw(st.booleans()), data.draw(st.booleans())
    features = data.draw(st.integers(1, 5))
    model = network(root, sample, data.draw(st.sampled_from([0.0, 1e-5, 0.25])), features)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    made = quantize(model, {"x": rng.normal(size=(2, 12, features))}, BYTES)
    x = rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), features))
    everywhere(backend, made, x, data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_spreads(backend, data)


def test_exported_c(tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(4, 12, 3))
    for root in (True, False):
        check(quantize(network(root, True, 1e-5), {"x": x}, BYTES), tmp_path / str(root), "gcc")


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("root", [True, False])
def test_as_many_steps_as_there_may_be(backend: str, root: bool) -> None:
    """At the largest sums: 65,535 steps of the ends of the range, in turn; a step more is refused by name."""
    made = quantize(network(root, True, 0.25), {"x": np.random.default_rng(6).normal(size=(2, 6, 3))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantSpread) and layer.input == "x")
    session = Session(made, backend, integers=True)
    start = session.initial_state(1)
    n = layer.most_steps - 1
    full = [array.copy() for array in start.layers[layer.name]]
    total, squares = -32767, n * 32767**2
    full[0][...], full[1][...] = total >> 31, total & 0x7FFFFFFF
    full[2][...], full[3][...] = squares >> 31, squares & 0x7FFFFFFF
    full[4][...] = n
    state = qrnn.State({**start.layers, layer.name: tuple(full)})
    x = np.full((1, 1, 3), 32767, np.int16)
    result = session.run({"x": x}, state=state)
    spread = 32767.0**2 * 2.0 ** (-2 * layer.in_frac) + 0.25
    want = np.clip((np.sqrt(spread) if root else spread) * 2.0**layer.out_frac, -32768, 32767)
    assert np.abs(result.outputs["so_far"] - want).max() <= 1.5
    with pytest.raises(QrnnError, match=f"layer {layer.name!r}"):
        session.run({"x": x}, state=result.state)


def test_a_damaged_state_is_computed_alike_everywhere() -> None:
    made = quantize(network(True, True, 0.25), {"x": np.random.default_rng(6).normal(size=(2, 6, 3))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantSpread) and layer.input == "x")
    found = []
    for backend in available_backends():
        session = Session(made, backend, integers=True)
        start = session.initial_state(1)
        full = [array.copy() for array in start.layers[layer.name]]
        for k in range(4):
            full[k][...] = np.iinfo(full[k].dtype).max if k != 2 else -32768
        state = qrnn.State({**start.layers, layer.name: tuple(full)})
        found.append(session.run({"x": np.ones((1, 3, 3), np.int16)}, state=state).outputs["so_far"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_accuracy() -> None:
    """A square in int16 beside a large mean would leave nothing of the variance."""
    x = layers.input("x", 4)
    rng = np.random.default_rng(8)
    model = layers.model("s", {"y": layers.last_step(layers.spread(x))})
    data_ = {"x": 10 + rng.normal(size=(30, 100, 4)) * rng.uniform(0.5, 1.5, (30, 1, 4))}
    want = run_oracle(model, data_).outputs["y"]
    scheme = qrnn.Scheme(input="16")
    assert sqnr_db(want, Session(quantize(model, data_, scheme)).run(data_).outputs["y"]) > 55


def test_file_and_what_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(5).normal(size=(4, 10, 3))
    made = quantize(network(True, False, 0.0), {"x": x}, BYTES)
    qrnn.save(made, tmp_path / "s.qrnn")
    want, got = (Session(m, "reference").run({"x": x}).outputs["y"] for m in (made, qrnn.load(tmp_path / "s.qrnn")))
    np.testing.assert_array_equal(got, want)
    good = QuantSpread("own", "x", "y", 2, 8, 8)
    changes: list[dict[str, Any]] = [
        {"features": 0},
        {"epsilon": -1},
        {"epsilon": 1 << 30},
        {"in_frac": 16},
        {"root": False, "in_frac": 3},
    ]
    for change in changes:
        with pytest.raises(ModelFileError, match="layer own: "):
            replace(good, **change)
    with pytest.raises(DataError, match="epsilon is -1"):
        layers.spread(layers.input("x", 3), epsilon=-1)
    model = layers.model("s", {"y": layers.spread(layers.input("x", 3), epsilon=1e9)})
    with pytest.raises(QuantizationError, match="epsilon 1e\\+09 is too large"):
        quantize(model, {"x": x}, BYTES)
