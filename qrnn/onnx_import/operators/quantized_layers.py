"""Operators that compute with integers become the layers of the real numbers that their integers stand for; see `quantized`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators import dense, joining, pointwise, recurrent
from qrnn.onnx_import.operators.quantized import (
    Quantized,
    ScaleOf,
    ZeroPointOf,
    dequantized,
    integers,
    quantized,
    real_value,
    rescaled,
    scalar,
    whole,
)
from qrnn.onnx_import.operators.recurrent_attributes import RECURRENT, WEIGHT
from qrnn.onnx_import.registry import MICROSOFT, axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import Features, Integers, Value


@dataclass(frozen=True, eq=False)
class Sums(Integers):
    """The integer sums of MatMulInteger: weight [I, O], less its zero point, times (q - zero_point) of ``of``, whose features are ``x``."""

    of: Quantized
    x: Features
    weight: FloatArray


def _quantized_result(node: Node, build: Builder, value: Value, scale: int, zero_point: int) -> Value:
    """Return a result as the integers that the node gives."""
    if not isinstance(value, Features):
        raise node.refuse("computes with constants only; re-export with constants folded")
    if not node.has_input(zero_point):
        raise node.refuse("has no zero point of its result, which says the result's type; re-export with one")
    return quantized(node, build, value, scale, zero_point, node.element_type(zero_point))


@operator("QLinearMatMul")
def qlinear_matmul(node: Node, build: Builder) -> Value:
    """Import QLinearMatMul as a Dense layer of its real weights."""
    x = real_value(node, build, 0, 1, 2)
    weight = dequantized(node, build, 3, 4, 5)
    product = dense.matmul(node.as_operator("MatMul", [x, weight], [node.input_names[0], node.input_names[3]]), build)
    return _quantized_result(node, build, product, 6, 7)


@operator(f"{MICROSOFT}.QGemm")
def qgemm(node: Node, build: Builder) -> Value:
    """Import QGemm as a Dense layer. C holds integers in units of alpha · scale of A · scale of B, and the result may be real."""
    x = real_value(node, build, 0, 1, 2)
    alpha, trans_b = float(node.take("alpha", 1.0)), int(node.take("transB", 0))
    weight = alpha * dequantized(node, build, 3, 4, 5, axis=0 if trans_b else 1)
    if trans_b:
        weight = weight.T
    inputs: list[Any] = [x, weight]
    if node.has_input(6):
        c = node.weights(6, "C")
        scale_b = node.weights(4, "the scale of B").reshape(-1)
        inputs.append(c * (alpha * scalar(node, 1, "the scale of A") * scale_b))
    names = [node.input_names[k] for k in (0, 3, 6)][: len(inputs)]
    result = dense.gemm(node.as_operator("Gemm", inputs, names), build)
    return _quantized_result(node, build, result, 7, 8) if node.has_input(7) else result


@operator("MatMulInteger")
def matmul_integer(node: Node, build: Builder) -> Value:
    """Import MatMulInteger: its sums become a Dense layer where they are multiplied by their scale."""
    value = node.features(0, "the first operand")
    parts = build.book.parts(value.ids)
    of = parts[0].tensor.integers if len(parts) == 1 else None
    if not isinstance(of, Quantized):
        raise node.refuse(
            f"multiplies '{node.input_names[0]}', which is not what one QuantizeLinear or DynamicQuantizeLinear gives; re-export with it "
            "right before"
        )
    zero = whole(build, node.input(2)) if node.has_input(2) else None
    if of.scale is None:
        right = zero is not None and isinstance(zero.integers, ZeroPointOf) and zero.integers.of is of
    else:
        right = (scalar(node, 2, "the zero point") if node.has_input(2) else 0.0) == of.zero_point
    if not right:
        raise node.refuse(
            f"reads '{node.input_names[0]}' with another zero point than it was quantized with; expected the same"
        )
    q = node.weights(1, "the second operand")
    if q.ndim != 2 or 0 in q.shape:
        raise node.refuse(f"multiplies by a weight of shape {list(q.shape)}; only [I, O] is supported")
    zeros = node.weights(3, "the zero point") if node.has_input(3) else np.zeros(())
    weight = rescaled(node, build, node.input_names[1], q, np.ones(()), zeros)
    if value.axes[-1] is not None or value.ids.size != q.shape[0]:
        raise node.refuse(
            f"multiplies {value.describe()} by [{q.shape[0]}, {q.shape[1]}]; expected features on the last axis"
        )
    node.reserve_features(q.shape[1])
    x = Features(of.ids[parts[0].indices].reshape(value.ids.shape), value.axes)
    return integers(node, build, 0, (*value.ids.shape[:-1], q.shape[1]), value.axes, Sums(of, x, weight))


def scaled_sums(node: Node, build: Builder, sums: Value, factor: Value) -> Value | None:
    """Return integer sums times their scale as a Dense layer, a scale times constants as a scale, or None for what is neither."""
    one, other = whole(build, sums), whole(build, factor)
    held = None if one is None else one.integers
    if isinstance(held, ScaleOf) and isinstance(factor, np.ndarray) and factor.dtype != object:
        constants = factor.astype(np.float64)
        node.reserve(constants.size)
        product = held.factor * constants
        return integers(node, build, 0, product.shape, (None,) * product.ndim, ScaleOf(held.of, product))
    if not isinstance(held, Sums):
        return None
    by: FloatArray
    if other is not None and isinstance(other.integers, ScaleOf) and other.integers.of is held.of:
        by = other.integers.factor
    elif held.of.scale is not None and isinstance(factor, np.ndarray) and factor.dtype != object:
        by = factor.astype(np.float64) / held.of.scale
    else:
        raise node.refuse(
            "multiplies integer sums by what is not their scale; re-export with the scales of both operands"
        )
    columns = held.weight.shape[1]
    assert isinstance(sums, Features)
    each = by.shape[-1:] == (columns,) and by.size == columns and sums.ids.shape[-1] == columns
    if by.size != 1 and not each:
        raise node.refuse(
            f"multiplies {columns} integer sums by scales of shape {list(by.shape)}; expected one, or one each"
        )
    node.reserve(held.weight.size)
    made = dense.matmul(node.as_operator("MatMul", [held.x, held.weight * by.reshape(-1)], node.input_names[:2]), build)
    assert isinstance(made, Features)
    return Features(made.ids.reshape(sums.ids.shape), sums.axes)


@operator(f"{MICROSOFT}.DynamicQuantizeMatMul")
def dynamic_quantize_matmul(node: Node, build: Builder) -> Value:
    """Import DynamicQuantizeMatMul, which rounds its first operand as it runs, as a Dense layer."""
    _note_rounding(node, build, f"rounds '{node.input_names[0]}'")
    weight = dequantized(node, build, 1, 2, 3)
    product = dense.matmul(node.as_operator("MatMul", [node.input(0), weight], node.input_names[:2]), build)
    return _plus_bias(node, build, product, 4)


@operator(f"{MICROSOFT}.MatMulIntegerToFloat")
def matmul_integer_to_float(node: Node, build: Builder) -> Value:
    """Import MatMulIntegerToFloat, MatMulInteger with the scales of both operands, as a Dense layer."""
    x = real_value(node, build, 0, 2, 4)
    weight = dequantized(node, build, 1, 3, 5)
    product = dense.matmul(node.as_operator("MatMul", [x, weight], node.input_names[:2]), build)
    return _plus_bias(node, build, product, 6)


def _plus_bias(node: Node, build: Builder, product: Value, k: int) -> Value:
    if not node.has_input(k):
        return product
    names = [node.output_names[0], node.input_names[k]]
    return dense.add(node.as_operator("Add", [product, node.input(k)], names), build)


def _note_rounding(node: Node, build: Builder, does: str) -> None:
    build.notes.append(f"{node.where}: the graph {does} to eight bits by each call's own range; the model does not")


@operator(f"{MICROSOFT}.DynamicQuantizeLSTM")
def dynamic_quantize_lstm(node: Node, build: Builder) -> tuple[Value, ...]:
    """Import DynamicQuantizeLSTM as the LSTM of its real weights; the file has them as [D, I, 4·H] and [D, H, 4·H]."""
    _note_rounding(node, build, "rounds X and h")
    weights = [_lstm_weights(node, build, k, scale) for k, scale in ((WEIGHT, 8), (RECURRENT, 10))]
    return recurrent.recurrent(_as_lstm(node, weights), build)


def _as_lstm(node: Node, weights: list[Any]) -> Node:
    inputs = [node.input(k) for k in range(8)]
    inputs[WEIGHT], inputs[RECURRENT] = weights
    return node.as_operator("LSTM", inputs, [*node.input_names, *[""] * 8][:8])


def _lstm_weights(node: Node, build: Builder, k: int, scale: int) -> FloatArray:
    """Return weights as LSTM has them, [D, 4·H, K]; their scales and zero points are [D] or [D, 4·H]."""
    q = node.weights(k, "the weights")
    if q.ndim != 3:
        raise node.damaged(
            f"'{node.input_names[k]}' has shape {list(q.shape)}, expected 3 axes, [directions, …, 4·hidden]"
        )
    parts = []
    for what, at in (("the scale", scale), ("the zero point", scale + 1)):
        values = node.weights(at, what) if node.has_input(at) else np.zeros(q.shape[0])
        if values.shape not in ((q.shape[0],), (q.shape[0], q.shape[2])) and values.size != 1:
            raise node.damaged(
                f"{what} '{node.input_names[at]}' has shape {list(values.shape)}, expected [{q.shape[0]}] or [{q.shape[0]}, {q.shape[2]}]"
            )
        parts.append(values)
    directions = [
        rescaled(node, build, node.input_names[k], q[d], _of_direction(parts[0], d), _of_direction(parts[1], d))
        for d in range(q.shape[0])
    ]
    return np.stack([rows.T for rows in directions])


def _of_direction(values: FloatArray, d: int) -> FloatArray:
    return values.reshape(()) if values.size == 1 else np.atleast_1d(values[d])


Plain = Callable[[Node, Builder], Any]

_OF_ONE: dict[str, tuple[str, Plain]] = {
    "QLinearSigmoid": ("Sigmoid", pointwise.pointwise),
    "QLinearLeakyRelu": ("LeakyRelu", pointwise.pointwise),
    "QLinearSoftmax": ("Softmax", pointwise.softmax),
}
"""ONNX Runtime's operators of one quantized operand, and what they are on real numbers."""


