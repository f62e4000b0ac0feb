"""Refitted gates: rows' fits, whole models, and models that have nothing to fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.activation import Activation, activate
from qrnn.model.batch import make_batch
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.scheme import Scheme
from qrnn.refinement.gates import fit_row, ramp_ends, refit_gates, with_choices
from qrnn.running.session import Session

RAMPS = (Activation("hard_tanh"), Activation("hard_sigmoid"), Activation("hard_sigmoid", 1 / 6, 0.5))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    size=st.floats(-3, 2),
    ramp=st.sampled_from(RAMPS),
    steps=st.sampled_from([1, 2, 50, 400]),
)
def test_a_fit_is_never_worse(seed: int, size: float, ramp: Activation, steps: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(steps, 5)) * 10.0**size + rng.normal(size=5)
    a[:, 0] = 0.0
    y = activate(Activation("tanh" if ramp.kind == "hard_tanh" else "sigmoid"), a)
    weight = rng.uniform(0.05, 2, a.shape)
    k, s = fit_row(a, y, weight, ramp)
    before, after = ((weight * (activate(ramp, v) - y) ** 2).sum(axis=0) for v in (a, k * a + s))
    assert (after <= before * (1 + 1e-9) + 1e-15).all()
    assert (k > 0).all()
    assert (k < 2).all()


@pytest.mark.parametrize("ramp", RAMPS)
def test_a_ramp_is_found(ramp: Activation) -> None:
    """The values are those of a ramp with another slope and offset."""
    rng = np.random.default_rng(0)
    line = ramp_ends(ramp)
    a = rng.normal(size=(500, 4)) * line.high
    k, s = np.array([0.5, 0.9, 1.2, 1.6]), np.array([0.1, 0.0, -0.2, 0.3])
    got = fit_row(a, activate(ramp, k * a + s), np.ones_like(a), ramp)
    np.testing.assert_allclose(got[0], k, atol=1e-4)
    np.testing.assert_allclose(got[1], s, atol=1e-4)
    assert line.slope > 0


CELLS: dict[str, Any] = {
    "lstm": Shape("lstm", 4, 8, layers=2, head=3),
    "gru": Shape("gru", 4, 8, (False, True), head=3),
    "gru before, turned": Shape("gru", 4, 8, linear_before_reset=False, update_keeps=False, head=3),
    "rnn": Shape("rnn", 4, 8, head=3),
    "coupled, peepholes": Shape("lstm", 4, 8, forget="coupled", peephole=0.3, head=3),
    "clip, projection": Shape("lstm", 4, 8, clip=1.5, projection=3, head=2),
}


@pytest.mark.parametrize("name", CELLS)
def test_models_gain(name: str) -> None:
    """The models gain on similar data, in real numbers and in integers; biases and rows change, functions keep their names."""
    model, rng = make_model(CELLS[name], np.random.default_rng(1)), np.random.default_rng(2)
    data, other = ({"x": rng.normal(size=(40, 15, 4))} for _ in range(2))
    batch = make_batch(model.inputs, other)
    want = run_oracle_batch(model, batch).outputs["y"]
    choices = parse_gates("hard")
    refit = refit_gates(model, make_batch(model.inputs, data), Scheme(gates="hard"))
    assert refit is not model
    real = [sqnr_db(want, run_oracle_batch(with_choices(m, choices), batch).outputs["y"]) for m in (model, refit)]
    assert real[1] > real[0] + 1
    db = [
        sqnr_db(
            want,
            Session(quantize(model, data, Scheme(input="8", gates="hard", refine=r))).run_batch(batch)[0].outputs["y"],
        )
        for r in ("none", "gates")
    ]
    assert db[1] > db[0] + 1
    assert db[1] == pytest.approx(real[1], abs=1.0)


def test_gates_one_by_one() -> None:
    """A choice for one gate fits that gate's rows only; what is no better on held-out data is named."""
    model = make_model(Shape("lstm", 4, 8, head=3), np.random.default_rng(1))
    data = {"x": np.random.default_rng(2).normal(size=(20, 15, 4))}
    refit = refit_gates(model, make_batch(model.inputs, data), Scheme(gates="forget=hard"))
    a, b = (next(iter(m.layers)).directions[0] for m in (model, refit))  # type: ignore[union-attr]
    moved = (a.weight_hh != b.weight_hh).any(axis=1).reshape(4, 8).any(axis=1)
    assert moved.tolist() == [False, True, False, False]
    quantized = quantize(model, data, Scheme(input="8", gates="forget=hard", refine="gates,equalize"))
    first, second, third = quantized.provenance.decisions[:3]
    assert first == "equalize: channels scaled between the layers (none can be)"
    assert second == "gates: weights fitted to ramps in the layers layer0"
    assert third == "gates: head left as it was, since that is better on held-out calibration data"


def test_nothing_to_fit() -> None:
    model = make_model(Shape("gru", 4, 8, head=3), np.random.default_rng(1))
    batch = make_batch(model.inputs, {"x": np.ones((2, 3, 4))})
    for gates in ("pwl:32", "update=step"):
        assert refit_gates(model, batch, Scheme(gates=gates)) is model
    own = Shape(
        "lstm",
        4,
        8,
        activations={"gate": Activation("hard_sigmoid"), "candidate": Activation("relu"), "output": Activation("relu")},
    )
    model = make_model(own, np.random.default_rng(1))
    assert refit_gates(model, batch, Scheme(gates="hard")) is model
