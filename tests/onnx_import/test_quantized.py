"""Graphs that are quantized already: the float model has their weights, and a conversion the integers that the file holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.kinds.dense import Dense, QuantDense
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, oracle, refused_with

HIDDEN, FEATURES, OUTPUTS = 5, 4, 3
MICROSOFT = "com.microsoft"
ORDER = [0, 2, 3, 1]
"""Gate blocks i, o, f, g of a file in the order i, f, g, o of a layer."""
Arrays = Any


def integers(rng: np.random.Generator, shape: tuple[int, ...], low: int = -127, high: int = 127) -> Arrays:
    """Return integers with the ends of the range in each row of the last axis but one, so that rows have no other step."""
    q = rng.integers(low, high + 1, shape)
    q[..., 0], q[..., 1] = high, 1
    return q


class Case:
    """A graph x [N, T, 4] → LSTM → Dense, in a quantized form and in the float form of the same real weights."""

    def __init__(self, seed: int = 0, opset: int = 21) -> None:
        self.rng = np.random.default_rng(seed)
        self.quantized, self.plain = Graph(opset), Graph(opset)
        self.w = integers(self.rng, (1, 4 * HIDDEN, FEATURES))
        self.r = integers(self.rng, (1, 4 * HIDDEN, HIDDEN))
        self.v = integers(self.rng, (OUTPUTS, HIDDEN))
        self.b = self.rng.uniform(-0.3, 0.3, (1, 8 * HIDDEN)).astype(np.float32)
        self.w_scale, self.r_scale, self.v_scale = (np.float32(s) for s in (0.0047, 0.0039, 0.0061))
        self.lens = self.x = ""

    def start(self, g: Graph) -> str:
        """Add the input, and return X."""
        return g.node("Transpose", [g.input("x", ["N", "T", FEATURES])], perm=[1, 0, 2])

    def lstm(self, g: Graph, w: str, r: str) -> str:
        """Add an LSTM of these weights."""
        x = self.start(g)
        y = g.node("LSTM", [x, w, r, g.const(self.b)], ["y"], name="lstm", hidden_size=HIDDEN)
        return self.flat(g, y)

    def flat(self, g: Graph, y: str) -> str:
        """Bring Y [T, 1, N, H] to [N, T, H]."""
        y = g.node("Squeeze", [y, g.const(np.array([1]))])
        return g.node("Transpose", [y], ["flat"], perm=[1, 0, 2])

    def finish(self, g: Graph, y: str = "logits") -> onnx.ModelProto:
        """Declare the output, and return the model."""
        g.output(y)
        return g.model(opsets=[helper.make_opsetid(MICROSOFT, 1)])

    def plain_lstm(self) -> str:
        """Add the LSTM of real weights to the float form."""
        g = self.plain
        w, r = (q * s for q, s in ((self.w, self.w_scale), (self.r, self.r_scale)))
        return self.lstm(g, g.const(w.astype(np.float32)), g.const(r.astype(np.float32)))

    def plain_dense(self, h: str, output: str = "logits") -> onnx.ModelProto:
        """Add the Dense layer of real weights to the float form, and return it."""
        weight = self.plain.const((self.v.T * self.v_scale).astype(np.float32))
        return self.finish(self.plain, self.plain.node("MatMul", [h, weight], [output], name="fc"))

    def dense_weight(self, kind: Any = np.int8, zero: int = 0) -> list[str]:
        """Return the names of V [H, O], its scale and its zero point in the quantized form."""
        g = self.quantized
        return [g.const((self.v.T + zero).astype(kind)), g.const(self.v_scale), g.const(np.array(zero, kind))]


def converted(proto: onnx.ModelProto) -> QuantModel:
    model = import_model(proto, "test")
    return quantize(model, {"x": data(6, 9, FEATURES)}, Scheme(input="16"))


def check_integers(case: Case, proto: onnx.ModelProto, dense_alone: bool = False) -> None:
    """Assert that the converted model has the integers of the file, row by row up to a factor that all of a row have."""
    model = converted(proto)
    head = next(layer for layer in model.layers if isinstance(layer, QuantDense))
    np.testing.assert_array_equal(head.matrix.weight, case.v)
    if dense_alone:
        return
    d = model.recurrent_layers[0].directions[0]
    assert d.hh is not None
    for matrix, q in ((d.ih, case.w), (d.hh, case.r)):
        blocks = q[0].reshape(4, HIDDEN, -1)[ORDER]
        np.testing.assert_array_equal(matrix.weight, blocks.reshape(matrix.weight.shape))


def equal(proto: onnx.ModelProto, plain: onnx.ModelProto) -> None:
    """Assert that the float model of the quantized graph computes what ONNX Runtime makes of the float graph."""
    feeds = {"x": data(3, 7, FEATURES)}
    agree(plain, feeds)
    want, got = (oracle(import_model(p, "test"), feeds)["logits"] for p in (plain, proto))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["tensor", "axis", "uint8", "int4", "blocks", "folded"])
def test_weights_behind_dequantize_linear(form: str) -> None:
    case = Case()
    g = case.quantized
    if form == "int4":
        case.w, case.r = (integers(case.rng, q.shape, -7, 7) for q in (case.w, case.r))

    def weight(q: Arrays, scale: Any) -> str:
        if form == "int4":
            proto = helper.make_tensor(f"q{len(g.initializers)}", TensorProto.INT4, q.shape, q.reshape(-1).tolist())
            g.initializers.append(proto)
            return g.node("DequantizeLinear", [proto.name, g.const(scale)])
        if form == "uint8":
            return g.node(
                "DequantizeLinear", [g.const((q + 128).astype(np.uint8)), g.const(scale), g.const(np.uint8(128))]
            )
        if form == "axis":
            return g.node("DequantizeLinear", [g.const(q.astype(np.int8)), g.const(np.full(q.shape[1], scale))], axis=1)
        if form == "blocks":
            scales = np.full((1, q.shape[1], -(-q.shape[2] // 3)), scale)
            return g.node("DequantizeLinear", [g.const(q.astype(np.int8)), g.const(scales)], axis=2, block_size=3)
        if form == "folded":  # QuantizeLinear of real weights, as exporters of fake quantization write
            real = g.const((q * scale).astype(np.float32))
            code = [g.const(scale), g.const(np.int8(0))]
            return g.node("DequantizeLinear", [g.node("QuantizeLinear", [real, *code]), *code])
        return g.node("DequantizeLinear", [g.const(q.astype(np.int8)), g.const(scale), g.const(np.int8(0))])

    h = case.lstm(g, weight(case.w, case.w_scale), weight(case.r, case.r_scale))
    v = g.node("DequantizeLinear", case.dense_weight())
    proto = case.finish(g, g.node("MatMul", [h, v], ["logits"], name="fc"))
    check_integers(case, proto)
    equal(proto, case.plain_dense(case.plain_lstm()))


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantize_lstm(per_channel: bool) -> None:
    case = Case()
    g = case.quantized
    x = case.start(g)
    rows = (1, 4 * HIDDEN) if per_channel else (1,)
    weights = [g.const(q.transpose(0, 2, 1).astype(np.int8)) for q in (case.w, case.r)]
    codes = [
        c for s in (case.w_scale, case.r_scale) for c in (g.const(np.full(rows, s)), g.const(np.zeros(rows, np.int8)))
    ]
    inputs = [x, *weights, g.const(case.b), "", "", "", "", *codes]
    y = g.node("DynamicQuantizeLSTM", inputs, ["y"], name="lstm", hidden_size=HIDDEN, domain=MICROSOFT)
    h = case.flat(g, y)
    proto = case.finish(g, dynamic_head(case, h))
    check_integers(case, proto)
    equal(proto, case.plain_dense(case.plain_lstm()))
    notes = " ".join(import_model(proto, "test").notes)
    assert "node 'lstm' (com.microsoft.DynamicQuantizeLSTM, opset 21): the graph rounds X and h to eight bits" in notes


def dynamic_head(case: Case, h: str, turned: bool = False) -> str:
    """Add DynamicQuantizeLinear, MatMulInteger, Cast and the products of scales, as `quantize_dynamic` writes them."""
    g = case.quantized
    q, scale, zero = g.node("DynamicQuantizeLinear", [h], 3, name="dyn")
    weight, weight_scale, weight_zero = case.dense_weight(np.uint8, 128)
    sums = g.node("Cast", [g.node("MatMulInteger", [q, weight, zero, weight_zero], name="fc")], to=TensorProto.FLOAT)
    scales = g.node("Mul", [scale, weight_scale])
    return g.node("Mul", [scales, sums] if turned else [sums, scales], ["logits"])


@pytest.mark.parametrize("head", ["dynamic", "turned", "static", "qlinear", "qgemm", "qdq", "fused", "to_float"])
def test_heads(head: str) -> None:
    """Each form of a quantized Dense layer behind a float LSTM."""
    case = Case()
    g = case.quantized
    h = case.lstm(
        g, *(g.const((q * s).astype(np.float32)) for q, s in ((case.w, case.w_scale), (case.r, case.r_scale)))
    )
    code = [g.const(np.float32(1 / 128)), g.const(np.uint8(128))]
    result = [g.const(np.float32(0.02)), g.const(np.int8(3))]
    if head in ("dynamic", "turned"):
        proto = case.finish(g, dynamic_head(case, h, head == "turned"))
    elif head == "static":
        q = g.node("QuantizeLinear", [h, *code])
        weight, scale, zero = case.dense_weight()
        sums = g.node("Cast", [g.node("MatMulInteger", [q, weight, code[1], zero])], to=TensorProto.FLOAT)
        proto = case.finish(g, g.node("Mul", [sums, g.const(np.float32(case.v_scale / 128))], ["logits"]))
    elif head == "qdq":
        h = g.node("DequantizeLinear", [g.node("QuantizeLinear", [h, *code]), *code])
        product = g.node("MatMul", [h, g.node("DequantizeLinear", case.dense_weight())])
        q = g.node("QuantizeLinear", [product, *result])
        proto = case.finish(g, g.node("DequantizeLinear", [q, *result], ["logits"]))
    elif head == "fused":
        inputs = [h, *case.dense_weight(), g.const(np.zeros(OUTPUTS, np.float32))]
        proto = case.finish(g, g.node("DynamicQuantizeMatMul", inputs, ["logits"], domain=MICROSOFT))
    else:
        if head == "qgemm":  # Gemm has two axes
            h = g.node("Squeeze", [g.slice(h, [-1], [1 << 40], [1]), g.const(np.array([1]))])
        q = g.node("QuantizeLinear", [h, *code])
        weight, scale, zero = case.dense_weight()
        if head == "to_float":
            inputs = [q, weight, code[0], scale, code[1], zero]
            proto = case.finish(g, g.node("MatMulIntegerToFloat", inputs, ["logits"], domain=MICROSOFT))
        else:
            inputs = [q, *code, weight, scale, zero]
            if head == "qgemm":
                c = g.const(np.arange(OUTPUTS).astype(np.int32))
                inputs = [q, *inputs[1:], c, *result]
                product = g.node("QGemm", inputs, domain=MICROSOFT, alpha=1.0)
            else:
                product = g.node("QLinearMatMul", [*inputs, *result])
            proto = case.finish(g, g.node("DequantizeLinear", [product, *result], ["logits"]))
    check_integers(case, proto, dense_alone=True)
    if head == "qgemm":
        last = case.plain_lstm()
        p = case.plain
        last = p.node("Squeeze", [p.slice(last, [-1], [1 << 40], [1]), p.const(np.array([1]))])
        weight = p.const((case.v.T * case.v_scale).astype(np.float32))
        bias = p.const((np.arange(OUTPUTS) / 128 * case.v_scale).astype(np.float32))
        plain = case.finish(p, p.node("Gemm", [last, weight, bias], ["logits"], name="fc"))
    else:
        plain = case.plain_dense(case.plain_lstm())
    equal(proto, plain)


@pytest.mark.parametrize("quantized_function", [False, True])
def test_a_sum_and_a_function_of_integers(quantized_function: bool) -> None:
    """QLinearAdd of a quantized bias is the bias of the Dense layer before; QLinearSigmoid is Sigmoid."""
    case = Case()
    g = case.quantized
    h = case.lstm(
        g, *(g.const((q * s).astype(np.float32)) for q, s in ((case.w, case.w_scale), (case.r, case.r_scale)))
    )
    code, result = ([g.const(np.float32(s)), g.const(np.int8(0))] for s in (1 / 127, 0.02))
    q = g.node("QLinearMatMul", [g.node("QuantizeLinear", [h, *code]), *code, *case.dense_weight(), *result])
    bias = [g.const(np.array([5, -7, 100], np.int8)), *code]
    q = g.node("QLinearAdd", [*bias, q, *result, *result], domain=MICROSOFT)
    if quantized_function:
        q = g.node("QLinearSigmoid", [q, *result, *code], domain=MICROSOFT)
    last = code if quantized_function else result
    y = g.node("DequantizeLinear", [q, *last], ["logits"])
    proto = case.finish(g, y)
    model = import_model(proto, "test")
    heads = [layer for layer in model.layers if isinstance(layer, Dense)]
    np.testing.assert_allclose(heads[0].bias, np.array([5, -7, 100]) / 127, rtol=1e-6)
    assert len(heads) == 1
    p = case.plain
    h = case.plain_lstm()
    product = p.node("MatMul", [h, p.const((case.v.T * case.v_scale).astype(np.float32))])
    total = ["sum"] if quantized_function else ["logits"]
    p.node("Add", [product, p.const((np.array([5, -7, 100]) / 127).astype(np.float32))], total)
    if quantized_function:
        p.node("Sigmoid", total, ["logits"])
    equal(proto, case.finish(p))


def with_activations(kind: Any, zero: int, function: str = "") -> onnx.ModelProto:
    """Build an LSTM, perhaps a function, and a pair QuantizeLinear and DequantizeLinear behind it."""
    g = Graph()
    xt = g.node("Transpose", [g.input("x", ["N", "T", FEATURES])], perm=[1, 0, 2])
    y = g.recurrent("GRU", xt, FEATURES, HIDDEN)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    if function:
        y = g.node(function, [y])
    code = [g.const(np.float32(0.01)), g.const(np.array(zero, kind))]
    q = g.node("QuantizeLinear", [y, *code], name="q")
    g.node("DequantizeLinear", [q, *code], ["logits"], name="dq")
    g.output("logits")
    return g.model()


def test_a_range_that_begins_at_zero_is_a_relu() -> None:
    """Exporters leave out a Relu where the rounding behind it cuts off what is below 0; sigmoids need none."""
    model = import_model(with_activations(np.uint8, 0), "test")
    assert [layer.activation.kind for layer in model.layers if isinstance(layer, Pointwise)] == ["relu"]
    assert any("its range begins at 0" in note for note in model.notes)
    feeds = {"x": data(3, 7, FEATURES)}
    got = oracle(model, feeds)["logits"]
    without = oracle(import_model(with_activations(np.int8, 0), "test"), feeds)["logits"]
    assert without.min() < -0.1
    np.testing.assert_array_equal(got, np.maximum(without, 0.0))
    for function in ("Relu", "Sigmoid"):
        model = import_model(with_activations(np.uint8, 0, function), "test")
        assert sum(isinstance(layer, Pointwise) for layer in model.layers) == 1


def test_notes_say_where_the_graph_rounds() -> None:
    model = import_model(with_activations(np.int8, -8), "test")
    assert not any(isinstance(layer, Pointwise) for layer in model.layers)
    text = "node 'q' (QuantizeLinear, opset 17): the graph rounds its result to steps of 0.01 within -1.2 to 1.35; the model does not"
    assert text in model.notes


def test_integers_beyond_127_are_noted() -> None:
    """A uint8 weight may be 255 steps from its zero point; rows that are beyond 127 are rounded as any other."""
    case = Case()
    g = case.quantized
    case.v = np.maximum(case.v, -110)
    case.v[0, 0] = 140
    h = case.lstm(
        g, *(g.const((q * s).astype(np.float32)) for q, s in ((case.w, case.w_scale), (case.r, case.r_scale)))
    )
    v = g.node("DequantizeLinear", case.dense_weight(np.uint8, 110), name="v")
    proto = case.finish(g, g.node("MatMul", [h, v], ["logits"], name="fc"))
    notes = import_model(proto, "test").notes
    assert len(notes) == 1
    assert "node 'v' (DequantizeLinear, opset 21)" in notes[0]
    assert "rows with more than 127 are rounded anew" in notes[0]
    head = next(layer for layer in converted(proto).layers if isinstance(layer, QuantDense))
    assert np.abs(head.matrix.weight[0]).max() == 127


def test_refused_by_name() -> None:
    def pair(change: Any, kind: Any = np.int8) -> onnx.ModelProto:
        proto = with_activations(kind, 0)
        change(proto.graph)
        return proto

    def constant(graph: Any, node: str, k: int, array: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"other_{node}"))
        next(n for n in graph.node if n.name == node).input[k] = f"other_{node}"

    other = pair(lambda graph: constant(graph, "dq", 1, np.float32(0.02)))
    refused_with(UnsupportedError, other, "'dq'", "another scale or zero point than it was quantized with")
    channels = pair(lambda graph: constant(graph, "q", 1, np.full(HIDDEN, 0.01, np.float32)))
    refused_with(UnsupportedError, channels, "'q'", "5 values for computed features", "per tensor")
    below = pair(lambda graph: [constant(graph, name, 2, np.int8(127)) for name in ("q", "dq")])
    refused_with(UnsupportedError, below, "'q'", "cuts off all above 0")
    negative = pair(lambda graph: constant(graph, "q", 1, np.float32(-0.5)))
    refused_with(ModelFileError, negative, "'q'", "expected a positive number")


def test_integers_at_the_ends_are_refused() -> None:
    """Integers as graph outputs and inputs have no scale in the graph, and a function of them no meaning."""
    g = Graph()
    q = g.input("x", ["N", "T", FEATURES], TensorProto.INT8)
    x = g.node("DequantizeLinear", [q, g.const(np.float32(0.1))], name="dq")
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), FEATURES, HIDDEN)[0]
    g.output(y, 4)
    refused_with(UnsupportedError, g.model(), "'dq'", "as integers, which no QuantizeLinear of this graph made")
    proto = with_activations(np.int8, 0)
    del proto.graph.node[-1], proto.graph.output[:]
    quantized = proto.graph.node[-1].output[0]
    proto.graph.output.append(helper.make_tensor_value_info(quantized, TensorProto.INT8, ["N", "T", HIDDEN]))
    refused_with(UnsupportedError, proto, f"output '{quantized}'", "DequantizeLinear before it")


@pytest.mark.parametrize("bad", ["scale", "blocks", "rank", "lstm"])
def test_shapes_are_checked(bad: str) -> None:
    case = Case()
    g = case.quantized
    q = g.const(case.w.astype(np.int8))
    r = g.const((case.r * case.r_scale).astype(np.float32))
    if bad == "lstm":
        codes = [g.const(np.ones(3, np.float32)), g.const(np.zeros(1, np.int8))] * 2
        inputs = [case.start(g), q, q, "", "", "", "", "", *codes]
        y = g.node("DynamicQuantizeLSTM", inputs, ["y"], name="bad", hidden_size=HIDDEN, domain=MICROSOFT)
        proto = case.finish(g, case.flat(g, y))
    else:
        scale = {"scale": np.ones(7), "blocks": np.ones((1, 4 * HIDDEN, 3)), "rank": np.ones((2, 2))}[bad]
        more = {"axis": 2, "block_size": 1 << 40} if bad == "blocks" else {}
        w = g.node("DequantizeLinear", [q, g.const(scale.astype(np.float32))], name="bad", **more)
        proto = case.finish(g, case.lstm(g, w, r))
    refused_with(ModelFileError, proto, "node 'bad'", "has shape")
