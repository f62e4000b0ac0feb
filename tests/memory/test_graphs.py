"""What a graph of one step per call remembers: what ONNX Runtime does when it is called once per step."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_import.builders import Graph, outputs_of
from onnx_import.running import data

from memory.graphs import SHAPES, F, H, called, features, one_step, place, stacked, states
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError, UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model

OPS = ("LSTM", "GRU", "RNN")
N = 3


def remembers(model: FloatModel) -> list[bool]:
    return [layer.memory for layer in model.layers if isinstance(layer, Recurrent)]


def state_values(op: str, size: int = N, name: str = "") -> dict[str, Any]:
    return {s: data(1, size, H, seed=7 + k) for k, s in enumerate(states(op, True, name=name))}


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)


def batch_first(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.transpose(1, 0, 2) for name, value in values.items()}


@settings(max_examples=60, deadline=None)
@given(
    op=st.sampled_from(OPS),
    shape=st.sampled_from(SHAPES),
    rows=st.integers(1, 5),
    axis=st.booleans(),
    initial=st.booleans(),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    seed=st.integers(0, 3),
)
def test_rows_are_independent(
    op: str, shape: str, rows: int, axis: bool, initial: bool, direction: str, seed: int
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    proto = one_step(op, shape, initial=initial, direction=direction, directions=directions)
    model = import_model(proto, "test")
    assert remembers(model) == [False] * directions  # of one step, each way is a layer
    assert model.rows
    assert "keeps nothing between calls" in model.notes[0]
    x = data(rows, F, seed=seed)
    want = called(proto, shape, x[:, None], {}, {})[:, 0]
    given_x = x.reshape(rows, *model.inputs[0].shape)
    got = run_oracle(model, {"x": given_x[:, None] if axis else given_x}).outputs["y"]
    close(got, want[:, None] if axis else want)
    close(run_oracle(model, {"x": x}).outputs["y"], want)  # features flat, whatever their shape


@pytest.mark.parametrize("shape", SHAPES)
def test_more_than_one_step_is_refused(shape: str) -> None:
    model = import_model(one_step("GRU", shape), "test")
    for size, steps in ((1, 6), (2, 3)):
        with pytest.raises(DataError, match=r"give its rows as \[6, ") as caught:
            run_oracle(model, {"x": data(size, steps, *model.inputs[0].shape)})
        assert "--stream" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_inputs_with_and_without_the_axis_are_refused() -> None:
    g = Graph()
    a, b = g.input("a", ["n", F]), g.input("b", ["n", F])
    g.recurrent("GRU", g.axes_op("Unsqueeze", g.node("Concat", [a, b], axis=1), [0]), 2 * F, H, outputs=["Y", "Y_h"])
    g.output("Y", 4)
    model = import_model(g.model(), "test")
    with pytest.raises(DataError, match=r"input 'b' has the axis of one step and input 'a' has not"):
        run_oracle(model, {"a": data(2, F), "b": data(2, 1, F)})


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_stream_carries_the_state(op: str, shape: str) -> None:
    """The result is that of the same weights in a graph whose states are inputs and outputs."""
    shown = import_model(one_step(op, shape, state_in=True, state_out=True), "test")
    model = import_model(one_step(op, shape), "test", stream=True)
    assert remembers(model) == [True]
    assert not model.rows
    assert not shown.rows
    assert "--stream" in model.notes[0]
    x = data(N, 4, *model.inputs[0].shape)
    want = run_oracle(shown, {"x": x}).outputs["y"]
    close(run_oracle(model, {"x": x}).outputs["y"].reshape(want.shape), want)


@settings(max_examples=30, deadline=None)
@given(
    op=st.sampled_from(OPS),
    shape=st.sampled_from(SHAPES),
    steps=st.integers(1, 4),
    given_states=st.booleans(),
    direction=st.sampled_from(["forward", "reverse"]),
)
def test_states_in_and_out_are_carried(op: str, shape: str, steps: int, given_states: bool, direction: str) -> None:
    proto = one_step(op, shape, state_in=True, state_out=True, direction=direction)
    for stream in (False, True):
        model = import_model(proto, "test", stream=stream)
        assert remembers(model) == [True]
        x = data(N, steps, F)
        begin = state_values(op)
        zeros = {name: np.zeros_like(value) for name, value in begin.items()}
        carry = dict(zip(begin, outputs_of(op)[1:], strict=True))
        want = called(proto, shape, x, begin if given_states else zeros, carry)
        arrays = {"x": x.reshape(N, steps, *model.inputs[0].shape)}
        got = run_oracle(model, arrays | (batch_first(begin) if given_states else {})).outputs["y"]
        close(got, want)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_states_in_alone_begin_every_call(op: str, shape: str) -> None:
    proto = one_step(op, shape, state_in=True)
    model = import_model(proto, "test")
    assert remembers(model) == [False]
    assert "the values given for " in model.notes[0]
    x, begin = data(N, F), state_values(op)
    want = called(proto, shape, x[:, None], begin, {})[:, 0]
    close(run_oracle(model, {"x": x, **batch_first(begin)}).outputs["y"], want)


@pytest.mark.parametrize("op", OPS)
def test_states_out_alone_begin_every_call(op: str) -> None:
    proto = one_step(op, state_out=True)
    model = import_model(proto, "test")
    assert remembers(model) == [False]
    x = data(N, F)
    close(run_oracle(model, {"x": x}).outputs["y"], called(proto, SHAPES[0], x[:, None], {}, {})[:, 0])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_layer_by_layer(op: str, first: bool, second: bool) -> None:
    proto = stacked(op, first, second)
    model = import_model(proto, "test")
    assert remembers(model) == [first, second]
    assert not model.rows
    assert f"(rnn{int(first)})" in model.notes[0]
    name = "1" if second else "0"
    x, begin = data(N, 4, F), state_values(op, name=name)
    carry = dict(zip(begin, [f"{o}{name}" for o in outputs_of(op)[1:]], strict=True))
    want = called(proto, SHAPES[0], x, begin, carry)
    close(run_oracle(model, {"x": x, **batch_first(begin)}).outputs["y"], want)
    assert remembers(import_model(proto, "test", stream=True)) == [True, True]


def lstm_with(state_in: str, out: list[str], swapped: bool = False) -> onnx.ModelProto:
    """An LSTM of one step with state inputs among h and c, and the graph outputs ``out``."""
    g = Graph()
    x = features(g, SHAPES[0])
    h, c = (g.input(s, [1, "n", H]) if s in state_in else "" for s in "hc")
    g.recurrent("LSTM", x, F, H, name="cell", h=h, c=c, outputs=["Y", "Y_h", "Y_c"])
    for name in out:
        g.output(name, 4 if name == "Y" else 3)
    return g.model()


@pytest.mark.parametrize(("state_in", "out"), [("h", ["Y", "Y_h"]), ("hc", ["Y", "Y_h"]), ("c", ["Y", "Y_c"])])
def test_a_part_of_the_states_is_refused(state_in: str, out: list[str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(lstm_with(state_in, out), "test")
    message = str(caught.value)
    assert "layer 'cell' (LSTM) gives out a part of its states" in message
    assert "--stream" in message
    assert remembers(import_model(lstm_with(state_in, out), "test", stream=True)) == [True]


def test_y_is_h_where_c_comes_out_too() -> None:
    proto = lstm_with("hc", ["Y", "Y_c"])
    model = import_model(proto, "test")
    assert remembers(model) == [True]
    assert remembers(import_model(lstm_with("hc", ["Y"]), "test")) == [False]


def test_a_state_that_starts_two_layers_is_refused() -> None:
    g = Graph()
    x, h = features(g, SHAPES[0]), g.input("h", [1, "n", H])
    first = g.recurrent("GRU", x, F, H, name="a", h=h, outputs=["Y", "h_out"])
    g.recurrent("GRU", g.axes_op("Squeeze", first[0], [1]), H, H, name="b", h=h, outputs=["y", "other"])
    g.output("y", 4)
    g.output("h_out")
    with pytest.raises(UnsupportedError, match=r"state input 'h' starts 2 states, of which output 'h_out' gives one"):
        import_model(g.model(), "test")


def test_states_of_another_shape_are_carried() -> None:
    """The graph takes h [n, H] and gives h_n [1, n, H], which the caller reshapes."""
    g = Graph()
    x = features(g, SHAPES[0])
    h = g.axes_op("Unsqueeze", g.input("h", ["n", H]), [0])
    g.recurrent("GRU", x, F, H, h=h, outputs=["Y", "Y_h"])
    g.output("Y", 4)
    g.output("Y_h")
    assert remembers(import_model(g.model(), "test")) == [True]


def test_reverse_is_refused_with_stream() -> None:
    proto = one_step("GRU", direction="reverse")
    with pytest.raises(UnsupportedError, match=r"runs in reverse in a graph of one step per call.*--stream"):
        import_model(proto, "test", stream=True)


def test_the_graph_own_input() -> None:
    """`place` gives what the graphs declare."""
    for shape in SHAPES:
        proto = one_step("GRU", shape)
        declared = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
        array = place(shape, data(1, F))
        assert array.ndim == len(declared)
        assert all(size in (0, got) for size, got in zip(declared, array.shape, strict=True))
