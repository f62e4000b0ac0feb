"""Encoders and decoders: initial states that a graph computes, and inputs over several time axes; against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from schemes import SHORTS

from qrnn import Session, UnsupportedError
from qrnn.conversion import quantize
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.cell_values import CellValues
from qrnn.model.kinds.repeat import Repeat
from qrnn.onnx_import import import_model

from .builders import GATES, Graph
from .running import Arrays, agree, data, refused_with

PAST, FUTURE = 6, 3
"""The steps of the two inputs in what is run."""


def graph(past: Any = "t_past", future: Any = "t_future") -> tuple[Graph, str, str]:
    """A graph with inputs past [T, N, 4] and future [T', N, 3], time-major as the operators are."""
    g = Graph()
    return g, g.input("past", [past, "n", 4]), g.input("future", [future, "n", 3])


def inputs() -> Arrays:
    return {"past": data(PAST, 2, 4), "future": data(FUTURE, 2, 3, seed=6)}


def finished(g: Graph, y: str, hidden: int) -> Any:
    """The graph with Y [T', D, N, H] through a MatMul as its output, and the model."""
    squeezed = g.node("ReduceSum", [y, g.const(np.array([1]))], keepdims=0)
    g.node("MatMul", [squeezed, g.random(hidden, 2)], ["out"])
    g.output("out")
    return g.model()


def axes(model: FloatModel) -> dict[str, str]:
    return {i.name: i.axis for i in model.inputs if i.has_time}


@settings(deadline=None, max_examples=12)
@given(draw=st.data())
def test_drawn_encoders_and_decoders(draw: st.DataObject) -> None:
    """Cells, directions, fixed and free steps, states as they are, through a layer, joined, and split."""
    fixed = draw.draw(st.booleans())
    g, past, future = graph(*((PAST, FUTURE) if fixed else ("t_past", "t_future")))
    cell, other = (draw.draw(st.sampled_from(list(GATES))) for _ in range(2))
    both = draw.draw(st.booleans())
    finals = g.recurrent(cell, past, 4, 5, "encoder", directions=2 if both else 1)[1:]
    size, made = 5 * (2 if both else 1), {}
    for state in ("h", "c")[: 2 if other == "LSTM" else 1]:
        final = draw.draw(st.sampled_from(finals))
        rows = g.node("Transpose", [final], perm=[1, 0, 2])
        rows = g.node("Reshape", [rows, g.const(np.array([-1, size]))])
        if draw.draw(st.booleans()):
            rows = g.node("Gemm", [rows, g.random(size, size), g.random(size)])
            rows = g.node("Tanh", [rows]) if draw.draw(st.booleans()) else rows
        made[state] = g.axes_op("Unsqueeze", rows, [0])
    y = g.recurrent(other, future, 3, size, "decoder", **made)[0]
    model = agree(finished(g, y, size), inputs())
    assert axes(model) == ({"past": "past", "future": "future"} if fixed else {"past": "t_past", "future": "t_future"})


@pytest.mark.parametrize("cell", list(GATES))
def test_layer_by_layer(cell: str) -> None:
    """Layer k of a bidirectional encoder of two layers starts layer k of a decoder that is bidirectional too."""
    g, past, future = graph()
    x, y, wide = past, future, (4, 3)
    for layer in range(2):
        x, *finals = g.recurrent(cell, x, wide[0], 5, f"e{layer}", directions=2)
        states = dict(zip("hc", finals, strict=False))
        y, *_ = g.recurrent(cell, y, wide[1], 5, f"d{layer}", directions=2, **states)
        x, y = (
            g.node("Reshape", [g.node("Transpose", [v], perm=[0, 2, 1, 3]), g.const(np.array([0, 0, -1]))])
            for v in (x, y)
        )
        wide = (10, 10)
    g.node("Tanh", [y], ["out"])
    g.output("out")
    model = agree(g.model(), inputs())
    assert [len(layer.h_start) for layer in model.recurrent_layers] == [0, 1, 0, 1]
    assert not any(isinstance(layer, CellValues) for layer in model.layers)  # c goes on as it is


def test_features_without_time_start_a_layer() -> None:
    g = Graph()
    x, z = g.input("x", ["t", "n", 4]), g.input("z", ["n", 3])
    h = g.axes_op("Unsqueeze", g.node("Tanh", [g.node("Gemm", [z, g.random(3, 5), g.random(5)])]), [0])
    y = g.recurrent("LSTM", x, 4, 5, "decoder", h=h)[0]
    model = agree(finished(g, y, 5), {"x": data(7, 2, 4), "z": data(2, 3)})
    assert axes(model) == {"x": "time"}
    made = quantize(model, {"x": data(4, 7, 4), "z": data(4, 3)}, SHORTS)
    assert Session(made).stream(2).step({"x": data(2, 4), "z": data(2, 3)})["out"].shape == (2, 2)


def test_two_sequences_joined_by_their_last_states() -> None:
    g, past, future = graph()
    ends = [g.recurrent("LSTM", past, 4, 5, "a")[2], g.recurrent("GRU", future, 3, 4, "b")[1]]
    joined = g.node("Concat", [g.axes_op("Squeeze", end, [0]) for end in ends], axis=1)
    g.node("Gemm", [joined, g.random(9, 2), g.random(2)], ["out"])
    g.output("out", 2)
    agree(g.model(), inputs())


def test_a_last_state_at_every_step_of_another_sequence() -> None:
    """An encoder's vector is expanded to the steps of the decoder's input, fixed ones and free ones."""
    for steps in ("t_future", FUTURE):
        g, past, future = graph(PAST if steps == FUTURE else "t_past", steps)
        h = g.recurrent("GRU", past, 4, 5, "encoder")[1]
        count: str = g.node("Shape", [future], end=2, start=0)
        target = g.node("Concat", [count, g.const(np.array([5]))], axis=0)
        x = g.node("Concat", [future, g.node("Expand", [h, target])], axis=2)
        model = agree(finished(g, g.recurrent("GRU", x, 8, 5, "decoder", h=h)[0], 5), inputs())
        assert any(isinstance(layer, Repeat) for layer in model.layers)


def test_attention_over_the_encoder() -> None:
    g, past, future = graph()
    e, h = g.recurrent("GRU", past, 4, 5, "encoder")
    d = g.recurrent("GRU", future, 3, 5, "decoder", h=h)[0]
    keys, queries = (g.node("Transpose", [g.axes_op("Squeeze", v, [1])], perm=[1, 0, 2]) for v in (e, d))
    scores = g.node("MatMul", [queries, g.node("Transpose", [keys], perm=[0, 2, 1])])
    g.node("MatMul", [g.node("Softmax", [scores], axis=-1), keys], ["out"])
    g.output("out")
    agree(g.model(), inputs())


def test_tokens_of_a_decoder() -> None:
    g = Graph()
    past, future = g.input("past", ["t", "n", 4]), g.input("future", ["s", "n"], TensorProto.INT64)
    h = g.recurrent("GRU", past, 4, 5, "encoder")[1]
    x = g.node("Gather", [g.random(7, 3), future])
    tokens = np.random.default_rng(0).integers(0, 7, (FUTURE, 2))
    model = agree(
        finished(g, g.recurrent("GRU", x, 3, 5, "decoder", h=h)[0], 5), {"past": data(PAST, 2, 4), "future": tokens}
    )
    assert axes(model) == {"past": "t", "future": "s"}


def test_lengths_of_each_sequence() -> None:
    """Each time axis may have a sequence_lens of its own."""
    g, past, future = graph()
    lens = [g.input(name, ["n"], TensorProto.INT32) for name in ("l_past", "l_future")]
    h = g.recurrent("GRU", past, 4, 5, "encoder", lengths=lens[0])[1]
    y = g.recurrent("GRU", future, 3, 5, "decoder", h=h, lengths=lens[1])[0]
    proto = finished(g, y, 5)
    lengths = {"l_past": np.array([6, 2], np.int32), "l_future": np.array([1, 3], np.int32)}
    model = import_model(proto, "test")
    assert {i.name: i.axis for i in model.inputs} == {
        "past": "t_past", "future": "t_future", "l_past": "t_past", "l_future": "t_future",
    }  # fmt: skip
    agree(proto, inputs() | lengths)


def test_inputs_that_a_node_joins_share_a_time_axis() -> None:
    """Whatever their free sizes are called, what is added step by step has one number of steps."""
    g, past, future = graph()
    x = g.node("Concat", [past, future], axis=2)
    g.recurrent("GRU", x, 7, 5, outputs=["y", "h"])
    g.output("h")
    assert axes(import_model(g.model(), "test")) == {"past": "time", "future": "time"}


def test_two_numbers_of_steps_that_a_node_joins() -> None:
    g, past, future = graph(PAST, FUTURE)
    x = g.node("Concat", [past, future], axis=2)
    g.recurrent("GRU", x, 7, 5, outputs=["y", "h"])
    g.output("h")
    refused_with(UnsupportedError, g.model(), "the inputs declare different numbers of time steps [3, 6]")


def test_a_state_over_time_is_no_initial_state() -> None:
    g = Graph()
    x = g.input("x", ["n", 4])
    h = g.axes_op("Unsqueeze", g.node("Tanh", [g.node("MatMul", [x, g.random(4, 5)])]), [0])
    g.recurrent("GRU", g.axes_op("Unsqueeze", x, [0]), 4, 5, "decoder", h=h, outputs=["y", "hn"])
    g.output("hn")
    refused_with(UnsupportedError, g.model(), "node 'decoder'", "initial_h", "which is over time")


def test_a_state_input_beside_computed_elements() -> None:
    g = Graph()
    x, h = g.input("x", ["t", "n", 4]), g.input("h", [1, "n", 2])
    last = g.recurrent("GRU", x, 4, 3, "encoder")[1]
    g.recurrent("GRU", x, 4, 5, "decoder", h=g.node("Concat", [h, last], axis=2), outputs=["y", "hn"])
    g.output("hn")
    refused_with(UnsupportedError, g.model(), "node 'decoder'", "made of the state input 'h' and of other values")
