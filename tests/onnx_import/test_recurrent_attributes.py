"""clip, input_forget, peepholes and layout against ONNX Runtime and ONNX's reference implementation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from qrnn.errors import ModelFileError
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model

from .builders import Graph, outputs_of, single
from .running import Arrays, agree, data, refused_with, runtime

OPS = ["LSTM", "GRU", "RNN"]
X = data(6, 3, 4)  # [T, N, I]


refused = partial(refused_with, ModelFileError)


def change(proto: onnx.ModelProto, name: str, array: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """The model with another initializer of this name."""
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return proto


@pytest.mark.parametrize("clip", [0.05, 0.4, 3.0])
@pytest.mark.parametrize(
    ("op", "more"),
    [*((op, {"bias": bias}) for op in OPS for bias in (False, True)), ("GRU", {"linear_before_reset": 1})],
)
def test_clip(op: str, more: dict[str, Any], clip: float) -> None:
    model = agree(single(op, direction="bidirectional", clip=clip, **more), {"X": 3 * X})
    assert model.layers[0].clip == pytest.approx(clip)


def test_clip_leaves_the_cell_and_the_output_activation_alone() -> None:
    """A cell of 8 and h = o · c with clip 0.5: ONNX Runtime clips the gates' arguments only."""
    identity = {"activations": ["Affine"] * 3, "activation_alpha": [1.0] * 3, "activation_beta": [0.0] * 3}
    proto = single("LSTM", states=True, peepholes=True, clip=0.5, **identity)
    feeds = {"X": X[:1], "initial_h": data(1, 3, 5), "initial_c": np.full((1, 3, 5), 8, np.float32)}
    model = agree(proto, feeds)
    assert abs(runtime(proto, feeds)["Y_c"]).max() > 0.5
    assert any("clip=0.5 bounds the arguments of the gates and the candidate, not the cell" in n for n in model.notes)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), -float("inf")])
@pytest.mark.parametrize("op", OPS)
def test_clip_must_be_positive(op: str, clip: float) -> None:
    refused(single(op, clip=clip), f"node 'node' ({op}, opset 14): clip={clip}, expected a positive number; re-export")


def test_infinite_clip_is_none() -> None:
    assert agree(single("LSTM", clip=float("inf")), {"X": X}).layers[0].clip is None


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_coupled_gates(direction: str, peepholes: bool) -> None:
    """The forget gate is 1 - i; the file's rows of f are not used, and not imported."""
    proto = single("LSTM", direction=direction, input_forget=1, peepholes=peepholes, states=True, clip=1.5)
    count = 2 if direction == "bidirectional" else 1
    feeds = {"X": X, "initial_h": data(count, 3, 5), "initial_c": data(count, 3, 5, seed=2)}
    model = agree(proto, feeds)
    layer = model.layers[0]
    assert (layer.forget, layer.gates, layer.hidden_size) == ("coupled", ("i", "g", "o"), 5)
    assert layer.directions[0].weight_ih.shape == (15, 4)
    assert any("input_forget=1 makes f = 1 - i; the rows of f" in note for note in model.notes)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_peepholes(direction: str, lengths: bool) -> None:
    proto = single("LSTM", direction=direction, peepholes=True, lengths=lengths)
    feeds: Arrays = {"X": X} | ({"lens": np.array([6, 2, 0], np.int32)} if lengths else {})
    model = agree(proto, feeds)
    p = next(numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == "node_P")
    i, o, f = np.split(p[0], 3)
    np.testing.assert_array_equal(model.layers[0].directions[0].peephole, np.concatenate([i, f, np.zeros(5), o]))


def test_peepholes_of_zero_are_none() -> None:
    proto = change(single("LSTM", peepholes=True), "node_P", np.zeros((1, 15)))
    assert import_model(proto, "test").layers[0].directions[0].peephole is None


@pytest.mark.parametrize("shape", [(1, 20), (2, 15), (15,)])
def test_peepholes_of_another_shape(shape: tuple[int, ...]) -> None:
    proto = change(single("LSTM", peepholes=True), "node_P", np.ones(shape))
    refused(proto, f"node 'node' (LSTM, opset 14): P has shape {list(shape)}, expected [1, 15]")


