"""Activations that are nodes of their own."""

from __future__ import annotations

import numpy as np

from qrnn.model.activation import Activation, ActivationKind
from qrnn.model.kinds.log_softmax import LogSoftmax
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.layer import Layer
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import remember, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.attention import as_one_sequence, softmax_over_time
from qrnn.onnx_import.operators.matrices import softmax_of_groups
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import TIME, Features, Tensor

FUNCTIONS: dict[str, tuple[ActivationKind, dict[str, float]]] = {
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "Relu": ("relu", {}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": 1.0}),
    "Elu": ("elu", {"alpha": 1.0}),
    "Softsign": ("softsign", {}),
    "Softplus": ("softplus", {}),
    "Swish": ("swish", {"alpha": 1.0}),
    "HardSwish": ("hard_swish", {}),
}
"""Operator → its function, and the attributes with their defaults."""


@operator(*FUNCTIONS)
def pointwise(node: Node, build: Builder) -> Features:
    """Import an activation y = f(x), element by element; `qrnn.model.activation.Activation` describes the functions."""
    kind, defaults = FUNCTIONS[node.op]
    values = {name: float(node.take(name, default)) for name, default in defaults.items()}
    if not np.isfinite(list(values.values())).all():
        raise node.damaged(f"{', '.join(f'{k}={v}' for k, v in values.items())} must be finite")
    activation = Activation(kind, **values)
    return _applied(node, build, node.features(0, "its input"), activation)


def _applied(node: Node, build: Builder, value: Features, activation: Activation) -> Features:
    """Return the activation of a value, by a layer of its own."""

    def layer(name: str, output: str, tensor: Tensor) -> Pointwise:
        return Pointwise(name, tensor.name, output, activation)

    result = build.map_tensors(node, value, layer)
    remember(build, result, "activation", term_of(build, value), activation=activation)
    return result


@operator("Gelu")
def gelu(node: Node, build: Builder) -> Features:
    """Import Gelu, x·Φ(x), or its approximation by tanh, which is another function."""
    approximate = str(node.take("approximate", "none"))
    if approximate not in ("none", "tanh"):
        raise node.refuse(f"approximate={approximate!r} is not supported; only none and tanh are")
    return _applied(
        node, build, node.features(0, "its input"), Activation("gelu" if approximate == "none" else "gelu_tanh")
    )


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, build: Builder) -> Features:
    """Import Softmax, or its logarithm, over all features of each step; Softmax over time where a sum over time of weighted values follows.

    Before opset 13 it runs over all axes from ``axis`` on together (default 1).
    """
    value = node.features(0, "its input")
    rank = value.ids.ndim
    axis = node.axis(int(node.take("axis", 1 if node.opset < 13 else -1)), rank)
    over = range(axis, rank) if node.opset < 13 else [axis]
    sizes = [value.ids.shape[k] for k in over]
    if (
        node.op == "Softmax"
        and TIME in (around := [as_one_sequence(build, value).axes[k] for k in over])
        and {TIME, None} >= {*around}
        and not build.one_step
        and sizes == [1] * len(sizes)
    ):
        return softmax_over_time(node, build, as_one_sequence(build, value))
    symbols = [s for k, s in enumerate(value.axes) if k in over and s is not None]
    if any(not (build.one_step and s is TIME) for s in symbols):
        raise node.refuse(
            f"axis={axis} of {value.describe()} runs over batch or time; only the feature axis is supported"
        )
    if int(np.prod([value.ids.shape[k] for k in over])) != value.ids.size:
        if node.op == "Softmax" and len(over) == 1:
            return softmax_of_groups(node, build, value, axis)
        raise node.refuse(
            f"axis={axis} of {value.describe()} leaves other feature axes; only all features at once are supported"
        )

    def layer(name: str, output: str, tensor: Tensor) -> Layer:
        return (Softmax if node.op == "Softmax" else LogSoftmax)(name, tensor.name, output)

    return build.map_tensors(node, value, layer)


@axis_rule(*FUNCTIONS, "Gelu", "Softmax", "LogSoftmax")
def same_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; the values no longer are those of a graph input."""
    value: AxisTensor = node.input(0)
    return AxisTensor(value.axes)
