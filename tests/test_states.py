"""States from outside: refused where the contract has no such value, and where it has, every backend carries on from them alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn import DataError, Session, State
from qrnn.conversion import quantize
from qrnn.model.activation import Activation
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme

pytestmark = pytest.mark.usefixtures("loops")

T = 3
SHAPES = {
    "lstm": Shape("lstm", 3, 5, layers=2),
    "lstm, coupled": Shape("lstm", 3, 5, forget="coupled"),
    "lstm, peepholes": Shape("lstm", 3, 5, peephole=0.5),
    "lstm, projection": Shape("lstm", 3, 5, projection=4),
    "lstm, two ways": Shape("lstm", 3, 5, (False, True)),
    "gru": Shape("gru", 3, 5),
    "gru, reset first": Shape("gru", 3, 5, linear_before_reset=False),
    "rnn": Shape("rnn", 3, 5),
    "rnn, relu": Shape("rnn", 3, 5, activations={"candidate": Activation("relu")}, weight=0.3),
    "rnn, softmax fed back": Shape("rnn", 3, 5, projection=4, projected="softmax"),
}
ENDS = (-32768, -32767, -1, 0, 1, 32766, 32767)
CELL_ENDS = (-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1)


@cache
def model_of(name: str) -> QuantModel:
    x = np.random.default_rng(1).normal(size=(4, 6, 3))
    return quantize(make_model(SHAPES[name], np.random.default_rng(0)), {"x": x}, Scheme(input="8"))


@cache
def session_of(name: str, backend: str) -> Session:
    return Session(model_of(name), backend, 1)


@st.composite
def states(draw: st.DrawFn) -> tuple[str, int, State, dict[str, Any]]:
    """A model's name, N, a state of any integers that its arrays can hold, and inputs."""
    name, size = draw(st.sampled_from(sorted(SHAPES))), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = draw(st.booleans())
    layers = {}
    for layer, (h, c) in session_of(name, "reference").initial_state(size).layers.items():
        drawn_h = rng.integers(-32767, 32768, h.shape)
        ends = rng.choice(ENDS if not whole else ENDS[1:], h.shape)
        drawn_c = np.where(
            rng.random(c.shape) < 0.5, rng.integers(-(2**31), 2**31, c.shape), rng.choice(CELL_ENDS, c.shape)
        )
        layers[layer] = (np.where(rng.random(h.shape) < 0.3, ends, drawn_h).astype(np.int16), drawn_c.astype(np.int32))
    return name, size, State(layers), {"x": rng.normal(size=(size, T, 3))}


def check_same(got: Any, want: Any) -> None:
    for output, value in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[output], value, err_msg=output)
    for layer, pair in want.state.layers.items():
        for a, b in zip(got.state.layers[layer], pair, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=layer)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=states())
def test_any_integers(case: tuple[str, int, State, dict[str, Any]]) -> None:
    """One error that says where, from every way in, or the reference's bits from all of them, in three runs of the shape."""
    name, size, state, inputs = case
    reference, cpu = session_of(name, "reference"), session_of(name, "cpu")
    forward = not any(d.reverse for layer in model_of(name).recurrent_layers for d in layer.directions)
    bad = next(((layer, h) for layer, (h, _) in state.layers.items() if (h == -32768).any()), None)
    if bad is not None:
        place = [int(i) for i in np.argwhere(bad[1] == -32768)[0]]
        ways = [lambda s=s: s.run(inputs, state=state) for s in (reference, cpu, cpu)]
        if forward:
            ways += [
                lambda: cpu.step({"x": inputs["x"][:, 0]}, state),
                lambda: cpu.stream(size, state),
                lambda: cpu.stream(size).reset(state),
                lambda: cpu.pool().open(one_of(state, place[0])),
            ]
        for number, way in enumerate(ways):
            with pytest.raises(DataError) as caught:
                way()
            at = [0, *place[1:]] if number == 6 else place
            assert f"state of layer {bad[0]!r}: h is -32768 at {at}, expected -32767…32767" in str(caught.value)
        return
    want = reference.run(inputs, state=state)
    for _ in range(3):
        check_same(cpu.run(inputs, state=state), want)
    if not forward:
        return
    carried, stream = state, cpu.stream(size, state)
    pool = cpu.pool(size)
    numbers = [pool.open(one_of(state, n)) for n in range(size)]
    for t in range(T):
        x = {"x": inputs["x"][:, t]}
        result = cpu.step(x, carried)
        carried = result.state
        for outputs in (result.outputs, stream.step(x), pool.step(numbers, x)):
            np.testing.assert_array_equal(outputs["y"], want.outputs["y"][:, t])
    for got in (carried, stream.state):
        for layer, pair in want.state.layers.items():
            np.testing.assert_array_equal(got.layers[layer][0], pair[0])
            np.testing.assert_array_equal(got.layers[layer][1], pair[1])


def one_of(state: State, n: int) -> State:
    return State({name: (h[n : n + 1], c[n : n + 1]) for name, (h, c) in state.layers.items()})


def test_a_refused_state_leaves_the_stream_as_it_was() -> None:
    stream = session_of("gru", "cpu").stream(1)
    stream.step({"x": np.ones((1, 3))})
    before = stream.state
    layers = {name: (np.full_like(h, -32768), c) for name, (h, c) in before.layers.items()}
    with pytest.raises(DataError, match="h is -32768"):
        stream.reset(State(layers))
    np.testing.assert_array_equal(stream.state.layers["layer0"][0], before.layers["layer0"][0])


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ({"z": np.zeros((2, 20))}, "state 'z' is not a state input of the model; expected some of"),
        ({"x": np.zeros((2, 3))}, "state 'x' is not a state input"),
        ({"state": np.zeros((3, 20))}, "input 'state' has 3 sequences, expected 2"),
        ({"state": np.zeros((2, 19))}, r"shape \[2, 19\], expected \[N, 2, 2, 1, 5\]"),
        ({"state": np.full((2, 20), np.nan)}, "value nan at"),
        ({"state": np.full((2, 20), 1j)}, "type complex128"),
        ({0: np.zeros((2, 20))}, "key 0 of type int"),
    ],
)
def test_state_inputs_of_an_initial_state(states: Any, says: str) -> None:
    model = quantize(
        make_model(Shape("lstm", 3, 5, layers=2, states=True), np.random.default_rng(0)),
        {"x": np.ones((2, 3, 3)), "state": np.ones((2, 2, 2, 1, 5))},
        Scheme(input="8"),
    )
    with pytest.raises(DataError, match=says):
        Session(model, "reference").initial_state(2, states)


@pytest.mark.parametrize("size", [0, -1, 1.0, None, True, "2"])
def test_sizes_of_an_initial_state(size: Any) -> None:
    with pytest.raises(DataError, match=r"size=.*, expected a whole number of at least 1"):
        session_of("gru", "reference").initial_state(size)