def batch_first(feeds: Arrays, back: bool = False) -> Arrays:
    """The arrays of layout 0 as those of layout 1: only Y has four axes. ``back``: the other way round."""
    y = (1, 2, 0, 3) if back else (2, 0, 1, 3)
    axes = {1: (0,), 3: (1, 0, 2), 4: y}
    return {name: value.transpose(axes[value.ndim]) for name, value in feeds.items()}


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", OPS)
def test_layout(op: str, direction: str, lengths: bool) -> None:
    """ONNX Runtime has no layout 1: its layout 0 on transposed arrays is the measure."""
    settings: dict[str, Any] = {"direction": direction, "states": True, "lengths": lengths}
    count = 2 if direction == "bidirectional" else 1
    feeds: Arrays = {"X": X, "initial_h": data(count, 3, 5)}
    if op == "LSTM":
        feeds["initial_c"] = data(count, 3, 5, seed=2)
    if lengths:
        feeds["lens"] = np.array([2, 0, 6], np.int32)
    expected = batch_first(runtime(single(op, **settings), feeds))
    model = agree(single(op, layout=1, **settings), batch_first(feeds), expected)
    places = {place.name: (place.batch_axis, place.time_axis) for place in (*model.inputs, *model.outputs)}
    assert places["X"] == places["Y"] == (0, 1)
    assert places["initial_h"] == places["Y_h"] == (0, None)
    assert {o.shape for o in model.outputs} == {(count, 5)}


@pytest.mark.parametrize("op", OPS)
def test_layout_of_the_reference_implementation(op: str) -> None:
    proto = single(op, layout=1)
    feeds = batch_first({"X": X})
    expected = dict(zip(outputs_of(op), ReferenceEvaluator(proto).run(None, feeds), strict=True))
    agree(proto, feeds, expected)


def stacked(layout: int) -> onnx.ModelProto:
    """The graph is x [N, T, 4] → two layers → the last step and all steps, by axis numbers that depend on the layout."""
    g = Graph(14)
    value = g.input("x", ["n", "t", 4])
    attributes = {"layout": 1} if layout else {}
    for name, features in (("one", 4), ("two", 5)):
        if not layout:
            value = g.node("Transpose", [value], perm=[1, 0, 2])
        y, last = g.recurrent("GRU", value, features, 5, name=name, **attributes)
        value = g.axes_op("Squeeze", y, [2 if layout else 1])
        if not layout:
            value = g.node("Transpose", [value], perm=[1, 0, 2])
    g.node("MatMul", [value, g.random(5, 3)], ["every"])
    g.node("Gemm", [g.axes_op("Squeeze", last, [1 if layout else 0]), g.random(5, 2)], ["last"])
    g.output("every")
    g.output("last", 2)
    return g.model()


def test_layout_inside_a_graph() -> None:
    feeds = {"x": data(3, 6, 4)}
    model = agree(stacked(1), feeds, runtime(stacked(0), feeds))
    assert sum(isinstance(layer, Recurrent) for layer in model.layers) == 2


def test_layout_in_a_graph_of_one_step() -> None:
    """Inputs x [N, F] and h [N, 5] become [N, 1, F] and [N, 1, 5]."""
    g = Graph(14)
    x, h = g.input("x", ["n", 4]), g.input("h", ["n", 5])
    y, last = g.recurrent("GRU", g.axes_op("Unsqueeze", x, [1]), 4, 5, h=g.axes_op("Unsqueeze", h, [1]), layout=1)
    g.axes_op("Squeeze", last, [1], "h_out")
    g.node("MatMul", [g.axes_op("Squeeze", y, [1, 2]), g.random(5, 3)], ["out"])
    g.output("h_out", 2)
    g.output("out", 2)
    model = import_model(g.model(), "test")
    assert model.one_step
    assert [(o.name, o.has_time) for o in model.outputs] == [("h_out", False), ("out", True)]


def test_layout_has_two_values() -> None:
    refused(
        single("GRU", layout=2), "node 'node' (GRU, opset 14): layout=2, expected 0 (time first) or 1 (batch first)"
    )


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("attribute", ["output_sequence", "zoneout"])
def test_unknown_attributes(op: str, attribute: str) -> None:
    refused(single(op, **{attribute: 1}), attribute, op)
