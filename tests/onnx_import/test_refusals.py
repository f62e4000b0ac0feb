"""What is not implemented is refused by name, all at once; what is malformed is one clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.onnx_import import import_model

from .builders import Graph, head


def refused(proto: onnx.ModelProto, *parts: str, error: type[QrnnError] = UnsupportedError) -> str:
    with pytest.raises(error) as caught:
        import_model(proto, "test")
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def body(build: Callable[[Graph, str], str], rank: int = 3, dims: list[Any] | None = None) -> onnx.ModelProto:
    """Build x → transpose → GRU → [T, N, 5] → ``build`` → out."""
    g = Graph()
    xt = g.node("Transpose", [g.input("x", dims or ["n", "t", 4])], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("GRU", xt, 4, 5)[0], [1])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out", rank)
    return g.model()


def test_unknown_direction() -> None:
    refused(head("GRU", direction="backward"), "direction='backward'", error=ModelFileError)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("Selu", {}), ("Celu", {"alpha": 0.1}), ("Sign", {}), ("ReduceL1", {"keepdims": 1})],
)
def test_unsupported_operators(op: str, attributes: dict[str, Any]) -> None:
    refused(body(lambda g, y: g.node(op, [y], name="odd", **attributes)), f"1 node is not supported: {op} 'odd'")


def test_all_problems_in_one_error() -> None:
    def build(g: Graph, y: str) -> str:
        a = g.node("Selu", [g.node("Selu", [y], name="n1")], name="n2")
        b = g.recurrent("LSTM", g.node("Transpose", [y], perm=[0, 1, 2]), 5, 3, name="gated", activations=["Gelu"] * 3)[
            0
        ]
        return g.node("Concat", [a, g.axes_op("Squeeze", b, [1]), g.node("Celu", [y], name="e")], axis=2)

    refused(body(build), "Selu ×2 ('n1', 'n2')", "Celu 'e'", "node 'gated'", "Gelu for the gate", "2 problems")


def test_unused_nodes_do_not_matter() -> None:
    def build(g: Graph, y: str) -> str:
        g.node("Celu", [y], name="dead")
        return y

    import_model(body(build), "test")


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda g, y: g.node("Reshape", [y, g.const(np.array([-1, 1]))]), "merges the batch and features to one axis"),
        (lambda g, y: g.node("Flatten", [y], axis=1), "merges the batch (N) or time (T)"),
        (lambda g, y: g.node("Softmax", [y], axis=0), "gives a softmax over time"),
        (lambda g, y: g.node("Softmax", [y], axis=1), "runs over batch or time"),
        (
            lambda g, y: g.node("Add", [y, g.slice(y, [0], [2], [2])], name="sum"),
            "only tensors of the same shape, or with feature axes of size 1, can be",
        ),
        (
            lambda g, y: g.node("Mul", [y, g.random(7, 1, 5)]),
            "a constant of shape [7, 1, 5]; only one value per feature",
        ),
        (lambda g, y: g.node("Add", [y, g.random(7, 1, 5)]), "adds a constant of shape [7, 1, 5]"),
        (lambda g, y: g.node("MatMul", [g.random(5, 5), y]), "by constants along its axis N"),
        (
            lambda g, y: g.slice(y, [-1], [1], [0]),
            "slices the time axis [-1:1:1], from a step that counts from the end",
        ),
        (lambda g, y: g.slice(y, [1], [2**31], [1]), "slices the batch axis 1"),
        (lambda g, y: g.node("Gather", [y, g.const(np.int64(0))], axis=1), "takes 0 of the batch axis"),
        (lambda g, y: g.node("Concat", [y, y], axis=0), "concatenates along the time axis"),
        (lambda g, y: g.node("Concat", [y, g.random(2, 3, 5)], axis=2), "is a constant"),
        (lambda g, y: g.node("Cast", [y], to=TensorProto.INT32), "casts computed features to INT32"),
        (lambda g, y: g.axes_op("Squeeze", y, [1]), "removes the batch axis"),
        (lambda g, y: g.node("Dropout", [y, "", g.const(np.array(True))]), "training_mode"),
        (
            lambda g, y: g.node(
                "Reshape",
                [
                    y,
                    g.const(np.array([0, 0, 5])),
                ],
                allowzero=1,
            ),
            "allowzero=1",
        ),
        (lambda g, y: g.node("Dropout", [y], 2)[1], "output 1"),
        (lambda g, y: g.node("MatMul", [y, y]), "of two computed matrices only those within a step"),
    ],
)
def test_structure(build: Callable[[Graph, str], str], text: str) -> None:
    refused(body(build), text)


@pytest.mark.parametrize(
    ("opset", "axis", "says"),
    [
        (11, 1, "runs over batch or time"),
        (11, 2, ""),
        (12, -1, ""),
        (13, -1, ""),
        (13, 0, "gives a softmax over time"),
        (13, 1, "runs over batch or time"),
    ],
)
def test_softmax_axes(opset: int, axis: int, says: str) -> None:
    g = Graph(opset)
    y = g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5)[0]
    g.node("Softmax", [g.axes_op("Squeeze", y, [1])], ["out"], axis=axis)
    g.output("out")
    if says:
        refused(g.model(), says)
    else:
        import_model(g.model(), "test")


def test_transposed_a() -> None:
    g = Graph()
    yh = g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5)[1]
    g.node("Gemm", [g.axes_op("Squeeze", yh, [0]), g.random(5, 3)], ["out"], transA=1)
    g.output("out", 2)
    refused(g.model(), "transA=1")


def test_custom_domain_and_control_flow() -> None:
    proto = body(lambda g, y: g.node("FusedGru", [y], name="fused", domain="com.vendor"))
    proto.opset_import.append(helper.make_opsetid("com.vendor", 1))
    refused(proto, "com.vendor.FusedGru 'fused'", "standard ONNX operators")

    def branch(g: Graph, y: str) -> str:
        out = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["t", "n", 5])
        part = helper.make_graph([helper.make_node("Identity", [y], ["b"])], "part", [], [out])
        return g.node("If", [g.const(np.array(True))], name="choice", then_branch=part, else_branch=part)

    assert import_model(body(branch), "test").layers


def test_quantized_convolution() -> None:
    def build(g: Graph, y: str) -> str:
        return g.node(
            "ConvInteger", [g.node("DynamicQuantizeLinear", [y], 3)[0], g.const(np.ones((5, 2), np.int8))], name="conv"
        )

    refused(body(build), "ConvInteger 'conv'", "start from the float model")


def test_weights_as_inputs() -> None:
    proto = head("GRU")
    kept = [t for t in proto.graph.initializer if t.name != "rnn1_W"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.input.append(helper.make_tensor_value_info("rnn1_W", TensorProto.FLOAT, [1, 15, 4]))
    refused(proto, "'rnn1_W'", "weights as graph inputs", "constant weights")


def test_dynamic_features() -> None:
    g = Graph()
    g.recurrent("GRU", g.slice(g.input("x", ["t", "n", "f"]), [0], [4], [2]), 4, 5, outputs=["y", "h"])
    g.output("h")
    refused(g.model(), "input 'x' [?, ?, ?]", "no fixed size at feature axis 2")


def test_input_that_never_reaches_a_recurrent_node() -> None:
    proto = body(lambda g, y: g.node("MatMul", [g.input("side", ["a", "b", 5]), g.random(5, 2)]))
    refused(proto, "no recurrent node")

    def both(g: Graph, y: str) -> str:
        g.node("MatMul", [g.input("side", ["a", "b", 5]), g.random(5, 2)], ["second"])
        g.output("second")
        return y

    refused(body(both), "input 'side' [?, ?, 5] does not reach an LSTM, GRU or RNN")


def test_conflicting_layouts() -> None:
    g = Graph()
    x = g.input("x", ["n", "t", 4])
    a = g.recurrent("GRU", x, 4, 5, name="a")[1]
    b = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, name="b")[1]
    g.node("Concat", [a, b], ["out"], axis=2)
    g.output("out")
    refused(g.model(), "of 'x' is used both as batch and as time")


def test_no_recurrent_node() -> None:
    g = Graph()
    g.node("Tanh", [g.input("x", ["n", 4])], ["out"])
    g.output("out", 2)
    refused(g.model(), "model 'test' has no recurrent node (LSTM, GRU or RNN)")


@pytest.mark.parametrize("opset", [1, 6, 1000])
def test_opset_range(opset: int) -> None:
    proto = head("GRU")
    proto.opset_import[0].version = opset
    refused(proto, f"opset {opset}", "opsets 7 to")


def test_constant_sequence_lens() -> None:
    g = Graph()
    lens = g.const(np.array([3], dtype=np.int32))
    g.recurrent("GRU", g.input("x", ["t", 1, 4]), 4, 5, lengths=lens, outputs=["y", "h"])
    g.output("h")
    refused(g.model(), "sequence_lens", "as a graph input [N] or without it")


def test_reverse_node_without_the_lengths_of_others() -> None:
    g = Graph()
    x, lens = g.input("x", ["t", "n", 4]), g.input("lens", ["n"], TensorProto.INT32)
    a = g.recurrent("GRU", x, 4, 5, name="a", lengths=lens)[1]
    b = g.recurrent("GRU", x, 4, 5, name="b", direction="reverse")[1]
    g.node("Concat", [a, b], ["out"], axis=2)
    g.output("out")
    refused(g.model(), "node 'b' (GRU, opset 17): runs in reverse without sequence_lens")


def test_cell_state_of_one_step_into_a_layer() -> None:
    g = Graph()
    c = g.recurrent("LSTM", g.input("x", [1, "n", 4]), 4, 5)[2]
    g.node("Tanh", [c], ["out"])
    g.output("out")
    refused(g.model(), "the cell state 'rnn1_Yc' of a graph of one step per call")


def test_state_input_into_a_layer() -> None:
    g = Graph()
    h = g.input("h", [1, "n", 5])
    g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5, h=h, outputs=["y", "hn"])
    g.node("Tanh", [h], ["out"])
    g.output("hn")
    g.output("out")
    refused(g.model(), "state input 'h'")


@pytest.mark.parametrize("crossed", [False, True])
def test_states_that_do_not_line_up(crossed: bool) -> None:
    g = Graph()
    x, state = g.input("x", ["t", "n", 4]), g.input("state", [2, "n", 5])
    h, c = g.slice(state, [0], [1], [0]), g.slice(state, [1], [2], [0])
    _, hn, cn = g.recurrent("LSTM", x, 4, 5, h=h, c=c)
    g.node("Concat", [cn, hn] if crossed else [hn, cn], ["state_out"], axis=0)
    g.output("state_out")
    if crossed:
        refused(g.model(), "output 'state_out'", "state input 'state'", "cannot be carried")
    else:
        import_model(g.model(), "test")


def test_constant_output() -> None:
    proto = body(lambda g, y: g.node("Shape", [y]), rank=1)
    refused(proto, "output 'out' is a constant")


def damage_weight(name: str, change: Callable[[np.ndarray], np.ndarray], op: str = "GRU") -> onnx.ModelProto:
    proto = head(op)
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return proto


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    def change(w: np.ndarray) -> np.ndarray:
        w[0, 2, 1] = value
        return w

    refused(damage_weight("rnn1_W", change), "initializer 'rnn1_W'", str(value), "[0, 2, 1]", error=ModelFileError)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("rnn1_W", lambda w: w[:, :-1], "W has shape [1, 14, 4], expected [1, 15, input size]"),
        ("rnn1_W", lambda w: w[:, :, :-1], "W has shape [1, 15, 3] but X has 4 features"),
        ("rnn1_W", lambda w: w[0], "W [15, 4]"),
        ("rnn1_W", lambda w: w[:, :, :0], "W has shape [1, 15, 0]"),
        ("rnn1_R", lambda r: r[:, :-1], "R has shape [1, 14, 5], expected [1, 15, 5]"),
        ("rnn1_R", lambda r: np.concatenate([r, r]), "R has shape [2, 15, 5], expected [1, 15, 5]"),
        ("rnn1_R", lambda r: r[:, :, :-1], "hidden_size=5 but R has shape [1, 15, 4]"),
        ("rnn1_B", lambda b: b[:, :-1], "B has shape [1, 29], expected [1, 30]"),
        ("rnn1_B", lambda b: b[0], "B has shape [30], expected [1, 30]"),
    ],
)
def test_wrong_shapes(name: str, change: Callable[[np.ndarray], np.ndarray], text: str) -> None:
    refused(damage_weight(name, change), "node 'rnn1' (GRU, opset 17)", text, error=ModelFileError)


@pytest.mark.parametrize("hidden", [0, -5, 6, 2**40])
def test_hidden_size(hidden: int) -> None:
    proto = head("GRU")
    node = next(n for n in proto.graph.node if n.op_type == "GRU")
    next(a for a in node.attribute if a.name == "hidden_size").i = hidden
    refused(proto, f"hidden_size={hidden}", error=ModelFileError)


def test_zero_size_input() -> None:
    refused(head("GRU", time=0), "input 'x' has size 0 at axis 1")


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand"])
def test_huge_constants_are_not_built(op: str) -> None:
    def build(g: Graph, y: str) -> str:
        shape = g.const(np.array([1 << 20, 1 << 20]))
        big = g.node(op, [shape] if op == "ConstantOfShape" else [g.random(1), shape])
        return g.node("MatMul", [y, big])

    refused(body(build), "at most")


def test_doubling_concat_is_stopped() -> None:
    def build(g: Graph, y: str) -> str:
        for _ in range(40):
            y = g.node("Concat", [y, y], axis=2)
        return y

    refused(body(build), "at most")


def test_invalid_graph() -> None:
    proto = head("GRU")
    proto.graph.node[1].input[0] = "nowhere"
    refused(proto, "not a valid ONNX model", "nowhere", error=ModelFileError)


@pytest.mark.parametrize("domains", [("", ""), ("", "ai.onnx")])
def test_two_opsets(domains: tuple[str, str]) -> None:
    """The meaning of Softmax depends on which of them holds, and runtimes take either."""
    proto = head("GRU", 13)
    del proto.opset_import[:]
    proto.opset_import.extend([helper.make_opsetid(domains[0], 13), helper.make_opsetid(domains[1], 12)])
    refused(proto, "names the opsets [12, 13]", error=ModelFileError)


def test_constants_that_leave_float64() -> None:
    """Folding them gives no warning; the weight that they become is refused."""

    def build(g: Graph, y: str) -> str:
        square = g.const(np.full((5, 5), 1e30))
        for _ in range(5):
            square = g.node("MatMul", [square, square])
        return g.node("MatMul", [y, square])

    refused(body(build), "NaN or infinity", error=ModelFileError)


@pytest.mark.parametrize("name", ["lengths", "labels"])
@pytest.mark.parametrize("kind", ["features", "tokens", "state", "lengths"])
def test_an_input_with_a_reserved_name(kind: str, name: str) -> None:
    """Arrays of this name beside the inputs mean something else; only the model's own lengths may be called so."""
    g = Graph()
    if kind == "tokens":
        x = g.node("Gather", [g.random(7, 4), g.input(name, ["n", "t"], TensorProto.INT64)])
    else:
        x = g.input(name if kind == "features" else "x", ["n", "t", 4])
    more = {}
    if kind == "state":
        more["h"] = g.input(name, [1, "n", 5])
    if kind == "lengths":
        more["lengths"] = g.input(name, ["n"], TensorProto.INT32)
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, **more)[0]
    g.node("Transpose", [g.axes_op("Squeeze", y, [1])], ["y"], perm=[1, 0, 2])
    g.output("y")
    if (kind, name) == ("lengths", "lengths"):
        assert [i.name for i in import_model(g.model(), "test").inputs] == ["x", "lengths"]
    else:
        refused(g.model(), f"input '{name}'", "lengths and labels are reserved", "rename the input in the graph")
