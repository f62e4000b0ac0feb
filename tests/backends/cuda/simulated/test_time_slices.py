"""Slices of time, single steps, fixed numbers of steps and vectors at every step on the device: runs, arrays that lie there, and streams."""

from __future__ import annotations

import numpy as np
import pytest
from schemes import BYTES

from backends.cuda.simulated.test_arrays import on_device
from qrnn import DataError, Session, layers
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel


def model_of(count: int) -> QuantModel:
    """Every kind that takes steps, over x of 6 steps, and its last step at ``count`` steps, or at as many as it has."""
    x = layers.input("x", 3)
    repeated = layers.repeat(layers.step_at(x, 1), x, count=count)
    outputs = {
        "slice": layers.time_slice(x, 1, -1, 2),
        "first": layers.time_slice(x, 0, 3),
        "last": layers.time_slice(x, -4, -1),
        "second": layers.step_at(x, 1),
        "every": layers.side_by_side(x, 6),
        "repeated": layers.add(repeated, repeated),
    }
    return quantize(layers.model("m", outputs), {"x": np.random.default_rng(0).normal(size=(3, 6, 3))}, BYTES)


@pytest.mark.parametrize("count", [0, 4])
def test_runs(count: int) -> None:
    model = model_of(count)
    x = np.random.default_rng(1).normal(0, 3, (3, 6, 3))
    want = Session(model, "reference").run({"x": x})
    session = Session(model, "cuda")
    for given in ({"x": x}, on_device({"x": x})):
        got = session.run(given)
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)
            np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
        with pytest.raises(DataError, match="needs sequences of 6 steps, and one has 5"):
            session.run(given, np.array([6, 5, 6]))
        with pytest.raises(DataError, match="only the end of a sequence tells"):
            session.run(given, end=False)


def test_streams() -> None:
    x, s = layers.input("x", 3), layers.input("s", 2, has_time=False)
    joined = layers.concat(layers.time_slice(x, 1), layers.repeat(s, layers.time_slice(x, 1)))
    model = quantize(
        layers.model("m", {"y": layers.add(joined, joined)}),
        {"x": np.random.default_rng(2).normal(size=(3, 6, 3)), "s": np.ones((3, 2))},
        BYTES,
    )
    x_, s_ = np.random.default_rng(3).normal(size=(2, 5, 3)), np.random.default_rng(4).normal(size=(2, 2))
    want = Session(model, "reference").run({"x": x_, "s": s_}).outputs["y"]
    session, state, rows = Session(model, "cuda"), None, []
    for t in range(5):
        got = session.step({"x": x_[:, t], "s": s_}, state)
        state = got.state
        if got.lengths["y"][0]:
            rows.append(got.outputs["y"])
    np.testing.assert_array_equal(np.stack(rows, axis=1), want)
