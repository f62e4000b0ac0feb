"""The floor: what the weights' width alone costs; and SQNR about the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.accuracy.probe import ErrorSum
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.quantization.floor import floor_model

SHAPES = {
    "lstm": Shape("lstm", 3, 5, layers=2),
    "gru": Shape("gru", 3, 5, (False, True)),
    "projection": Shape("lstm", 3, 5, projection=4),
}


def data(sequences: int = 8, steps: int = 30, features: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(sequences, steps, features))


def floor_db(model: FloatModel, x: Any, bits: int = 8) -> float:
    batch = make_batch(model.inputs, {"x": x})
    want = run_oracle_batch(model, batch).outputs
    got = run_oracle_batch(floor_model(model, batch, bits), batch).outputs
    return min(sqnr_db(want[name], got[name]) for name in want)


@pytest.mark.parametrize("name", SHAPES)
def test_weights_on_the_grid_cost_nothing(name: str) -> None:
    """The floor of a floor model is no error at all, where features have equal scales."""
    model, x = make_model(SHAPES[name], np.random.default_rng(0)), data()
    x /= x.std(axis=(0, 1))
    batch = make_batch(model.inputs, {"x": x})
    once = floor_model(model, batch)
    assert 25 < floor_db(model, x) < 80
    assert floor_db(once, x) > 200


@pytest.mark.parametrize("name", SHAPES)
def test_four_bits_cost_more(name: str) -> None:
    model, x = make_model(SHAPES[name], np.random.default_rng(0)), data()
    assert floor_db(model, x, 4) < floor_db(model, x) - 10


def test_the_units_of_features_do_not_matter() -> None:
    """Features of 1e-4 and 1e4 times the size, and weights to match, have the floor of features of equal size."""
    model, x = make_model(SHAPES["lstm"], np.random.default_rng(0)), data()
    size = np.array([1e-4, 1.0, 1e4])
    first = model.layers[0].with_input_divided(size)
    scaled = replace(model, layers=(first, *model.layers[1:]))
    assert floor_db(scaled, x * size) == pytest.approx(floor_db(model, x), abs=1e-6)


def test_only_weights_are_rounded() -> None:
    """Every matrix of every kind of layer, and no bias, initial state or peephole."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    conv = layers.conv(x, rng.normal(size=(4, 3, 2)), rng.normal(size=4), stride=2)
    h = layers.lstm(
        conv, rng.normal(size=(20, 4)), rng.normal(size=(20, 5)), rng.normal(size=20), h_0=rng.normal(size=5),
        peephole={gate: rng.normal(size=5) for gate in "ifo"},
    )  # fmt: skip
    y = layers.dense(layers.layer_norm(h.output, np.ones(5)), rng.normal(size=(2, 5)), rng.normal(size=2))
    model = layers.model("m", {"y": y})
    batch = make_batch(model.inputs, {"x": data()})
    rounded = floor_model(model, batch)
    for before, after in zip(model.layers, rounded.layers, strict=True):
        for a, b in zip(before.weights(), after.weights(), strict=True):
            assert 0 < np.abs(a.values - b.values).max() < np.abs(a.values).max() / 100
        kept = before.with_weights([w.values for w in after.weights()])
        assert repr(kept) == repr(after)
    assert [len(layer.weights()) for layer in model.layers] == [1, 2, 0, 1]


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("weights", [8, 4])
def test_reports_show_it(weights: int) -> None:
    """`compare` and `explain` show the same floor, which a model of weights rounded to the nearest does not beat by much."""
    model, x = make_model(SHAPES["lstm"], np.random.default_rng(0)), data()
    quantized = qrnn.quantize(model, {"x": x}, qrnn.Scheme(weights=weights, refine="none"))
    compared = qrnn.compare(model, quantized, {"x": x})
    (name,) = [n for n in compared.outputs if n == qrnn.explain(model, quantized, {"x": x}).output]
    want = min(floor_db(model, x, weights), 1e9)
    assert min(e.sqnr_db for e in compared.floor.values()) == pytest.approx(want)
    assert qrnn.explain(model, quantized, {"x": x}).floor_db == pytest.approx(compared.floor[name].sqnr_db)
    assert compared.outputs[name].sqnr_db < compared.floor[name].sqnr_db + 1
    assert compared.to_dict()["floor"].keys() == compared.to_dict()["outputs"].keys()


def test_about_the_mean() -> None:
    """A constant beside the signal changes the one figure and not the other; gates use the one that it does not change."""
    rng = np.random.default_rng(0)
    want, error = rng.normal(size=(4, 50, 2)), 0.01 * rng.normal(size=(4, 50, 2))
    mask = np.ones((4, 50), bool)
    plain, offset = ErrorSum(50), ErrorSum(50)
    for part in (slice(0, 1), slice(1, 4)):
        plain.add(want[part], want[part] + error[part], mask[part])
        offset.add(want[part] + [100.0, -3.0], want[part] + [100.0, -3.0] + error[part], mask[part])
    assert offset.sqnr_db > plain.sqnr_db + 30
    assert offset.about_mean_db == pytest.approx(plain.about_mean_db, abs=1e-4)
    assert plain.about_mean_db == pytest.approx(plain.sqnr_db, abs=0.1)
    constant = ErrorSum()
    constant.add(np.full((3, 1), 5.0), np.full((3, 1), 5.1), None)
    assert constant.about_mean_db == constant.sqnr_db


def test_gates_use_the_figure_about_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    h = layers.rnn(x, rng.normal(size=(4, 3)), 0.2 * rng.normal(size=(4, 4)))
    model = layers.model("m", {"y": layers.dense(h.output, rng.normal(size=(1, 4)), np.array([500.0]))})
    found = qrnn.compare(model, qrnn.quantize(model, {"x": data()}), {"x": data()})
    error = found.outputs["y"]
    assert error.sqnr_db > error.about_mean_db + 20
    assert found.failures(min_sqnr=error.about_mean_db - 1) == []
    (failure,) = found.failures(min_sqnr=error.about_mean_db + 1)
    assert "about the mean" in failure
