"""Streams on the device have the bits of the reference's steps, in arrays that are allocated once. The simulator launches without a graph."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from memory.graphs import F, stacked
from models import Shape
from numba import cuda
from onnx_import.running import data as drawn

from backends.cuda.simulated.test_arrays import CASE, STREAM, assert_same, on_device, states, token_model
from backends.generators import Case
from qrnn.backends.cuda import work
from qrnn.backends.cuda.choice import Choice
from qrnn.backends.cuda.device import SIMULATED_DEVICE
from qrnn.backends.cuda.device_rows import SIMULATOR
from qrnn.backends.cuda.kernel_variants import BLOCK, LAUNCH
from qrnn.backends.cuda.kinds import recurrent
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.plan import plans
from qrnn.backends.cuda.tuning import Tuning
from qrnn.conversion import quantize
from qrnn.errors import BackendError, DataError
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.device_stream import DeviceStream
from qrnn.running.session import Session
from qrnn.running.state import State

FULL = (5, 5)
"""Lengths of the calibration data."""

SHAPES = {
    "lstm": Shape("lstm", 3, 9),
    "gru_after": Shape("gru", 3, 9),
    "gru_before": Shape("gru", 3, 9, linear_before_reset=False),
    "rnn": Shape("rnn", 3, 9),
    "coupled": Shape("lstm", 3, 9, forget="coupled", peephole=0.5),
    "projection": Shape("lstm", 3, 6, projection=5, projected="softmax"),
    "stack": Shape("gru", 3, 6, layers=2),
}


def follow(model: QuantModel, size: int, steps: int, state: State | None = None, real: str = "float64") -> DeviceStream:
    """Step a stream and the reference side by side, with the inputs of `given`."""
    stream, reference = Session(model, "cuda").device_stream(size, state, real=real), Session(model, "reference")
    inputs, outputs = dict(stream.inputs), dict(stream.outputs)
    for t in range(steps):
        frames = given(model, size, t)
        for name, frame in frames.items():
            stream.inputs[name].copy_to_device(frame.astype(stream.inputs[name].dtype))
        stream.advance()
        rounded = {
            name: np.asarray(frame, real) if frame.dtype.kind == "f" else frame for name, frame in frames.items()
        }
        want = reference.step(rounded, state)
        state = want.state
        assert_same(dict(stream.outputs), want.outputs)
    assert all(stream.inputs[name] is array for name, array in inputs.items())
    assert all(stream.outputs[name] is array for name, array in outputs.items())
    assert_same(states(stream.state), states(want.state))
    return stream


def given(model: QuantModel, size: int, t: int) -> dict[str, Any]:
    rng, frames = np.random.default_rng([size, t]), {}
    for i in model.inputs:
        if i.kind == "tokens":
            frames[i.name] = rng.integers(0, i.vocabulary, (size, *i.shape))
        elif i.kind == "features":
            frames[i.name] = rng.normal(size=(size, *i.shape)) * 3
    return frames


@pytest.mark.parametrize(("name", "bits"), [*((name, 8) for name in SHAPES), ("lstm", 16), ("gru_before", 16)])
def test_cells(name: str, bits: int) -> None:
    model = Case(SHAPES[name], "none", lengths=FULL, scheme=Scheme(bits, input="8")).quantized()
    stream = follow(model, 3, 3)
    assert stream.not_captured == SIMULATOR


@pytest.mark.parametrize("size", [1, 2, 9])
def test_sizes_and_types(size: int) -> None:
    model = STREAM.quantized()
    follow(model, size, 2, real="float32")


def test_heads_and_several_outputs() -> None:
    follow(Case(Shape("lstm", 3, 6, states=True), "softmax", lengths=FULL, concat=True).quantized(), 2, 3)
    follow(Case(Shape("gru", 3, 6), "tanh", lengths=FULL).quantized(), 2, 3)


def test_tokens() -> None:
    model, _ = token_model()
    stream = follow(model, 2, 3)
    stream.inputs["x"].copy_to_device(np.array([11, -1]))
    stream.advance()
    with pytest.raises(DataError, match=r"input 'x': 2 of its values are not tokens in 0…10"):
        stream.check()


def test_a_layer_without_memory_among_others() -> None:
    model = quantize(import_model(stacked("LSTM", True, False), "two"), {"x": drawn(4, 5, F)}, Scheme(input="8"))
    follow(model, 2, 3)
    x = drawn(2, 6, F).astype(np.float32)
    want = Session(model, "reference").run({"x": x}).outputs
    stream = Session(model, "cuda").device_stream(2, steps=3)
    for t in (0, 3):
        stream.inputs["x"].copy_to_device(np.ascontiguousarray(x[:, t : t + 3]))
        stream.advance()
        np.testing.assert_array_equal(stream.outputs["y"].copy_to_host(), want["y"][:, t : t + 3])


@pytest.mark.parametrize("barrier", [BLOCK, LAUNCH])
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_every_barrier(name: str, barrier: str) -> None:
    model = Case(SHAPES[name], "none", lengths=FULL).quantized()
    layout = next(iter(Session(model, "cuda").engine.on_device.directions.values())).layout  # type: ignore[attr-defined]
    chosen = next(p for p in plans(layout, 2, SIMULATED_DEVICE) if p.kind.barrier == barrier)
    with mock.patch.object(recurrent, "choose_plan", return_value=Choice(chosen, "asked for")):
        follow(model, 2, 3)


def test_states_begin_and_begin_anew() -> None:
    model = STREAM.quantized()
    session = Session(model, "cuda")
    x = STREAM.data()["x"]
    begun = session.run({"x": x}).state
    on_host = follow(model, 2, 2, begun)
    there = session.run(on_device({"x": x})).state
    stream = session.device_stream(2, there)
    frame = x[:, 0].astype(np.float32)
    stream.inputs["x"].copy_to_device(frame)
    stream.advance()
    want = session.step({"x": frame}, begun)
    assert_same(dict(stream.outputs), want.outputs)
    kept = stream.state
    stream.advance()
    assert_same(states(kept), states(want.state))  # a copy
    stream.reset(kept)
    assert_same(states(stream.state), states(want.state))
    on_host.reset()
    assert_same(states(on_host.state), states(session.initial_state(2)))


@pytest.mark.parametrize("name", ["lstm", "gru_before", "projection"])
def test_chunks_of_several_steps(name: str) -> None:
    """A call of several steps; with lengths, which end at different steps, outputs beyond them are zero."""
    model = Case(SHAPES[name], "none", lengths=FULL).quantized()
    session, reference = Session(model, "cuda"), Session(model, "reference")
    x = np.random.default_rng(5).normal(size=(2, 9, 3)).astype(np.float32)
    want = reference.run({"x": x})
    stream = session.device_stream(2, steps=3)
    for t in range(0, 9, 3):
        stream.inputs["x"].copy_to_device(np.ascontiguousarray(x[:, t : t + 3]))
        stream.advance()
        np.testing.assert_array_equal(stream.outputs["y"].copy_to_host(), want.outputs["y"][:, t : t + 3])
    assert_same(states(stream.state), states(want.state))
    lengths = np.array([1, 3])
    ragged = DeviceStream(session, 2, steps=3, lengths=lengths)
    state = None
    for t in range(0, 9, 3):
        ragged.inputs["x"].copy_to_device(np.ascontiguousarray(x[:, t : t + 3]))
        ragged.advance()
        expected = reference.run({"x": x[:, t : t + 3]}, lengths, state)
        state = expected.state
        assert_same(dict(ragged.outputs), expected.outputs)
    assert_same(states(ragged.state), states(expected.state))


@pytest.mark.parametrize("name", ["lstm", "gru_before", "projection"])
def test_pieces_share_their_memory(name: str) -> None:
    """W·x of two steps at a time, and of what is left over: one array serves all, and more steps take no more arrays."""
    model = Case(SHAPES[name], "none", lengths=FULL).quantized()
    rows = model.recurrent_layers[0].directions[0].hh.weight.shape[0]
    session = Session(model, "cuda", tuning=Tuning(unproved=True, input_bytes=2 * 4 * 2 * rows))
    x = np.random.default_rng(5).normal(size=(2, 5, 3)).astype(np.float32)
    want = Session(model, "reference").run({"x": x})
    counts = []
    for steps in (5, 3):
        stream = session.device_stream(2, steps=steps)
        counts.append(len(stream._rows._buffers._arrays))
        for _ in range(2):
            stream.reset()
            stream.inputs["x"].copy_to_device(np.ascontiguousarray(x[:, :steps]))
            stream.advance()
            np.testing.assert_array_equal(stream.outputs["y"].copy_to_host(), want.outputs["y"][:, :steps])
    assert counts[0] == counts[1]


def test_the_kernels_of_a_step() -> None:
    """Inputs to integers, operands of x, W·x, operands of h, the step; and each output to reals. `Session.step` also copies and clears."""
    model = Case(SHAPES["lstm"], "none", lengths=FULL).quantized()
    stream = Session(model, "cuda", tuning=Tuning(unproved=True)).device_stream(2)
    with mock.patch.object(work, "stream", return_value=0) as asked:
        stream.advance()
    assert asked.call_count == 5 + len(model.outputs)


def test_nothing_is_allocated_after_the_first_step() -> None:
    model = CASE_ONE_WAY.quantized()
    stream = Session(model, "cuda").device_stream(2)
    with (
        mock.patch.object(cuda, "device_array", side_effect=AssertionError("allocated")),
        mock.patch.object(cuda, "to_device", side_effect=AssertionError("copied")),
        mock.patch.object(Lengths, "of", side_effect=AssertionError("copied")),
    ):
        stream.advance()
        stream.advance()


def test_a_layer_without_memory_copies_nothing_to_the_host() -> None:
    """Each of its steps is a sequence of its own, whose length the device finds out: a CUDA graph may not wait for it."""
    model = quantize(import_model(stacked("GRU", False, True), "two"), {"x": drawn(4, 5, F)}, Scheme(input="8"))
    x, lengths = drawn(2, 3, F).astype(np.float32), np.array([3, 1])
    stream = DeviceStream(Session(model, "cuda"), 2, steps=3, lengths=lengths)
    stream.inputs["x"].copy_to_device(x)
    copies = mock.patch.object(type(stream.inputs["x"]), "copy_to_host", side_effect=AssertionError("copied"))
    with copies, mock.patch.object(cuda, "device_array", side_effect=AssertionError("allocated")):
        stream.advance()
    assert_same(dict(stream.outputs), Session(model, "reference").run({"x": x}, lengths).outputs)


CASE_ONE_WAY = Case(Shape("lstm", 3, 6, layers=2), "softmax", lengths=FULL, concat=True)


def test_values_that_are_refused_are_told_once_asked() -> None:
    model = STREAM.quantized()
    session = Session(model, "cuda")
    stream = session.device_stream(2)
    bad = np.zeros((2, 3), np.float32)
    bad[0, 1], bad[1, 2] = np.nan, np.inf
    stream.inputs["x"].copy_to_device(bad)
    stream.advance()
    stream.advance()
    with pytest.raises(
        DataError, match=r"input 'x': 4 of its values are not finite .* took them as 0, begin anew with reset"
    ):
        _ = stream.state
    stream.check()
    zero = session.step({"x": np.zeros((2, 3))}, session.step({"x": np.zeros((2, 3))}).state)
    assert_same(dict(stream.outputs), zero.outputs)
    stream.advance()
    stream.reset()
    stream.check()


def test_refusals() -> None:
    model = STREAM.quantized()
    session = Session(model, "cuda")
    for size in (0, -1, True, 1.5):
        with pytest.raises(DataError, match="expected a whole number of at least 1"):
            session.device_stream(size)  # type: ignore[arg-type]
    for steps in (0, 2.0):
        with pytest.raises(DataError, match=f"steps={steps}, expected a whole number of at least 1"):
            session.device_stream(steps=steps)  # type: ignore[arg-type]
    for real in ("float16", "int8", "nonsense"):
        with pytest.raises(DataError, match=f"real='{real}', expected one of 'float32', 'float64'"):
            session.device_stream(real=real)
    with pytest.raises(DataError, match=r"state of layer 'layer0': h is int16\[3"):
        session.device_stream(2, session.initial_state(3))
    layers = dict(session.initial_state(2).layers)
    layers["layer1"][0][1, 0, 4] = -32768
    there = State({k: (cuda.to_device(h), cuda.to_device(c)) for k, (h, c) in layers.items()})
    stream = session.device_stream(2)
    with pytest.raises(DataError, match=r"state of layer 'layer1': 1 values of h are below -32767"):
        stream.reset(there)
    with pytest.raises(DataError, match="reads the sequence backwards"):
        Session(CASE.quantized(), "cuda").device_stream()
    with pytest.raises(BackendError, match="backend 'cpu' keeps no streams on a device"):
        Session(model, "cpu").device_stream()
