"""Gradients of every cell and kind of layer, where nothing is rounded, against differences of the float64 equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import Shape, make_model
from tool_modules import load_tool

from qat.differences import largest_difference
from qat.networks import KINDS, network
from qrnn import layers
from qrnn.errors import UnsupportedError
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.qat.backward import backward
from qrnn.qat.values import FloatValues

LENGTHS = np.array([7, 4, 2, 6])
CLOSE = 1e-6
RAMPS = {
    "gate": Activation("hard_sigmoid", 0.3),
    "candidate": Activation("hard_tanh"),
    "output": Activation("hard_tanh"),
}

CATALOGUE = load_tool("cell_catalogue")


def worst(model: FloatModel, features: int, lengths: Any = LENGTHS, **states: Any) -> float:
    rng = np.random.default_rng(3)
    data = {"x": rng.normal(size=(len(lengths), 7, features)), **states}
    return largest_difference(model, make_batch(model.inputs, data, lengths), rng)


@pytest.mark.wide(cover=False, keep=12)
@pytest.mark.parametrize("name", [name for name in CATALOGUE.CELLS if name != "lstm_step_gates"])
def test_cells_of_the_catalogue(name: str) -> None:
    assert worst(CATALOGUE.cell(name, 4, 3), 3) < CLOSE


@pytest.mark.wide(cover=False, keep=24)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_layers(kind: str) -> None:
    assert worst(network(kind), 3) < CLOSE


@pytest.mark.parametrize(
    "shape",
    [
        Shape("lstm", directions=(False, True), layers=2, peephole=0.5, head=2, states=True),
        Shape("lstm", forget="coupled", peephole=0.5, directions=(True,)),
        Shape("lstm", forget="one", clip=0.6),
        Shape("lstm", projection=3, projected=Activation("sigmoid"), states=True),
        Shape("gru", layers=2, linear_before_reset=False, update_keeps=False, states=True, residual=True, hidden_size=3),
        Shape("gru", directions=(False, True), update_keeps=False),
        Shape("rnn", projection=3, projected="softmax"),
        Shape("rnn", layers=2, states=True, directions=(False, True)),
        Shape("lstm", activations=RAMPS),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_with_states_and_empty_sequences(shape: Shape) -> None:
    model = make_model(shape, np.random.default_rng(1))
    lengths = np.array([7, 0, 3, 5])
    states = {"state": np.random.default_rng(2).normal(size=(4, *shape.state_shape)) * 0.4} if shape.states else {}
    assert worst(model, shape.input_size, lengths, **states) < CLOSE


def test_embeddings() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 3))
    x = layers.embedding(layers.tokens("x", 5), table)
    model = layers.model("m", outputs={"h": layers.rnn(x, rng.normal(size=(2, 3)), rng.normal(size=(2, 2))).h_n})
    batch = make_batch(model.inputs, {"x": rng.integers(0, 5, (3, 7))}, np.array([7, 1, 4]))
    assert largest_difference(model, batch, rng, 8) < CLOSE


def test_a_decoder_begins_with_the_last_state_of_an_encoder() -> None:
    rng = np.random.default_rng(0)
    x = layers.input("x", features=3)
    begun = layers.rnn(x, rng.normal(size=(4, 3)), rng.normal(size=(4, 4)))
    second = layers.lstm(x, rng.normal(size=(16, 3)), rng.normal(size=(16, 4)), h_0=begun.h_n)
    assert worst(layers.model("m", outputs={"y": second.output}), 3) < CLOSE


def test_a_layer_without_a_derivative_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    x = layers.dense(layers.input("x", features=3), rng.normal(size=(4, 3)))
    h = layers.rnn(layers.argmax(x, name="best"), rng.normal(size=(2, 1)), rng.normal(size=(2, 2)))
    model = layers.model("m", outputs={"y": h.output})
    batch = make_batch(model.inputs, {"x": rng.normal(size=(2, 3, 3))})
    with pytest.raises(UnsupportedError, match=r"'best' .* has no derivative"):
        backward(FloatValues(model, batch), {"y": np.ones((2, 3, 2))})
