"""What only ReLU reads has a format for its upper values: values below lose nothing by being clamped, since ReLU makes 0 of them."""

from __future__ import annotations

import numpy as np
import pytest

import qrnn
from qrnn import Scheme, Session, layers
from qrnn.accuracy.probe import reads_upper_values_only
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.model.float_model import FloatModel


def network(shown: bool = False, small: float = 0.05, reader: str = "relu") -> FloatModel:
    """A dense layer whose values reach down to about -100 and up to about 3, alone or in a sum; ``shown``: it is an output too."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 4)
    low = layers.dense(x, np.abs(rng.normal(size=(6, 4))), np.full(6, -30.0), name="low")
    added = layers.add(low, layers.dense(x, small * rng.normal(size=(6, 4)), name="small"), name="sum")
    y = layers.activation(added, reader)
    h = layers.gru(y, rng.normal(0, 0.4, (9, 6)), rng.normal(0, 0.4, (9, 3)), rng.normal(size=9))
    d = layers.dense(layers.activation(layers.dense(x, -np.eye(4), np.zeros(4), name="alone"), reader), np.eye(4))
    return layers.model("upper", {"y": layers.dense(h.output, np.eye(3)), "d": d} | ({"low": low} if shown else {}))


def data(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": scale * np.concatenate([rng.uniform(-40, 0, (4, 60, 4)), rng.uniform(0, 10, (4, 4, 4))], axis=1)}


def bits(model: FloatModel) -> dict[str, float]:
    made = quantize(model, data(1), Scheme(activations=16, input="16"))
    return {name: -np.log2(made.tensors[name].scale[0]) for name in ("low", "sum", "alone")}


def test_fraction_bits_are_those_of_the_upper_values() -> None:
    usual = bits(network(reader="softsign"))
    upper = bits(network())
    assert upper["low"] >= usual["low"] + 1
    assert upper["sum"] >= usual["sum"] + 1


def test_outputs_and_large_terms_keep_the_room_of_all_values() -> None:
    usual = bits(network(reader="softsign"))
    assert bits(network(shown=True))["low"] == usual["low"]
    assert bits(network(small=30.0))["low"] == usual["low"]


@pytest.mark.parametrize("backend", available_backends())
def test_values_far_below_are_zero(backend: str) -> None:
    """Far beyond what calibration showed too: the clamp at the lower end is below 0 with any other term."""
    model = network()
    made = quantize(model, data(1), Scheme(activations=16, input="16"))
    x = data(2, 0.95)
    x["x"][0, :5] = -40.0
    found = qrnn.compare(model, made, x)
    assert found.outputs["d"].sqnr_db > 45
    assert found.outputs["y"].sqnr_db > 25
    assert all(s.saturated == 0 for s in found.saturation if "pre-activation" in s.where)
    want = Session(made, "reference").run(x).outputs["y"]
    np.testing.assert_array_equal(Session(made, backend).run(x).outputs["y"], want)


def test_who_reads_what() -> None:
    made = quantize(network(), data(1))
    assert reads_upper_values_only(made, "low")
    assert reads_upper_values_only(made, "alone")
    assert not reads_upper_values_only(made, "x")
    assert not reads_upper_values_only(quantize(network(shown=True), data(1)), "low")
    assert not reads_upper_values_only(quantize(network(reader="tanh"), data(1)), "low")
