"""Sizes that a file leaves open and nodes say: states with a wrong dynamic axis, outputs without a shape, learned states of any batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.states import initial_states
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

INT = np.int64


def stacked(take: str, dims: list[object]) -> onnx.ModelProto:
    """Two LSTM layers whose states are parts of the inputs h and c."""
    g = Graph()
    y, states = g.input("x", ["t", "n", 4]), [g.input(s, dims) for s in "hc"]
    if take == "split":
        parts = [g.node("Split", [s, g.const(np.array([1, 1], INT))], 2, axis=0) for s in states]
    elif take == "gather":
        parts = [[g.node("Gather", [s, g.const(np.array([k], INT))], axis=0) for k in (0, 1)] for s in states]
    else:
        parts = [[g.slice(s, [k], [k + 1], [0]) for k in (0, 1)] for s in states]
    for k, features in enumerate((4, 5)):
        y = g.recurrent("LSTM", y, features, 5, name=f"l{k}", h=parts[0][k], c=parts[1][k])[0]
        y = g.axes_op("Squeeze", y, [1])
    g.node("Identity", [y], ["out"])
    g.output("out")
    return g.model()


@pytest.mark.parametrize("take", ["slice", "gather", "split"])
def test_the_layers_of_a_state_follow_from_what_is_taken(take: str) -> None:
    feeds = {"x": data(6, 3, 4), "h": data(2, 3, 5, seed=6), "c": data(2, 3, 5, seed=7)}
    model = agree(stacked(take, ["k", "n", 5]), feeds)
    assert {i.name: i.shape for i in model.inputs if i.kind == "state"} == {"h": (2, 5), "c": (2, 5)}
    assert any("leaves the size of axis 0 open; it is 2" in note for note in model.notes)


def test_the_sizes_of_a_state_follow_from_the_weights() -> None:
    g = Graph()
    h = g.input("h", ["k", "n", "size"])
    g.recurrent("GRU", g.input("x", ["t", "n", "f"]), 4, 5, h=h, directions=2, outputs=["y", "last"])
    g.output("last")
    model = agree(g.model(), {"x": data(6, 3, 4), "h": data(2, 3, 5)})
    assert {i.name: i.shape for i in model.inputs} == {"h": (2, 5), "x": (4,)}


def test_features_of_a_matrix() -> None:
    g = Graph()
    y = g.node("MatMul", [g.input("x", ["t", "n", "f"]), g.random(3, 4)])
    g.recurrent("GRU", y, 4, 5, outputs=["y", ""])
    g.output("y", 4)
    assert agree(g.model(), {"x": data(6, 3, 3)}).inputs[0].shape == (3,)


def test_an_output_without_a_shape() -> None:
    g = Graph()
    y = g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5)[0]
    g.axes_op("Squeeze", y, [1], "out")
    g.output("out")
    proto = g.model()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    before = proto.SerializeToString()
    agree(proto, {"x": data(6, 3, 4)})
    assert proto.SerializeToString() == before


def learned(how: str, state: np.ndarray, batch: object = "n") -> onnx.ModelProto:
    """A learned state [1, 1, 5] repeated to the batch, in the ways in which exporters write it."""
    g = Graph()
    x = g.input("x", ["t", batch, 4])
    own = g.const(state.astype(np.float32))
    size = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([1], INT))], axis=0)
    one = g.const(np.array([1], INT))
    if how == "tile":
        h = g.node("Tile", [own, g.node("Concat", [one, size, one], axis=0)])
    elif how == "repeat":  # torch.Tensor.repeat: Expand to ones of the rank of the repeats, then Tile
        repeats = g.node("Concat", [one, size, one], axis=0)
        ones = g.node(
            "ConstantOfShape", [g.node("Shape", [repeats])], value=onnx.numpy_helper.from_array(np.array([1], INT))
        )
        h = g.node("Tile", [g.node("Expand", [own, ones]), repeats])
    elif how == "expand":  # torch.Tensor.expand: -1 keeps a size
        wanted = g.node("Concat", [g.const(np.array([-1], INT)), size, g.const(np.array([-1], INT))], axis=0)
        ones = g.node(
            "ConstantOfShape", [g.node("Shape", [wanted])], value=onnx.numpy_helper.from_array(np.array([1], INT))
        )
        minus = g.node("Mul", [ones, g.const(np.array(-1, INT))])
        h = g.node("Expand", [own, g.node("Where", [g.node("Equal", [wanted, minus]), ones, wanted])])
    else:  # zeros of the batch, and the state added
        zeros = g.node("ConstantOfShape", [g.node("Concat", [one, size, g.const(np.array([5], INT))], axis=0)])
        h = g.node("Add", [zeros, own])
    g.recurrent("GRU", x, 4, 5, h=h, outputs=["y", ""])
    g.output("y", 4)
    return g.model()


@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("how", ["tile", "repeat", "expand", "added"])
def test_learned_states(how: str, batch: object) -> None:
    state = np.random.default_rng(3).normal(size=(1, 1, 5))
    model = agree(learned(how, state, batch), {"x": data(6, 3, 4)})
    layer = next(layer for layer in model.layers if isinstance(layer, Recurrent))
    ((initial, _, _),) = initial_states(layer)
    np.testing.assert_allclose(initial.value, state.reshape(5), rtol=1e-6)
    assert [i.name for i in model.inputs] == ["x"]


@pytest.mark.parametrize("alike", [True, False])
def test_a_state_of_several_sequences_is_expanded_where_these_are_alike(alike: bool) -> None:
    """A file that was exported with a batch of two has states of two."""
    state = np.repeat(np.random.default_rng(4).normal(size=(1, 1, 5)), 2, axis=1)
    if alike:
        agree(learned("expand", state, 2), {"x": data(6, 2, 4)})
    else:
        state[0, 1, 3] += 1.0
        refused_with(UnsupportedError, learned("expand", state, 2), "constants must not differ along the batch")


def test_what_tile_cannot_repeat_is_refused() -> None:
    refused_with(UnsupportedError, learned("tile", np.zeros((1, 2, 5))), "repeats a constant of shape [1, 2, 5]")


def test_a_comparison_that_a_size_decides_is_refused() -> None:
    g = Graph()
    x = g.input("x", ["t", "n", 4])
    size = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([1], INT))], axis=0)
    big = g.node("Greater", [size, g.const(np.array([3], INT))], name="big")
    chosen = g.node("Where", [big, size, g.const(np.array([3], INT))])
    one = g.const(np.array([1], INT))
    h = g.node("ConstantOfShape", [g.node("Concat", [one, chosen, g.const(np.array([5], INT))], axis=0)])
    g.recurrent("GRU", x, 4, 5, h=h, outputs=["y", ""])
    g.output("y", 4)
    says = "compares the size N to 3, which depends on what the model is run on"
    refused_with(UnsupportedError, g.model(), "'big'", says)
