"""Whole networks, streams, states and steps on the device; and the shared models where they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model
from numba import cuda

from backends.cuda.on_device.common import CELLS, assert_same, drawn, quantized
from backends.generators import Case, assert_equal, integers
from qrnn import Scheme, Session, layers, load_onnx, quantize
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.tuning import Tuning
from qrnn.errors import UnsupportedError
from qrnn.model.quant_model import QuantModel

MODELS = Path(__file__).parents[5] / "shared" / "models"
PATHS = sorted(MODELS.rglob("*.onnx"))


@cache
def shared_model(path: Path) -> QuantModel:
    model = load_onnx(path)
    return quantize(model, drawn(model, 2, 1 if model.one_step else 12), Scheme(input="8"))


@pytest.mark.skipif(not PATHS, reason="the shared models are not here")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_shared_models(path: Path) -> None:
    try:
        model = shared_model(path)
    except UnsupportedError as error:
        pytest.skip(str(error)[:80])
    steps = 1 if model.one_step else 12
    assert_same(model, 1, min(steps, 3))
    for size in (32, 1024):
        assert_same(model, size, steps, backend="cpu")


NETWORKS = (
    Case(Shape("lstm", 3, 17, (False, True), layers=2, states=True), "softmax", lengths=(7, 3), steps=7),
    Case(Shape("gru", 3, 33, (False, True), layers=3), "sigmoid", lengths=(4, 5), last_step=True, concat=True),
    Case(Shape("gru", 8, 8, (True,), layers=2, linear_before_reset=False, residual=True), "tanh", lengths=(5, 0)),
    Case(Shape("rnn", 40, 40, layers=2, residual=True), "dense", lengths=(5, 2), scheme=Scheme(16, input="16")),
    Case(
        Shape("lstm", 3, 24, forget="one", peephole=2.0, states=True),
        "none",
        lengths=(5, 1),
        scheme=Scheme(weights=4, refine="none"),
    ),
)


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: f"{case.shape.cell}-{case.shape.hidden_size}")
def test_networks(case: Case) -> None:
    model = case.quantized()
    batch = case.batch(model)
    assert_equal(*(integers(Session(model, name), batch)[0] for name in ("reference", "cuda")))


def test_jordans_network() -> None:
    """What is fed back is the output: by the general kernel."""
    rng = np.random.default_rng(0)
    x = layers.input("x", features=5)
    arrays = (rng.normal(size=size) for size in ((20, 5), (20, 4), 20, (4, 20), 4))
    made = layers.model("jordan", outputs={"y": layers.jordan(x, *arrays, output="softmax").output})
    model = quantize(made, drawn(made, 2, 6), Scheme(input="8"))
    for size in (1, 9):
        assert_same(model, size, 6)


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_goes_from_call_to_call(cell: str) -> None:
    """Chunks, single steps, streams and a pool of streams equal the whole run."""
    model = quantized(replace(CELLS[cell], hidden_size=33, directions=(False,)))
    x, ours = drawn(model, 3, 12)["x"], Session(model, "cuda")
    want = Session(model, "reference").run({"x": x})
    state: Any = None
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        result = ours.run({"x": x[:, begin:end]}, state=state)
        np.testing.assert_array_equal(result.outputs["y"], want.outputs["y"][:, begin:end])
        state = result.state
    state, stream, pool = None, ours.stream(3), ours.pool(3)
    opened = [pool.open() for _ in range(3)]
    for t in range(12):
        result = ours.step({"x": x[:, t]}, state)
        state = result.state
        frame = {"x": x[:, t]}
        for found in (result.outputs["y"], stream.step(frame)["y"], pool.step(opened, frame)["y"]):
            np.testing.assert_array_equal(found, want.outputs["y"][:, t])
    for name, (h, c) in want.state.layers.items():
        np.testing.assert_array_equal(state.layers[name][0], h)
        np.testing.assert_array_equal(state.layers[name][1], c)


def test_a_long_sequence() -> None:
    model = quantize(make_model(Shape("gru", 3, 64), np.random.default_rng(0)), {"x": np.ones((1, 3, 3))}, Scheme())
    x = drawn(model, 4, 2000)
    want, got = (Session(model, name).run(x).outputs["y"] for name in ("reference", "cuda"))
    np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(SIMULATED, reason="the simulator captures nothing")
@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize(("cell", "hidden"), [("lstm", 64), ("gru_after", 64), ("gru_before", 300), ("lstm", 640)])
def test_device_streams_are_captured(cell: str, hidden: int, size: int) -> None:
    """With the barrier of a block, of a grid, and the bits of whole runs; on the default stream and on another."""
    shape = replace(CELLS[cell], hidden_size=hidden, weight=1.0 / hidden**0.5, directions=(False,))
    model = quantize(make_model(shape, np.random.default_rng(hidden)), {"x": np.ones((1, 3, 5))}, Scheme(input="8"))
    x = drawn(model, size, 12)["x"]
    want = Session(model, "cpu").run({"x": x}).outputs["y"]
    stream = Session(model, "cuda", tuning=Tuning(unproved=True)).device_stream(size)
    assert stream.not_captured is None
    own = cuda.stream()  # one that waits for the default stream, and that the default stream waits for
    for number in (0, int(own.handle)):
        for t in range(12):
            stream.inputs["x"].copy_to_device(np.ascontiguousarray(x[:, t]))
            stream.advance(number)
            np.testing.assert_array_equal(stream.outputs["y"].copy_to_host(), want[:, t])
        stream.check()
        stream.reset()
