"""Equalized models: the same function of real numbers, channels of balanced ranges, and nothing else touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, GraphOutput
from qrnn.model.kinds.dense import Dense
from qrnn.quantization.scheme import Scheme
from qrnn.refinement.equalize import equalize
from qrnn.running.session import Session


def network(seed: int, function: str = "relu", spread: float = 2.0, reads: str = "dense") -> FloatModel:
    """GRU → dense → f → dense or GRU; the channels between have sizes of several orders."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", features=4)
    y = layers.gru(x, rng.normal(size=(18, 4)) * 0.5, rng.normal(size=(18, 6)) * 0.5).output
    sizes = 10.0 ** rng.uniform(-spread, spread, 12)
    y = layers.dense(y, rng.normal(size=(12, 6)) * sizes[:, None], rng.normal(size=12) * sizes, name="wide")
    if function != "none":
        y = layers.activation(y, function)
    if reads == "gru":
        y = layers.gru(y, rng.normal(size=(9, 12)) / sizes * 0.3, rng.normal(size=(9, 3)) * 0.5).output
    else:
        y = layers.dense(y, rng.normal(size=(3, 12)) / sizes, rng.normal(size=3))
    return layers.model("net", outputs={"y": y})


def data(seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(20, 9, 4))}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 30), function=st.sampled_from(["relu", "none"]), reads=st.sampled_from(["dense", "gru"])
)
def test_the_function_stays(seed: int, function: str, reads: str) -> None:
    model = network(seed, function, reads=reads)
    better = equalize(model, make_batch(model.inputs, data()))
    assert better is not model
    want, got = (run_oracle(m, data(1)).outputs["y"] for m in (model, better))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def test_channels_are_balanced_and_integers_gain() -> None:
    model = network(3)
    better = equalize(model, make_batch(model.inputs, data()))
    wide = [next(layer for layer in m.layers if layer.name == "wide") for m in (model, better)]
    spread = [np.log10(np.abs(d.weight).max(axis=1)).std() for d in wide if isinstance(d, Dense)]
    assert spread[1] < 0.5 * spread[0]
    want, batch = run_oracle(model, data(1)).outputs["y"], make_batch(model.inputs, data(1))
    db = [
        sqnr_db(want, Session(quantize(model, data(), Scheme(input="8", refine=r))).run_batch(batch)[0].outputs["y"])
        for r in ("none", "equalize")
    ]
    assert db[1] > db[0] + 5


def test_what_is_not_homogeneous_or_is_seen_stays() -> None:
    model = network(1, "tanh")
    assert equalize(model, make_batch(model.inputs, data())) is model
    model = network(1)
    every = np.arange(12)
    seen = replace(model, outputs=(*model.outputs, GraphOutput("w", (12,), True, (("wide", every, every),))))
    assert any(layer.output == "wide" for layer in model.layers)
    assert equalize(seen, make_batch(model.inputs, data())) is seen


@pytest.mark.parametrize("seed", range(3))
def test_channels_that_are_never_used(seed: int) -> None:
    model = network(seed)
    wide = next(p for p, layer in enumerate(model.layers) if layer.name == "wide")
    dense = model.layers[wide]
    assert isinstance(dense, Dense)
    weight, bias = dense.weight.copy(), dense.bias.copy()
    weight[2], bias[2] = 0.0, -1.0
    model = replace(
        model, layers=(*model.layers[:wide], replace(dense, weight=weight, bias=bias), *model.layers[wide + 1 :])
    )
    better = equalize(model, make_batch(model.inputs, data()))
    want, got = (run_oracle(m, data(1)).outputs["y"] for m in (model, better))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())
