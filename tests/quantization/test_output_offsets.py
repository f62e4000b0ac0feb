"""Outputs far from 0, by random heads of random recurrent layers: where they lie costs nothing, and what is lost is what the weights lose."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from backends.generators import fewest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn import layers
from qrnn.accuracy.metrics import decibels
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.quantization.floor import floor_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

Cell = Literal["lstm", "gru", "rnn"]
GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "rnn": 1}
few = settings(fewest, max_examples=5)


def head(cell: Cell, hidden: int, outputs: int, last: bool, middle: float, seed: int) -> FloatModel:
    """A recurrent layer and a head whose outputs are ``middle`` ± about 1."""
    rng = np.random.default_rng(seed)
    x, rows = layers.input("x", 3), GATES[cell] * hidden
    make = getattr(layers, cell)
    h = make(x, rng.normal(size=(rows, 3)), rng.normal(size=(rows, hidden)) / np.sqrt(hidden)).output
    weight, bias = rng.normal(size=(outputs, hidden)) / np.sqrt(hidden), rng.uniform(-0.3, 0.3, outputs)
    return layers.model("head", {"y": layers.dense(layers.last_step(h) if last else h, weight, bias + middle)})


def data(seed: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(24, 24, 3)).astype(np.float32)}


def lost(model: FloatModel, got: Any, given: dict[str, Any]) -> float:
    """The error's share of the signal, both as powers about the mean."""
    want = run_oracle(model, given).outputs["y"]
    return float(((got - want) ** 2).sum() / ((want - want.mean()) ** 2).sum())


def converted(model: FloatModel, scheme: Scheme) -> float:
    """What a conversion with calibration data loses on other data."""
    return lost(
        model, Session(quantize(model, data(1), scheme), "cpu").run(data(2), real="float64").outputs["y"], data(2)
    )


drawn = given(
    cell=st.sampled_from(list(GATES)),
    hidden=st.integers(2, 24),
    outputs=st.integers(1, 3),
    last=st.booleans(),
    middle=st.sampled_from([1000.0, -1000.0, 37.5, 1e5]),
    seed=st.integers(0, 1 << 16),
)


def check_middle(cell: Cell, hidden: int, outputs: int, last: bool, middle: float, seed: int) -> None:
    far, near = (converted(head(cell, hidden, outputs, last, m, seed), Scheme()) for m in (middle, 0.0))
    assert decibels(far, near) < 0.5


@few
@drawn
def test_where_outputs_lie_costs_nothing(
    cell: Cell, hidden: int, outputs: int, last: bool, middle: float, seed: int
) -> None:
    """The default conversion of y = middle ± 1 loses no more than that of ± 1."""
    check_middle(cell, hidden, outputs, last, middle, seed)


@pytest.mark.matrix
@settings(few, max_examples=40)
@drawn
def test_where_more_outputs_lie_costs_nothing(
    cell: Cell, hidden: int, outputs: int, last: bool, middle: float, seed: int
) -> None:
    check_middle(cell, hidden, outputs, last, middle, seed)


def test_only_the_weights_lose() -> None:
    """With operands of 16 bits, heads far from 0 are within 2 dB of their floors, as the mean of many.

    One by one they lie up to some dB on either side: the floor's grids are those of the features' standard deviations, the model's that of
    one scale for all features, and the errors of few weights are a matter of luck.
    """
    gaps: list[float] = []

    @settings(few, max_examples=40)
    @drawn
    def draw(cell: Cell, hidden: int, outputs: int, last: bool, middle: float, seed: int) -> None:
        model = head(cell, hidden, outputs, last, middle, seed)
        rounded = floor_model(model, make_batch(model.inputs, data(1)))
        floor = lost(model, run_oracle(rounded, data(2)).outputs["y"], data(2))
        gaps.append(decibels(converted(model, Scheme(16, input="16")), floor))

    draw()
    assert np.mean(gaps) < 2.0
