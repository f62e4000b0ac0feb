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
    level = 6.0 ** -np.arange(6)[:, None, None, None]
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
    tensor = made.layers[1].outputs[0]
    by_channel = _largest_of(made, tensor)
    assert (by_channel <= by_channel.max() * 1.001).all()
    assert (by_channel[1:3] > 1.5 * _largest_of(model, tensor)[1:3]).all()
    np.testing.assert_allclose(by_channel[2], LARGEST_SCALE * _largest_of(model, tensor)[2])


def _largest_of(model: FloatModel, tensor: str) -> np.ndarray:
    """The largest magnitude of each channel of a tensor of four bands."""
    found: dict[str, np.ndarray] = {}
    run_oracle_batch(
        model, make_batch(model.inputs, DATA), lambda name, values, mask: found.update({name: np.abs(values)})
    )
    largest: np.ndarray = found[tensor].reshape(-1, 4, found[tensor].shape[-1] // 4).max(axis=(0, 1))
    return largest


def test_what_others_read_stays_as_it_is() -> None:
    for model in (network(shown=True), network("tanh")):
        assert equal_channels(model, make_batch(model.inputs, DATA)) is model
