"""Reductions and average pools on the device: runs, arrays that lie there, and streams up to the most steps of a sum."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from schemes import BYTES

import qrnn
from backends.cuda.simulated.test_arrays import on_device
from qrnn import BackendError, DataError, Session, layers
from qrnn.conversion import quantize
from qrnn.model.kinds.running import QuantRunning
from qrnn.model.quant_model import QuantModel
from qrnn.model.reduced import Reduction
from qrnn.model.window import Window


def model_of(function: Reduction) -> QuantModel:
    """A pool with a stride and a delay, the reduction of its features and of all steps so far, and the last of these."""
    x = layers.input("x", 6)
    pool = layers.average_pool(x, Window(3, 2, 1, 1, 1), band=Window(2, 1, 1, 1, 0), bands=3)
    so_far = layers.running(x, function, 3, inner=2)
    outputs = {"pool": layers.reduce(pool, function, 2), "so_far": so_far, "all": layers.last_step(so_far)}
    return quantize(layers.model("m", outputs), {"x": np.random.default_rng(0).normal(size=(3, 9, 6))}, BYTES)


@pytest.mark.parametrize("function", get_args(Reduction))
def test_runs(function: Reduction) -> None:
    model = model_of(function)
    x, lengths = np.random.default_rng(1).normal(0, 3, (3, 6, 6)), np.array([6, 0, 3])
    want = Session(model, "reference").run({"x": x}, lengths)
    for given in ({"x": x}, on_device({"x": x})):
        got = Session(model, "cuda").run(given, lengths)
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)


def test_steps_that_give_nothing_new() -> None:
    """Where arrays lie on the device, too: zeros, also of a layer with a bias behind the last step that is none."""
    x = layers.input("x", 4)
    mean = layers.last_step(layers.running(layers.average_pool(x, Window(2, 2)), "mean"))
    model = quantize(
        layers.model("m", {"y": layers.dense(mean, np.ones((3, 4)), np.ones(3)), "mean": mean}),
        {"x": np.random.default_rng(3).normal(size=(3, 9, 4))},
        BYTES,
    )
    frames = np.random.default_rng(4).normal(size=(2, 5, 4))
    session, reference = Session(model, "cuda"), Session(model, "reference")
    state, other = None, None
    for t in range(5):
        frame = {"x": np.ascontiguousarray(frames[:, t])}
        got, want = session.step(on_device(frame), state), reference.step(frame, other)
        state, other = got.state, want.state
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)
            np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
            assert values.any() == bool(t % 2)


def test_the_most_steps_on_the_device() -> None:
    """Arrays that lie on the device may not pass the limit either; the device's own streams take no layer with steps of its own."""
    x = layers.input("x", 6)
    so_far = layers.running(x, "mean", 3)
    model = quantize(
        layers.model("m", {"y": layers.last_step(so_far)}),
        {"x": np.random.default_rng(0).normal(size=(3, 9, 6))},
        BYTES,
    )
    (layer,) = (layer for layer in model.layers if isinstance(layer, QuantRunning))
    session, reference = Session(model, "cuda"), Session(model, "reference")
    full: list[Any] = [array.copy() for array in session.initial_state(1).layers[layer.name]]
    full[2][...] = (layer.most_steps or 0) - 2
    state = qrnn.State({layer.name: tuple(full)})
    frames = np.random.default_rng(2).normal(size=(1, 3, 6))
    want = reference.run({"x": frames[:, :2]}, state=state)
    got = session.run(on_device({"x": frames[:, :2]}), state=state)
    np.testing.assert_array_equal(np.asarray(got.outputs["y"]), want.outputs["y"])
    says = f"layer {layer.name!r} takes at most"
    with pytest.raises(DataError, match=says):
        session.run(on_device({"x": frames}), state=state)
    with pytest.raises(
        BackendError, match=f"layer {layer.name!r}: how many rows it gives in a call depends on its state"
    ):
        session.device_stream(1, state)
