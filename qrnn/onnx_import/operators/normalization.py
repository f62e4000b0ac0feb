"""LayerNormalization and RMSNormalization over the last axes."""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.parts import FloatArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.pointwise import same_axes
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.values import Features


@operator("LayerNormalization", "RMSNormalization")
def layer_norm(node: Node, build: Builder) -> Features:
    """Scale · (x - mean) / sqrt(variance + epsilon) + B over the last axes, which hold all features; RMSNormalization has no mean and no B."""
    value = node.features(0, "its input")
    axis, epsilon = node.axis(int(node.take("axis", -1)), value.ids.ndim), float(node.take("epsilon", 1e-5))
    if (stash_type := int(node.take("stash_type", 1))) != 1:
        raise node.refuse(f"stash_type={stash_type} is not supported; statistics are computed as for 1, float32")
    if extra := [name for name in node.output_names[1:] if name]:
        raise node.refuse(f"output {extra[0]!r} is not supported; only the normalized values are")
    shape = value.ids.shape[axis:]
    if any(symbol is not None for symbol in value.axes[axis:]) or value.ids.size != math.prod(shape):
        raise node.refuse(
            f"axis={axis} of {value.describe()}; only the last axis is supported, and only where it holds all features"
        )
    if not (np.isfinite(epsilon) and epsilon >= 0.0):
        raise node.damaged(f"epsilon={epsilon}, expected a finite number of at least 0")
    gain = _parameter(node, 1, "Scale", shape)
    bias = _parameter(node, 2, "B", shape) if node.has_input(2) else np.zeros(value.ids.size)
    tensor, indices = build.whole_operand(node, value)
    order = np.argsort(indices)  # the tensor may hold the features in another order
    output = build.result(node, tensor.features, tensor.has_time)
    centred = node.op == "LayerNormalization"
    build.layers.append(LayerNorm(node.name, tensor.name, output.name, gain[order], bias[order], epsilon, centred))
    return Features((indices + output.start).reshape(value.ids.shape), value.axes)


def _parameter(node: Node, k: int, what: str, shape: tuple[int, ...]) -> FloatArray:
    """Input k as one number for each feature, [F]."""
    given = node.weights(k, what)
    if np.broadcast_shapes(given.shape, shape) != shape:
        raise node.refuse(
            f"{what} has shape {list(given.shape)}; only one value for each feature ({list(shape)}) is supported"
        )
    node.reserve(math.prod(shape))
    return np.broadcast_to(given, shape).reshape(-1)


axis_rule("LayerNormalization", "RMSNormalization")(same_axes)
