"""Conv, and BatchNormalization behind a layer of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.model.kinds.conv import Conv
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.filled import without_fill
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine
from qrnn.onnx_import.operators.pointwise import same_axes
from qrnn.onnx_import.operators.windows import geometry
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.values import Features, Padding


@operator("Conv")
def conv(node: Node, build: Builder) -> Features:
    """Import Conv over time and over one or two axes within a step; X [N, C, …], W [O, C / group, …], B [O]."""
    weight = node.weights(1, "W")
    if weight.ndim < 3 or 0 in weight.shape:
        raise node.damaged(
            f"W '{node.input_names[1]}' has shape {list(weight.shape)}, expected [O, C / group, …] with no empty axis"
        )
    kernel = tuple(weight.shape[2:])
    if (given := node.take("kernel_shape")) is not None and tuple(given) != kernel:
        raise node.damaged(f"kernel_shape={list(given)}, but W has the kernel {list(kernel)}")
    groups = int(node.take("group", 1))
    bias = node.weights(2, "B") if node.has_input(2) else np.zeros(len(weight))
    if bias.shape != (len(weight),):
        raise node.damaged(f"B '{node.input_names[2]}' has shape {list(bias.shape)}, expected [{len(weight)}]")
    node, bias = without_fill(node, build, weight, bias, groups)
    found = geometry(node, build, kernel, beyond=True)
    if groups < 1 or weight.shape[1] * groups != found.channels or len(weight) % groups:
        raise node.damaged(
            f"W {list(weight.shape)} with group={groups} does not fit the {found.channels} channels of {found.value.describe()}"
        )
    channels, apart = len(weight), found.apart
    node.reserve(weight.size * apart)
    # Axes that are neither time nor lines nor bands have one tap: the reshape drops them.
    weight = weight.transpose(found.weight_order).reshape(*weight.shape[:2], found.time.taps, -1)
    weight, bias = np.tile(weight, (apart, 1, 1, 1)), np.tile(bias, apart)  # each place apart is a group of channels
    tensor = found.operand(node, build)
    output = build.result(node, found.places * apart * channels, True)
    over = found.time, found.band, found.bands, groups * apart, found.line, found.lines
    layer = Conv(node.name, tensor.name, output.name, weight, bias, *over)
    build.add_matrix(layer)
    result = found.result(output, channels)
    if not any(found.beyond):
        return result
    edges = tuple(found.beyond if axis == found.time_axis else (0, 0) for axis in range(result.ids.ndim))
    fill = bias[:channels].reshape([-1 if axis == 1 else 1 for axis in range(result.ids.ndim)])
    return build.padded(node, Padding(result, edges, fill=np.broadcast_to(fill, result.ids.shape)))


@operator("BatchNormalization")
def batch_norm(node: Node, build: Builder) -> Features:
    """Import BatchNormalization, scale · (x - mean) / sqrt(var + epsilon) + B by channel.

    It becomes a part of the weights of the layer before it; where that has none, constants that fold as those of Mul and Add do.
    """
    value = node.features(0, "X")
    epsilon = float(node.take("epsilon", 1e-5))
    node.take("momentum")
    if int(node.take("training_mode", 0)) or int(node.take("spatial", 1)) != 1:
        raise node.refuse("training_mode=1 or spatial=0 is not supported; re-export in evaluation mode (model.eval())")
    if extra := [name for name in node.output_names[1:] if name]:
        raise node.refuse(f"output {extra[0]!r} is not supported; only the normalized values are")
    if value.ids.ndim < 2 or value.axes[1] is not None:
        raise node.refuse(
            f"normalizes {value.describe()}, whose axis 1 is batch or time; only channels there are supported"
        )
    channels = value.ids.shape[1]
    scale, bias, mean, variance = (
        node.weights(k, what) for k, what in ((1, "scale"), (2, "B"), (3, "mean"), (4, "var"))
    )
    for k, given in enumerate((scale, bias, mean, variance)):
        if given.shape != (channels,):
            raise node.damaged(
                f"'{node.input_names[k + 1]}' has shape {list(given.shape)}, expected one value per channel, [{channels}]"
            )
    if not (np.isfinite(epsilon) and epsilon >= 0.0 and (variance + epsilon > 0.0).all()):
        raise node.damaged(f"var + epsilon is not positive everywhere; epsilon={epsilon}")
    factor = scale / np.sqrt(variance + epsilon)
    by_channel = [1] * value.ids.ndim
    by_channel[1] = channels
    node.reserve(2 * value.ids.size)
    by_place = factor.reshape(by_channel), (bias - mean * factor).reshape(by_channel)
    factors, offsets = (np.broadcast_to(what, value.ids.shape).reshape(-1) for what in by_place)
    tensor, indices = build.operand(node, value)
    before = build.matrix_that_writes(tensor)
    if before is None or len(np.unique(indices)) < indices.size:
        return affine(node, build, value, *by_place)
    node.reserve(3 * tensor.features)
    layer = before.with_output_affine(
        _of_rows(before, factors, indices, tensor.features, 1.0),
        _of_rows(before, offsets, indices, tensor.features, 0.0),
    )
    if layer is None:
        return affine(node, build, value, *by_place)
    output = build.result(node, tensor.features, tensor.has_time)
    build.add_matrix(replace(layer, output=output.name))
    return Features((indices + output.start).reshape(value.ids.shape), value.axes)


def _of_rows(layer: MatrixLayer, values: FloatArray, indices: IndexArray, features: int, other: float) -> FloatArray:
    """Return ``values`` of the features ``indices`` of a layer's output for all of its ``features``.

    One that is not among them, as a band that is cut off, gets the value of another feature of its row, or ``other``.
    """
    rows = len(layer.bias)
    by_row = np.full(rows, other)
    by_row[indices % rows] = values
    found = by_row[np.arange(features) % rows]
    found[indices] = values
    return found


axis_rule("BatchNormalization")(same_axes)
