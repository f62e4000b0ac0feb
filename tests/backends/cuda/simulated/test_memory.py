"""Layers without memory on the device: rows, and a graph in which one layer remembers and the other does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory.graphs import F, one_step, stacked
from onnx_import.running import data

from backends.cuda.simulated.test_arrays import assert_same, on_device, states
from qrnn.backends.base import Trace
from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.model.batch import make_batch
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_rows(op: str) -> None:
    model = quantize(import_model(one_step(op, initial=True), "one"), {"x": data(20, F)}, Scheme(input="8"))
    x = data(3, F, seed=2)
    want = Session(model, "reference").run({"x": x}).outputs
    session = Session(model, "cuda")
    np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], want["y"])
    assert_same(session.run(on_device({"x": x})).outputs, want)
    assert_same(session.step(on_device({"x": x})).outputs, want)
    assert_same(session.run(on_device({"x": x[:, None]})).outputs, {"y": want["y"][:, None]})
    with pytest.raises(DataError, match=r"give its rows as \[3, 4\]"):
        session.run(on_device({"x": x[None]}))


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize(("op", "first"), [("LSTM", True), ("GRU", False)])
def test_mixed_layers(op: str, first: bool) -> None:
    float_model = import_model(stacked(op, first, not first), "two")
    model = quantize(float_model, {"x": data(4, 5, F)}, Scheme(input="8"))
    inputs: dict[str, Any] = {"x": data(3, 3, F, seed=2)}
    want = Session(model, "reference").run(inputs, [3, 0, 2])
    for given in (inputs, on_device(inputs)):
        got = Session(model, "cuda").run(given, [3, 0, 2])
        for name, value in want.outputs.items():
            found = got.outputs[name]
            np.testing.assert_array_equal(found if isinstance(found, np.ndarray) else found.copy_to_host(), value)
    assert_same(states(got.state), states(want.state))
    traces = [Trace(), Trace()]
    for trace, backend in zip(traces, ("reference", "cuda"), strict=True):
        Session(model, backend).run_batch(make_batch(model.inputs, inputs, [3, 0, 2]), trace=trace)
    assert traces[0].arrays.keys() == traces[1].arrays.keys()
    for name, array in traces[0].arrays.items():
        np.testing.assert_array_equal(traces[1].arrays[name], array, err_msg=name)