@operator(*(f"{MICROSOFT}.{name}" for name in _OF_ONE))
def qlinear_of_one(node: Node, build: Builder) -> Value:
    """Import a function of quantized features as the function of real ones."""
    plain, handler = _OF_ONE[node.op]
    if node.op == "QLinearSoftmax" and int(node.take("opset", 13)) < 13:
        raise node.refuse("has the meaning of Softmax before opset 13; re-export with opset 13 or newer")
    x = real_value(node, build, 0, 1, 2)
    return _quantized_result(node, build, handler(node.as_operator(plain, [x], node.input_names[:1]), build), 3, 4)


@operator(f"{MICROSOFT}.QLinearAdd")
def qlinear_add(node: Node, build: Builder) -> Value:
    """Import QLinearAdd, of two quantized operands, as Add."""
    operands = [real_value(node, build, k, k + 1, k + 2) for k in (0, 3)]
    names = [node.input_names[k] for k in (0, 3)]
    return _quantized_result(node, build, dense.add(node.as_operator("Add", operands, names), build), 6, 7)


@operator(f"{MICROSOFT}.QLinearConcat")
def qlinear_concat(node: Node, build: Builder) -> Value:
    """Import QLinearConcat as Concat; its operands stand behind the result's scale and zero point, three inputs each."""
    places = range(2, len(node.inputs), 3)
    operands = [real_value(node, build, k, k + 1, k + 2) for k in places]
    joined = joining.concat(node.as_operator("Concat", operands, [node.input_names[k] for k in places]), build)
    return _quantized_result(node, build, joined, 0, 1)


