"""Operators that normalize: over the features of a step, over groups of them, and over whole sequences."""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.folding import folded_value, refolded
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.normalizing import Divisor, check_axes, normalized
from qrnn.onnx_import.operators.pointwise import same_axes
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.values import TIME, Features


@operator("LayerNormalization", "RMSNormalization")
def layer_norm(node: Node, build: Builder) -> Features:
    """Import scale · (x - mean) / sqrt(variance + epsilon) + B over the axes from ``axis`` on; RMSNormalization has no mean and no B."""
    value = node.features(0, "its input")
    axis, epsilon = node.axis(int(node.take("axis", -1)), value.ids.ndim), _epsilon(node)
    if (stash_type := int(node.take("stash_type", 1))) != 1:
        raise node.refuse(f"stash_type={stash_type} is not supported; statistics are computed as for 1, float32")
    if extra := [name for name in node.output_names[1:] if name]:
        raise node.refuse(f"output {extra[0]!r} is not supported; only the normalized values are")
    axes = list(range(axis, value.ids.ndim))
    check_axes(node, value, axes)
    gain = _broadcast(node, 1, "Scale", value)
    bias = _broadcast(node, 2, "B", value) if node.has_input(2) else np.zeros(1)
    return normalized(node, build, value, axes, gain, bias, Divisor(node.op == "LayerNormalization", epsilon))


@operator("InstanceNormalization")
def instance_norm(node: Node, build: Builder) -> Features:
    """Import scale · (x - mean) / sqrt(variance + epsilon) + B of each channel over all axes behind it; x [N, C, …]."""
    value = node.features(0, "its input")
    epsilon = _epsilon(node)
    if (
        whole := folded_value(build, value)
    ) is not None:  # groups of channels that Reshape put together with other axes
        groups = value.ids.size
        gain, bias = (_per_channel(node, k, what, groups) for k, what in ((1, "scale"), (2, "B")))
        return refolded(node, build, value, _by_groups(node, build, whole, groups, gain, bias, epsilon))
    rank = value.ids.ndim
    if rank < 3:
        raise node.damaged(f"reads {value.describe()}, expected [N, C, …] with an axis behind the channels")
    if value.axes[1] is not None:
        raise node.refuse(f"reads {value.describe()}, whose second axis is not of channels; re-export with [N, C, …]")
    shape = [-1 if axis == 1 else 1 for axis in range(rank)]
    gain, bias = (_per_channel(node, k, what, value.ids.shape[1]) for k, what in ((1, "scale"), (2, "B")))
    return normalized(
        node, build, value, list(range(2, rank)), gain.reshape(shape), bias.reshape(shape), Divisor(True, epsilon)
    )


@operator("GroupNormalization")
def group_norm(node: Node, build: Builder) -> Features:
    """Import scale · (x - mean) / sqrt(variance + epsilon) + bias of groups of channels over all axes; x [N, C, …], and opset 21 or later."""
    value = node.features(0, "its input")
    epsilon, groups = _epsilon(node), int(node.take("num_groups", 0))
    if (stash_type := int(node.take("stash_type", 1))) != 1:
        raise node.refuse(f"stash_type={stash_type} is not supported; statistics are computed as for 1, float32")
    channels = _channels(node, value, groups)
    gain, bias = (_per_channel(node, k, what, channels) for k, what in ((1, "scale"), (2, "bias")))
    return _by_groups(node, build, value, groups, gain, bias, epsilon)


def _channels(node: Node, value: Features, groups: int) -> int:
    """Return the channels of a value [N, C, …], which have to be a multiple of the groups."""
    if value.ids.ndim < 2:
        raise node.damaged(f"reads {value.describe()}, expected [N, C, …]")
    if value.axes[1] is not None:
        raise node.refuse(f"reads {value.describe()}, whose second axis is not of channels; re-export with [N, C, …]")
    channels = int(value.ids.shape[1])
    if groups < 1 or channels % groups:
        raise node.damaged(f"num_groups={groups} does not divide the {channels} channels")
    return channels


def _by_groups(
    node: Node, build: Builder, value: Features, groups: int, gain: FloatArray, bias: FloatArray, epsilon: float
) -> Features:
    """Return the normalization of groups of channels of [N, C, …]; gain and bias have a number for each group or each channel."""
    channels = _channels(node, value, groups)
    shape, rest = value.ids.shape, value.ids.ndim - 2
    split = Features(
        value.ids.reshape(shape[0], groups, channels // groups, *shape[2:]),
        (value.axes[0], None, None, *value.axes[2:]),
    )
    own = [what.reshape(1, groups, -1, *(1,) * rest) for what in (gain, bias)]
    result = normalized(node, build, split, list(range(2, split.ids.ndim)), own[0], own[1], Divisor(True, epsilon))
    return Features(result.ids.reshape(shape), value.axes)


@operator("MeanVarianceNormalization")
def mean_variance_norm(node: Node, build: Builder) -> Features:
    """Import (x - mean) / (sqrt(variance) + 1e-9) over ``axes``, by default 0, 2 and 3."""
    value = node.features(0, "its input")
    given = [int(axis) for axis in node.take("axes", [0, 2, 3])]
    axes = [node.axis(axis, value.ids.ndim) for axis in given]
    if len(set(axes)) != len(axes):
        raise node.damaged(f"axes={given} name an axis twice")
    return normalized(node, build, value, axes, np.ones(1), np.zeros(1), Divisor(outside=1e-9))


@operator("LpNormalization")
def lp_norm(node: Node, build: Builder) -> Features:
    """Import x / ‖x‖ over an axis of features, with the norm of order 2, and 0 where it is 0."""
    value = node.features(0, "its input")
    axis, order = node.axis(int(node.take("axis", -1)), value.ids.ndim), int(node.take("p", 2))
    if order != 2:
        raise node.refuse(f"p={order} is not supported; only the norm of order 2 is")
    if value.axes[axis] is TIME:
        raise node.refuse(
            f"axis={axis} of {value.describe()} is time; only the norm of features of a step is supported"
        )
    gain = np.full(
        1, 1.0 / math.sqrt(value.ids.shape[axis])
    )  # the norm is the root of the mean of the squares times that of their number
    return normalized(node, build, value, [axis], gain, np.zeros(1), Divisor(centred=False))


def _epsilon(node: Node) -> float:
    epsilon = float(node.take("epsilon", 1e-5))
    if not (np.isfinite(epsilon) and epsilon >= 0.0):
        raise node.damaged(f"epsilon={epsilon}, expected a finite number of at least 0")
    return epsilon


def _broadcast(node: Node, k: int, what: str, value: Features) -> FloatArray:
    """Return input k, which broadcasts to a value, and is the same along batch and time."""
    given: FloatArray = node.weights(k, what)
    if np.broadcast_shapes(given.shape, value.ids.shape) != value.ids.shape:
        raise node.refuse(
            f"{what} has shape {list(given.shape)} beside {value.describe()}; only one value for each feature of a step is supported"
        )
    return given


def _per_channel(node: Node, k: int, what: str, number: int) -> FloatArray:
    """Return input k, one number for each channel or group."""
    given: FloatArray = node.weights(k, what)
    if given.shape != (number,):
        raise node.damaged(f"{what} has shape {list(given.shape)}, expected [{number}]")
    return given


axis_rule(
    "LayerNormalization",
    "RMSNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "MeanVarianceNormalization",
    "LpNormalization",
)(same_axes)
