"""Fused steps that record what happens inside a cell write what the reference records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn.backends.base import Trace
from qrnn.backends.cpu.packed import FusedRun
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.batch import make_batch
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

LENGTHS = np.array([13, 4, 0, 6, 13, 1, 2, 3, 9, 10, 11])
SHAPES = [
    Shape("lstm", hidden_size=20, directions=(False, True)),
    pytest.param(Shape("gru", hidden_size=19, states=True), marks=pytest.mark.wide),
    pytest.param(Shape("lstm", hidden_size=35, peephole=0.4), marks=pytest.mark.wide),
    pytest.param(Shape("lstm", hidden_size=8, forget="coupled", states=True), marks=pytest.mark.wide),
    pytest.param(Shape("lstm", hidden_size=16, forget="one"), marks=pytest.mark.wide),
    pytest.param(Shape("gru", hidden_size=33, linear_before_reset=False, directions=(True,)), marks=pytest.mark.wide),
    pytest.param(Shape("rnn", hidden_size=8), marks=pytest.mark.wide),
]


def traced(quantized: QuantModel, data: dict[str, Any], *where: Any, **more: Any) -> dict[str, Any]:
    session, trace = Session(quantized, *where, **more), Trace()
    batch = make_batch(quantized.inputs, data, LENGTHS)
    session.run_batch(batch, session.initial_state(len(LENGTHS), batch.states), trace)
    return trace.arrays


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.cell}-{shape.forget}-{shape.hidden_size}")
@pytest.mark.parametrize(
    "scheme",
    [
        qrnn.Scheme(),
        pytest.param(qrnn.Scheme(activations=16, weights=4, gates="hard"), marks=pytest.mark.wide),
    ],
    ids=["8", "4-hard"],
)
def test_fused_traces_are_those_of_the_reference(
    shape: Shape, scheme: qrnn.Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, calls = np.random.default_rng(0), list[Any]()
    data: dict[str, Any] = {"x": rng.normal(size=(11, 13, shape.input_size))}
    if shape.states:
        data["state"] = rng.uniform(-0.5, 0.5, (11, *shape.state_shape))
    quantized = qrnn.quantize(make_model(shape, rng), data, scheme)
    given = {**data, "x": 3.0 * data["x"]}
    want = traced(quantized, given, "reference")
    run_traced = FusedRun.run_traced
    monkeypatch.setattr(FusedRun, "run_traced", lambda *a: calls.append(a) or run_traced(*a))
    got = traced(quantized, given, tuning=Tuning(traced_macs=0))
    assert calls or "cpu" not in qrnn.backends.available_backends() or not Session(quantized).engine.isa  # type: ignore[attr-defined]
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)