_OPERANDS = {
    "MatMulInteger": ("MatMul", (0, 1)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    f"{MICROSOFT}.DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    f"{MICROSOFT}.MatMulIntegerToFloat": ("MatMul", (0, 1)),
    f"{MICROSOFT}.QGemm": ("Gemm", (0, 3)),
    f"{MICROSOFT}.QLinearAdd": ("Add", (0, 3)),
}
"""Operators with the axes of a plain operator, and the places of its operands among theirs."""


def _as_plain(node: Node) -> Node:
    plain, places = next(found for name, found in _OPERANDS.items() if name.removeprefix(f"{MICROSOFT}.") == node.op)
    return node.as_operator(plain, [node.input(k) for k in places], [node.input_names[k] for k in places])


@axis_rule(*(name for name, (plain, _) in _OPERANDS.items() if plain != "Add"))
def product_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the product."""
    return dense.product_axes(_as_plain(node), roles)


@axis_rule(f"{MICROSOFT}.QLinearAdd")
def sum_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the sum."""
    return dense.sum_axes(_as_plain(node), roles)


@axis_rule(*(f"{MICROSOFT}.{name}" for name in _OF_ONE))
def same_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the only operand."""
    return pointwise.same_axes(node, roles)


@axis_rule(f"{MICROSOFT}.QLinearConcat")
def concat_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the joined operands."""
    places = range(2, len(node.inputs), 3)
    plain = node.as_operator("Concat", [node.input(k) for k in places], [node.input_names[k] for k in places])
    return joining.concat_axes(plain, roles)


@axis_rule(f"{MICROSOFT}.DynamicQuantizeLSTM")
def lstm_axes(node: Node, roles: Roles) -> tuple[AxisTensor | None, ...]:
    """Name the axes as LSTM does."""
    weights = [
        w.transpose(0, 2, 1) if isinstance(w, np.ndarray) and w.ndim == 3 else w for w in map(node.input, (1, 2))
    ]
    return recurrent.recurrent_axes(_as_lstm(node, weights), roles)
