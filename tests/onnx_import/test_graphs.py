"""Generated graphs: the imported model computes what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from qrnn.equations.oracle import run_oracle
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.softmax import Softmax
from qrnn.onnx_import import import_model

from .builders import Graph, head
from .running import data, runtime

N, T = 3, 6


def check(proto: onnx.ModelProto, feeds: dict[str, Any], lead: dict[str, tuple[int, ...]] | None = None) -> Any:
    """Oracle and ONNX Runtime agree; ``lead`` gives the permutation of an array that brings it to batch first."""
    lead = lead or {}

    def batch_first(name: str, value: np.ndarray) -> np.ndarray:
        return value.transpose(lead[name]) if name in lead else value

    model = import_model(proto, "test")
    got = run_oracle(model, {k: batch_first(k, v) for k, v in feeds.items()}).outputs
    for name, value in runtime(proto, feeds).items():
        np.testing.assert_allclose(got[name], batch_first(name, value), atol=1e-5, rtol=0, err_msg=name)
    return model


NEWEST_HERE = 21  # ONNX Runtime may be older than onnx: newer opsets are checked for structure only


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_opsets(op: str, opset: int) -> None:
    proto = head(op, opset)
    if opset <= NEWEST_HERE:
        model = check(proto, {"x": data(N, T, 4)})
    else:
        model = import_model(proto, "test")
    assert [type(layer) for layer in model.layers] == [Recurrent, Dense]
    assert model.opset == opset


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_directions_and_lengths(op: str, direction: str) -> None:
    check(head(op, direction=direction), {"x": data(N, T, 4)})
    proto = head(op, direction=direction, lengths=True)
    model = import_model(proto, "test")
    assert [i.kind for i in model.inputs] == ["features", "lengths"]
    lengths = np.array([6, 2, 4], dtype=np.int32)
    x = data(N, T, 4)
    expected = runtime(proto, {"x": x, "lens": lengths})["logits"]
    got = run_oracle(model, {"x": x, "lens": lengths}).outputs["logits"]
    for n, length in enumerate(lengths):
        np.testing.assert_allclose(got[n, :length], expected[n, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_gru_reset_forms(linear_before_reset: int) -> None:
    model = check(head("GRU", linear_before_reset=linear_before_reset), {"x": data(N, T, 4)})
    assert model.layers[0].linear_before_reset == bool(linear_before_reset)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LSTM", {"activations": ["HARDSIGMOID", "tanh", "Tanh"]}),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.25]}),
        ("RNN", {"activations": ["Relu"]}),
        (
            "LSTM",
            {
                "direction": "bidirectional",
                "activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Tanh", "Tanh"],
                "activation_alpha": [0.3],
                "activation_beta": [0.45],
            },
        ),
        ("RNN", {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}),
    ],
)
def test_activations(op: str, attributes: dict[str, Any]) -> None:
    check(head(op, **attributes), {"x": data(N, T, 4)})


def test_missing_bias_is_zero() -> None:
    model = check(head("GRU", bias=False), {"x": data(N, T, 4)})
    assert not model.layers[0].directions[0].bias_hh.any()


def test_time_major() -> None:
    g = Graph()
    y = g.recurrent("LSTM", g.input("x", ["t", "n", 4]), 4, 5)[0]
    g.node("Softmax", [g.axes_op("Squeeze", y, [1])], ["out"], axis=-1)
    g.output("out")
    model = check(g.model(), {"x": data(T, N, 4)}, {"x": (1, 0, 2), "out": (1, 0, 2)})
    assert [type(layer) for layer in model.layers] == [Recurrent, Softmax]
    assert [(v.batch_axis, v.time_axis) for v in (model.inputs[0], model.outputs[0])] == [(1, 0), (1, 0)]


def test_one_step_with_unsqueeze() -> None:
    """Silero's shape of a graph: x [N, F], state [2, N, H] in and out, h_n feeds the decoder."""
    g = Graph(opset=16)
    x = g.input("x", ["n", 4])
    state = g.input("state", [2, "n", 5])
    h = g.axes_op("Unsqueeze", g.node("Gather", [state, g.const(np.int64(0))], axis=0), [0])
    c = g.slice(state, [1], [2], [0])
    _, yh, yc = g.recurrent("LSTM", g.axes_op("Unsqueeze", x, [0]), 4, 5, h=h, c=c)
    hidden = g.axes_op("Squeeze", yh, [0])
    logit = g.node("Gemm", [g.node("Relu", [hidden]), g.random(5, 1)])
    g.node("Sigmoid", [logit], ["out"])
    g.node("Concat", [yh, yc], ["state_out"], axis=0)
    g.output("out", 2)
    g.output("state_out")
    proto = g.model()
    model = import_model(proto, "test")
    assert model.one_step
    assert [(o.name, o.shape, o.has_time) for o in model.outputs] == [("out", (1,), True), ("state_out", (2, 5), False)]
    xs, s = data(N, T, 4), data(2, N, 5, seed=6)
    result = run_oracle(model, {"x": xs, "state": s.transpose(1, 0, 2)}).outputs
    for t in range(T):
        step = runtime(proto, {"x": xs[:, t], "state": s})
        s = step["state_out"]
        np.testing.assert_allclose(result["out"][:, t], step["out"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(result["state_out"], s.transpose(1, 0, 2), atol=1e-5, rtol=0)


def test_one_step_with_literal_reshapes() -> None:
    """[1, F] reshaped to [1, 1, F]: which 1 is batch is not said, and does not matter."""
    g = Graph()
    x, h = g.input("x", [1, 4]), g.input("h", [1, 5])
    x3 = g.node("Reshape", [x, g.const(np.array([1, 1, 4]))])
    y, yh = g.recurrent("GRU", x3, 4, 5, h=g.node("Reshape", [h, g.const(np.array([1, 1, 5]))]))
    g.node("Gemm", [g.node("Reshape", [y, g.const(np.array([1, 5]))]), g.random(5, 3)], ["out"])
    g.node("Reshape", [yh, g.const(np.array([1, 5]))], ["h_out"])
    g.output("out", 2)
    g.output("h_out", 2)
    proto = g.model()
    model = import_model(proto, "test")
    assert model.one_step
    assert [(i.kind, i.shape, i.has_time) for i in model.inputs] == [("features", (4,), True), ("state", (5,), False)]
    xs, s = data(1, T, 4), data(1, 5)
    result = run_oracle(model, {"x": xs, "h": s}).outputs
    for t in range(T):
        step = runtime(proto, {"x": xs[:, t], "h": s})
        s = step["h_out"]
        np.testing.assert_allclose(result["out"][:, t], step["out"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(result["h_out"], s, atol=1e-5, rtol=0)


def test_bfloat16_weights() -> None:
    proto = head("GRU")
    values = {}
    for k, tensor in enumerate(proto.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            bits = (array.view(np.uint32) >> 16).astype(np.uint16)
            values[tensor.name] = (bits.astype(np.uint32) << 16).view(np.float32)
            raw = onnx.helper.make_tensor(tensor.name, TensorProto.BFLOAT16, array.shape, bits.tobytes(), raw=True)
            proto.graph.initializer[k].CopyFrom(raw)
    for info in proto.graph.input:
        info.type.tensor_type.elem_type = TensorProto.BFLOAT16
    got = import_model(proto, "test").layers[0].directions[0].weight_ih
    np.testing.assert_array_equal(got[:5], values["rnn1_W"][0, 5:10])  # ONNX z r n, here r z n


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_states_in_and_out(op: str) -> None:
    g = Graph()
    x = g.input("x", ["n", "t", 4])
    h = g.input("h0", [2, "n", 5])
    c = g.input("c0", [2, "n", 5]) if op == "LSTM" else ""
    outputs = ["y", "hn", "cn"] if op == "LSTM" else ["y", "hn"]
    g.recurrent(op, g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, h=h, c=c, outputs=outputs, directions=2)
    for name in outputs:
        g.output(name, 4 if name == "y" else 3)
    feeds = {"x": data(N, T, 4), "h0": data(2, N, 5)} | ({"c0": data(2, N, 5, seed=9)} if op == "LSTM" else {})
    swap = (1, 0, 2)
    model = check(g.model(), feeds, {"h0": swap, "c0": swap, "hn": swap, "cn": swap, "y": (2, 0, 1, 3)})
    assert [i.kind for i in model.inputs][1:] == ["state"] * (len(outputs) - 1)
    assert (model.outputs[0].shape, model.outputs[0].has_time) == ((2, 5), True)
    assert (model.outputs[0].batch_axis, model.outputs[0].time_axis) == (2, 0)
    assert [(i.batch_axis, i.time_axis) for i in model.inputs[:2]] == [(0, 1), (1, None)]


def test_forward_and_reverse_nodes_with_concat() -> None:
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    a = g.axes_op("Squeeze", g.recurrent("GRU", xt, 4, 5, name="fw")[0], [1])
    b = g.axes_op("Squeeze", g.recurrent("GRU", xt, 4, 3, name="bw", direction="reverse")[0], [1])
    joined = g.node("Transpose", [g.node("Concat", [a, b], axis=-1)], perm=[1, 0, 2])
    y = g.recurrent("LSTM", g.node("Transpose", [joined], perm=[1, 0, 2]), 8, 4, name="top")[0]
    g.node("Transpose", [g.axes_op("Squeeze", y, [1])], ["out"], perm=[1, 0, 2])
    g.output("out")
    model = check(g.model(), {"x": data(N, T, 4)})
    assert [type(layer) for layer in model.layers] == [Recurrent, Recurrent, Concat, Recurrent]


@pytest.mark.parametrize("how", ["gather", "slice", "y_slice", "y_gather"])
def test_last_step_heads(how: str) -> None:
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y, yh, _ = g.recurrent("LSTM", xt, 4, 5, directions=2 if how in ("gather", "slice") else 1)
    if how == "gather":
        last = g.node("Gather", [yh, g.const(np.int64(-1))], axis=0)
    elif how == "slice":
        last = g.axes_op("Squeeze", g.slice(yh, [-1], [2**63 - 1], [0]), [0])
    elif how == "y_slice":
        last = g.axes_op("Squeeze", g.slice(y, [-1], [2**63 - 1], [0]), [0, 1])
    else:
        last = g.axes_op("Squeeze", g.node("Gather", [y, g.const(np.int64(-1))], axis=0), [0])
    g.node("Gemm", [last, g.random(3, 5), g.random(3)], ["out"], transB=1, alpha=0.5, beta=2.0)
    g.output("out", 2)
    model = check(g.model(), {"x": data(N, T, 4)})
    assert any(isinstance(layer, LastStep) for layer in model.layers) == how.startswith("y_")
    assert not model.outputs[0].has_time


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT64, TensorProto.FLOAT])
def test_embedding(kind: int) -> None:
    g = Graph()
    tokens = g.node("Cast", [g.input("tokens", ["n", "t"], kind)], to=TensorProto.INT64)
    rows = g.node("Gather", [g.random(7, 4), tokens])
    y = g.recurrent("GRU", g.node("Transpose", [rows], perm=[1, 0, 2]), 4, 5)[0]
    g.node("Transpose", [g.axes_op("Squeeze", y, [1])], ["out"], perm=[1, 0, 2])
    g.output("out")
    tokens_in = np.random.default_rng(0).integers(0, 7, size=(N, T))
    feeds = {"tokens": tokens_in.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))}
    model = import_model(g.model(), "test")
    got = run_oracle(model, {"tokens": tokens_in}).outputs["out"]
    np.testing.assert_allclose(got, runtime(g.model(), feeds)["out"], atol=1e-5, rtol=0)
    assert (model.inputs[0].kind, model.inputs[0].vocabulary) == ("tokens", 7)


def test_parts_of_features_permute_weights() -> None:
    """Slices, reversed order and a repeated feature of one tensor need no Concat layer."""
    g = Graph()
    x = g.input("x", ["n", "t", 6])
    picked = g.node("Gather", [x, g.const(np.array([5, 0, 2, 2], dtype=np.int64))], axis=2)
    y = g.recurrent("GRU", g.node("Transpose", [picked], perm=[1, 0, 2]), 4, 5)[0]
    flipped = g.slice(g.axes_op("Squeeze", y, [1]), [0], [3], [2])
    left, right = g.node("Split", [g.node("Tanh", [flipped]), g.const(np.array([1, 2], dtype=np.int64))], 2, axis=2)
    product = g.node("MatMul", [g.node("Concat", [right, left], axis=2), g.random(3, 2)])
    total = g.node("Add", [product, g.const(np.float32(0.25))])
    g.node("Transpose", [total], ["out"], perm=[1, 0, 2])
    g.node("Transpose", [product], ["raw"], perm=[1, 0, 2])
    g.output("out")
    g.output("raw")
    model = check(g.model(), {"x": data(N, T, 6)})
    recurrent = next(layer for layer in model.layers if isinstance(layer, Recurrent))
    assert recurrent.input_size == 6
    assert not recurrent.directions[0].weight_ih[:, 1].any()


def test_add_without_dense_and_activation_nodes() -> None:
    g = Graph()
    x = g.node("Add", [g.random(4), g.input("x", ["n", "t", 4])])
    x = g.node("HardSigmoid", [x], alpha=0.3, beta=0.4)
    y = g.recurrent("RNN", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5)[0]
    g.node("Transpose", [g.axes_op("Squeeze", y, [1])], ["out"], perm=[1, 0, 2])
    g.output("out")
    model = check(g.model(), {"x": data(N, T, 4)})
    assert [type(layer) for layer in model.layers] == [Dense, Pointwise, Recurrent]


def test_features_reshaped_from_frames() -> None:
    """[N, T, 2, 3] frames are flattened; [N, 24] rows are cut... only where time stays an axis of its own."""
    g = Graph()
    x = g.input("x", ["n", "t", 2, 3])
    shape = g.node("Shape", [x])
    lead = g.slice(shape, [0], [2], [0])
    flat = g.node("Reshape", [x, g.node("Concat", [lead, g.const(np.array([6], dtype=np.int64))], axis=0)])
    y = g.recurrent("GRU", g.node("Transpose", [flat], perm=[1, 0, 2]), 6, 5)[0]
    g.node("Transpose", [g.axes_op("Squeeze", y, [1])], ["out"], perm=[1, 0, 2])
    g.output("out")
    model = check(g.model(), {"x": data(N, T, 2, 3)})
    assert model.inputs[0].shape == (2, 3)


def test_second_input_without_time() -> None:
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    yh = g.recurrent("GRU", xt, 4, 5)[1]
    last = g.axes_op("Squeeze", yh, [0])
    g.node("Gemm", [g.node("Concat", [last, g.input("extra", ["n", 2])], axis=1), g.random(7, 3)], ["out"])
    g.output("out", 2)
    model = check(g.model(), {"x": data(N, T, 4), "extra": data(N, 2)})
    assert [(i.name, i.has_time) for i in model.inputs] == [("x", True), ("extra", False)]


def test_constant_initial_state_and_notes() -> None:
    g = Graph()
    xt = g.node("Transpose", [g.input("x", [1, "t", 4])], perm=[1, 0, 2])
    g.input("unused", ["n", 3])
    yh = g.recurrent("GRU", xt, 4, 5, h=g.random(1, 1, 5))[1]
    g.node("Squeeze", [yh, g.const(np.array([0], dtype=np.int64))], ["out"])
    g.output("out", 2)
    model = import_model(g.model(), "test")
    assert model.layers[0].directions[0].h_0.value.any()
    assert any("'unused'" in note for note in model.notes)
    assert any("batch size 1" in note for note in model.notes)
    assert [i.name for i in model.inputs] == ["x"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_weights(dtype: type) -> None:
    proto = head("GRU")
    for k, tensor in enumerate(proto.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            proto.graph.initializer[k].CopyFrom(onnx.numpy_helper.from_array(array.astype(dtype), tensor.name))
    for info in proto.graph.input:
        info.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = import_model(proto, "test")
    assert model.layers[0].directions[0].weight_ih.dtype == np.float64


def test_initializers_as_inputs_are_constants() -> None:
    proto = head("GRU")
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    assert [i.name for i in import_model(proto, "test").inputs] == ["x"]


def test_local_functions_are_inlined() -> None:
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y = g.recurrent("GRU", xt, 4, 5)[0]
    g.nodes.append(onnx.helper.make_node("Tail", [y], ["out"], domain="local"))
    g.output("out", 4)
    function = onnx.helper.make_function(
        "local",
        "Tail",
        ["a"],
        ["b"],
        [
            onnx.helper.make_node("Transpose", ["a"], ["t"], perm=[2, 0, 1, 3]),
            onnx.helper.make_node("Tanh", ["t"], ["b"]),
        ],
        [onnx.helper.make_opsetid("", 17)],
    )
    proto = g.model(functions=[function], opsets=[onnx.helper.make_opsetid("local", 1)])
    model = check(proto, {"x": data(N, T, 4)})
    assert model.outputs[0].shape == (1, 5)
