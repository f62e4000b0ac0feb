"""Steps that a convolution makes of nothing but padding: more zeros before time than its kernel spans, for the convolutions behind it.

``F.pad(x, (4, 0))`` and two convolutions of three taps without padding are two causal convolutions but for one thing: before time, the second
one reads what the first one makes of zeros, c = f(bias), and no zeros. So each value is given on with c beside it, through activations and
what else computes by element; and the second convolution is one of y - c, padded with zeros, whose bias has its sum over c added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.conv import Conv
from qrnn.model.parts import FloatArray
from qrnn.model.window import EACH
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.constants import fold
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.values import Features, Padding

BY_ELEMENT = frozenset(
    [
        "Abs",
        "Add",
        "BatchNormalization",
        "Clip",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sub",
        "Tanh",
        "ThresholdedRelu",
        "Transpose",
    ]
)
"""The operators that compute each element of one tensor and constants by itself, or move them, and so treat steps of padding as others."""


def through(
    proto: onnx.NodeProto, opset: int, node: Node, build: Builder, handler: Callable[[Node, Builder], Any]
) -> Features | None:
    """Return what an operator makes of values with such steps; None where it reads none, or does not treat each element by itself."""
    if node.op not in BY_ELEMENT or proto.domain not in DEFAULT_DOMAINS:
        return None
    paddings = [build.padding_of(value) if isinstance(value, Features) else None for value in node.inputs]
    found = [padding for padding in paddings if padding is not None]
    if (
        any(p.fill is None or p.edges != found[0].edges or p.value.axes != found[0].value.axes for p in found)
        or not found
    ):
        return None
    operands = [value if p is None else p.value for value, p in zip(node.inputs, paddings, strict=True)]
    order = list(range(found[0].value.ids.ndim))
    if node.op == "Transpose":
        order = [int(axis) for axis in node.peek("perm", order[::-1])]
    result = handler(node.as_operator(node.op, operands, node.input_names), build)
    fills = [value if p is None else p.fill for value, p in zip(node.inputs, paddings, strict=True)]
    (fill, *_) = fold(proto, opset, fills, node.budget)
    if not isinstance(result, Features) or result.ids.shape != fill.shape or len(order) != fill.ndim:
        raise node.refuse(
            "reads steps that a convolution makes of padded zeros, and changes their number of axes; re-export with one Pad before both "
            "convolutions"
        )
    edges = tuple(found[0].edges[axis] for axis in order)
    return build.padded(node, Padding(result, edges, fill=fill.astype(np.float64, copy=False)))


def without_fill(
    node: Node, build: Builder, weight: FloatArray, bias: FloatArray, groups: int
) -> tuple[Node, FloatArray]:
    """Return a Conv node and its bias, in whose input there are zeros in place of such steps, with the same output."""
    padding = build.padding_of(node.features(0, "X"))
    if padding.fill is None or padding.value.ids.ndim < 2:
        return node, bias
    value, by_channel = padding.value, padding.fill.reshape(padding.fill.shape[1], -1)
    if groups < 1 or weight.shape[1] * groups != len(by_channel) or len(weight) % groups:
        raise node.damaged(
            f"W {list(weight.shape)} with group={groups} does not fit the {len(by_channel)} channels of {value.describe()}"
        )
    pads = any(node.peek("pads", ())) or node.peek("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if padding.fill.shape[0] != 1 or (by_channel != by_channel[:, :1]).any() or pads:
        raise node.refuse(
            "reads steps that a convolution makes of padded zeros, which differ from band to band or meet padding of its own; re-export with "
            "no more padding before each convolution than its kernel spans"
        )
    if padding.fill.any():
        value = _less(node, build, value, padding.fill)
    sums = weight.reshape(*weight.shape[:2], -1).sum(2).reshape(groups, -1, weight.shape[1])
    of_fill = np.einsum("goc,gc->go", sums, by_channel[:, 0].reshape(groups, -1)).reshape(-1)
    operands = [build.padded(node, Padding(value, padding.edges)), *node.inputs[1:]]
    return node.as_operator(node.op, operands, node.input_names), bias + of_fill


def _less(node: Node, build: Builder, value: Features, fill: FloatArray) -> Features:
    """Return ``value`` less the constants ``fill``: as a part of the layer of weights that writes it, or by one weight for each feature."""
    tensor, indices = build.whole_operand(node, value)
    output = build.result(node, tensor.features, tensor.has_time, part=".of_padding")
    node.reserve(3 * indices.size)
    less, ones = -fill.reshape(-1)[np.argsort(indices)], np.ones(indices.size)
    name = f"{node.name}/of_padding"
    if build.matrix_that_writes(tensor) is not None:
        build.layers.append(Affine(name, tensor.name, output.name, ones, less))
    else:
        build.add_matrix(Conv(name, tensor.name, output.name, ones.reshape(-1, 1, 1, 1), less, EACH, groups=less.size))
    return Features((indices + output.start).reshape(value.ids.shape), value.axes)
