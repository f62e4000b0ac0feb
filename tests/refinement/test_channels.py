"""Channels between convolutions at equal ranges: the same function, and more units for quiet channels."""

from __future__ import annotations

import numpy as np
import pytest

from qrnn import layers
from qrnn.equations.oracle import run_oracle, run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.window import Window
from qrnn.refinement.channels import LARGEST_SCALE, equal_channels


def network(function: str = "relu", shown: bool = False) -> FloatModel:
    """A convolution whose channels differ in level, ReLU or a magnitude of its halves, and a convolution that reads it."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 8)
    level = 10.0 ** -np.arange(6)[:, None, None, None]
    level[3:] = level[:3] if function == "magnitude" else level[3:]
    a = layers.conv(x, rng.normal(size=(6, 1, 2, 3)) * level, band=Window(3, 2, 1, 1, 1), bands=8, name="a")
    if function == "magnitude":
        y = layers.magnitude(a, bands=4)
    else:
        y = layers.activation(a, function)
    channels = 3 if function == "magnitude" else 6
    b = layers.conv(y, rng.normal(size=(2, channels, 1, 2)), rng.normal(size=2), band=Window(2), bands=4, name="b")
    return layers.model("m", {"y": b} | ({"a": a} if shown else {}))


DATA = {"x": np.random.default_rng(1).normal(size=(3, 20, 8))}


@pytest.mark.parametrize("function", ["relu", "magnitude"])
def test_the_function_stays_the_same(function: str) -> None:
    model = network(function)
    made = equal_channels(model, make_batch(model.inputs, DATA))
    np.testing.assert_allclose(run_oracle(made, DATA).outputs["y"], run_oracle(model, DATA).outputs["y"], atol=1e-12)
    largest: dict[str, np.ndarray] = {}

    def see(name: str, values: np.ndarray, mask: object) -> None:
        largest[name] = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)

    run_oracle_batch(made, make_batch(made.inputs, DATA), see)
    tensor = made.layers[1].outputs[0]
    by_channel = largest[tensor].reshape(4, -1).max(axis=0)
    assert (by_channel[:2] >= by_channel.max() * 0.999).all()  # one and ten times quieter
    assert by_channel[2] < by_channel[0] / (100 / LARGEST_SCALE) * 3


def test_what_others_read_stays_as_it_is() -> None:
    for model in (network(shown=True), network("tanh")):
        assert equal_channels(model, make_batch(model.inputs, DATA)) is model
