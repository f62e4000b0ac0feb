"""Arrays on the device in, arrays on the device out, with the values and the refusals of the host's; the simulator's stand for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import Shape, make_model
from numba import cuda
from test_time import strided, two_axes

from backends.generators import Case
from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput, TensorInfo
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.user_values import on_cuda_device
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.state import State

CASE = Case(
    Shape("lstm", 3, 6, (False, True), states=True), "softmax", sequences=2, steps=4, lengths=(4, 2), concat=True
)
STREAM = Case(Shape("lstm", 3, 6, layers=2), "dense", sequences=2, steps=3, lengths=(3, 3))


def on_device(data: dict[str, Any]) -> dict[str, Any]:
    return {name: cuda.to_device(np.ascontiguousarray(value)) for name, value in data.items()}


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert on_cuda_device(got[name])
        assert not on_cuda_device(value)
        np.testing.assert_array_equal(got[name].copy_to_host(), value)


def states(state: State) -> dict[str, Any]:
    return {f"{name} {k}": part for name, pair in state.layers.items() for k, part in enumerate(pair)}


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_run(kind: type[np.generic]) -> None:
    model = CASE.quantized()
    data = CASE.data()
    data["x"] = (100 * data["x"]).astype(kind)
    for lengths in (None, [4, 0]):
        want = Session(model, "reference").run(data, lengths)
        got = Session(model, "cuda").run(on_device(data), lengths)
        assert_same(got.outputs, want.outputs)
        assert_same(states(got.state), states(want.state))


def test_mixed_with_arrays_of_the_host() -> None:
    model, data = CASE.quantized(), CASE.data()
    want = Session(model, "reference").run(data)
    got = Session(model, "cuda").run(data | {"x": cuda.to_device(data["x"])})
    assert_same(got.outputs, want.outputs)


def test_steps_carry_the_state_on_the_device() -> None:
    model, x = STREAM.quantized(), STREAM.data()["x"]
    session, reference = Session(model, "cuda"), Session(model, "reference")
    state, host_state = None, None
    for t in range(3):
        result = session.step({"x": cuda.to_device(np.ascontiguousarray(x[:, t]))}, state)
        want = reference.step({"x": x[:, t]}, host_state)
        state, host_state = result.state, want.state
        assert_same(result.outputs, want.outputs)
    assert_same(states(result.state), states(want.state))
    again = session.run(on_device({"x": x}), state=host_state)  # a state of the host does as well
    assert_same(again.outputs, reference.run({"x": x}, state=host_state).outputs)


def test_streams_of_the_host() -> None:
    model, x = STREAM.quantized(), STREAM.data()["x"]
    ours, reference = (Session(model, backend).stream(2) for backend in ("cuda", "reference"))
    for t in range(3):
        got, want = ours.step({"x": x[:, t]}), reference.step({"x": x[:, t]})
        np.testing.assert_array_equal(got["y"], want["y"])


def token_model() -> Any:
    rng = np.random.default_rng(3)
    model = make_model(Shape("gru", 4, 6), rng)
    layer = model.layers[0]
    assert isinstance(layer, Recurrent)
    embedding = Embedding("embedding", "x", "e", rng.normal(size=(11, 4)))
    tensors = {**model.tensors, "x": TensorInfo(1, True), "e": TensorInfo(4, True)}
    inputs = (GraphInput("x", "tokens", (), True, vocabulary=11),)
    layers = (embedding, type(layer)(**{**vars(layer), "input": "e"}))
    tokens = {"x": rng.integers(0, 11, (3, 4))}
    return quantize(
        type(model)(**{**vars(model), "inputs": inputs, "layers": layers, "tensors": tensors}), tokens, Scheme()
    ), tokens


def test_tokens() -> None:
    model, tokens = token_model()
    want = Session(model, "reference").run(tokens)
    for kind in (np.int64, np.uint8):
        got = Session(model, "cuda").run(on_device({"x": tokens["x"].astype(kind)}))
        assert_same(got.outputs, want.outputs)
    with pytest.raises(DataError, match=r"input 'x': 2 of its values are not tokens in 0…10"):
        Session(model, "cuda").run(on_device({"x": np.array([[11, 3, -1]])}))


def test_refusals() -> None:
    model, data = STREAM.quantized(), STREAM.data()
    session = Session(model, "cuda")
    bad = data["x"].copy()
    bad[1, 2, 0], bad[0, 0, 1], bad[0, 1, 1] = np.nan, np.inf, -1e39
    with pytest.raises(DataError, match=r"input 'x': 3 of its values are not finite numbers of float32's range"):
        session.run(on_device({"x": bad}))
    with pytest.raises(DataError, match=r"input 'x': shape \[2, 3, 4\], expected \[N, T, 3\]"):
        session.run(on_device({"x": np.zeros((2, 3, 4))}))
    with pytest.raises(DataError, match="input 'x': type complex128, expected real numbers"):
        session.run(on_device({"x": np.zeros((2, 3, 3), complex)}))
    with pytest.raises(DataError, match="make it contiguous"):
        session.run({"x": cuda.to_device(data["x"])[:, ::2]})
    with pytest.raises(DataError, match="'z' is not an input"):
        session.run(on_device(data | {"z": data["x"]}))
    with pytest.raises(DataError, match=r"lengths: value 9"):
        session.run(on_device(data), [9, 1])
    with pytest.raises(DataError, match=r"state of layer 'layer0': h is int16\[3"):
        session.run(on_device(data), state=session.initial_state(3))
    with pytest.raises(DataError, match="input 'x': lies on a CUDA device"):
        Session(model, "cpu").run(on_device(data))
    with pytest.raises(DataError, match="reads the sequence backwards"):
        Session(CASE.quantized(), "cuda").step(on_device({"x": data["x"][:, 0]}))


def test_a_state_is_given_once() -> None:
    model, data = CASE.quantized(), CASE.data()
    session = Session(model, "cuda")
    with pytest.raises(DataError, match="both state= and the graph state input 'state'"):
        session.run(on_device(data), state=session.initial_state(2))


def test_states_beyond_their_range() -> None:
    model, x = STREAM.quantized(), STREAM.data()["x"]
    session = Session(model, "cuda")
    layers = dict(session.initial_state(2).layers)
    layers["layer1"][0][1, 0, 4] = -32768
    there = State({k: (cuda.to_device(h), cuda.to_device(c)) for k, (h, c) in layers.items()})
    with pytest.raises(DataError, match=r"state of layer 'layer1': 1 values of h are below -32767"):
        session.run(on_device({"x": x}), state=there)
    for inputs, state in ((on_device({"x": x}), State(layers)), ({"x": x}, State(layers)), ({"x": x}, there)):
        with pytest.raises(DataError, match=r"state of layer 'layer1': h is -32768 at \[1, 0, 4\]"):
            session.run(inputs, state=state)
    layers["layer1"][0][1, 0, 4] = -32767
    on_host = session.run({"x": x}, state=State(layers))
    there = State({k: (cuda.to_device(h), cuda.to_device(c)) for k, (h, c) in layers.items()})
    assert_same(session.run(on_device({"x": x}), state=there).outputs, on_host.outputs)
    np.testing.assert_array_equal(session.run({"x": x}, state=there).outputs["y"], on_host.outputs["y"])
    floats = State({k: (cuda.to_device(h.astype(np.float32)), cuda.to_device(c)) for k, (h, c) in layers.items()})
    with pytest.raises(DataError, match=r"state of layer 'layer0': h is float32\[2, 1, 6\], expected int16"):
        session.run(on_device({"x": x}), state=floats)


@pytest.mark.parametrize("kind", [">f4", ">f8", "f2", "g", ">i2", "u8"])
def test_every_type_of_the_host_beside_the_device(kind: str) -> None:
    """One input on the device sends the others there too, whatever their types."""
    model, data = CASE.quantized(), CASE.data()
    state = np.round(3 * data["state"]).clip(0, 3)
    x = np.round(3 * data["x"]).clip(0, 9)
    want = Session(model, "reference").run({"x": x, "state": state})
    got = Session(model, "cuda").run({"x": x.astype(kind), "state": cuda.to_device(state)})
    assert_same(got.outputs, want.outputs)


def test_arrays_that_are_refused_wherever_they_lie() -> None:
    model, data = CASE.quantized(), CASE.data()
    session = Session(model, "cuda")
    state = cuda.to_device(data["state"])
    for value, says in (
        (data["x"].astype("m8[s]"), "type timedelta64"),
        (np.ma.masked_array(data["x"]), "masked array"),
        (np.where(data["x"] > 0, np.inf, data["x"]).astype(">f4"), "value inf at"),
        (data["x"] > 0, "type bool"),
    ):
        with pytest.raises(DataError, match=says):
            session.run({"x": value, "state": state})
    with pytest.raises(DataError, match="type timedelta64"):
        session.run(on_device({"x": data["x"].astype("m8[s]")}))
    with pytest.raises(DataError, match="other byte order"):
        session.run({"x": cuda.to_device(data["x"].astype(">f8"))})
    with pytest.raises(DataError, match="key 3 of type int"):
        session.run({"x": cuda.to_device(data["x"]), 3: state})


def test_outputs_at_lower_rates() -> None:
    """Arrays on the device in chunks give the steps that arrays of the host give, and say how many came out."""
    model = strided(2, 1, 2, 1)
    session, x = Session(model, "cuda"), np.random.default_rng(0).normal(size=(2, 7, 3))
    lengths = np.array([7, 4])
    host, device = session.run({"x": x}, lengths), session.run({"x": cuda.to_device(x)}, lengths)
    state, parts = None, []
    for begin, end in ((0, 3), (3, 7)):
        result = session.run({"x": cuda.to_device(x[:1, begin:end])}, state=state, end=False)
        state = result.state
        parts.append(result.outputs["y"].copy_to_host()[0, : result.lengths["y"][0]])
    for name, values in host.outputs.items():
        np.testing.assert_array_equal(device.lengths[name], host.lengths[name])
        count = int(host.lengths[name].max())
        np.testing.assert_array_equal(device.outputs[name].copy_to_host()[:, :count], values[:, :count])
    assert state is not None
    parts.append(session.finish(state).outputs["y"][0])
    np.testing.assert_array_equal(np.concatenate(parts), host.outputs["y"][0, : host.lengths["y"][0]])


def test_two_time_axes() -> None:
    session, rng = Session(two_axes(), "cuda"), np.random.default_rng(0)
    data = {"a": rng.normal(size=(2, 5, 3)), "b": rng.normal(size=(2, 8, 3))}
    lengths = {"axis of a": np.array([5, 2]), "axis of b": np.array([3, 8])}
    host = session.run(data, lengths)
    device = session.run({name: cuda.to_device(value) for name, value in data.items()}, lengths)
    for name, values in host.outputs.items():
        np.testing.assert_array_equal(device.lengths[name], host.lengths[name])
        np.testing.assert_array_equal(device.outputs[name].copy_to_host(), values)
