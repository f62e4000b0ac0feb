"""Products of two computed matrices, and softmax over an inner axis: attention within a step, over its bands or heads."""

from __future__ import annotations

import numpy as np

from qrnn.model.kinds.group_softmax import GroupSoftmax
from qrnn.model.kinds.matmul import MOST_PRODUCTS, MatMul
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.attention import product_over_time
from qrnn.onnx_import.operators.two_tensors import broadcast
from qrnn.onnx_import.values import TIME, Features, Tensor


def softmax_of_groups(node: Node, build: Builder, value: Features, axis: int) -> Features:
    """Return the softmax over one feature axis of several."""
    moved = np.moveaxis(value.ids, axis, -1)
    size = moved.shape[-1]
    tensor = _in_order(node, build, moved)
    output = build.result(node, moved.size, tensor.has_time)
    build.layers.append(GroupSoftmax(node.name, tensor.name, output.name, moved.size // size))
    return Features(np.moveaxis(output.ids.reshape(moved.shape), -1, axis), value.axes)


def product_of_two(node: Node, build: Builder, a: Features, b: Features) -> Features:
    """Return the product of two computed matrices, [.., M, K] · [.., K, P]: within a step, or of a softmax over time and values."""
    if (weighted := product_over_time(node, build, a, b)) is not None:
        return weighted
    shapes = f"multiplies {a.describe()} and {b.describe()}"
    if min(a.ids.ndim, b.ids.ndim) < 2:
        raise node.refuse(f"{shapes}; only matrices can be multiplied, re-export with two axes at least")
    if TIME in (a.axes[-2], b.axes[-1]) and not build.one_step:
        raise node.refuse(
            f"{shapes}: a number for each step and step, as attention over the steps of a sequence computes, which no stream could give; run "
            "this part outside the model"
        )
    if any(axis is not None for axis in (*a.axes[-2:], *b.axes[-2:])) or a.ids.shape[-1] != b.ids.shape[-2]:
        raise node.refuse(
            f"{shapes}; of two computed matrices only those within a step, or a softmax over time and values at the same steps, can be "
            "multiplied"
        )
    rows, inner, columns = a.ids.shape[-2], a.ids.shape[-1], b.ids.shape[-1]
    lead = broadcast(node, build, _lead(a), _lead(b))
    if lead is None:
        raise node.refuse(f"{shapes}; expected the batch and time of both on the same axes")
    shape = lead[0].ids.shape
    groups = int(np.prod(shape))
    if groups * rows * inner * columns > MOST_PRODUCTS:
        raise node.refuse(f"{shapes}: more than {MOST_PRODUCTS} products in a step")
    node.reserve_features(groups * inner * (rows + columns) + groups * rows * columns)
    left = _in_order(node, build, np.broadcast_to(a.ids, (*shape, rows, inner)))
    right = _in_order(node, build, np.broadcast_to(b.ids, (*shape, inner, columns)))
    if left.has_time != right.has_time:
        raise node.refuse(f"{shapes}, one with a time axis and one without; run this part outside the model")
    output = build.result(node, groups * rows * columns, left.has_time)
    build.layers.append(MatMul(node.name, left.name, right.name, output.name, groups, rows, inner, columns))
    return Features(output.ids.reshape(*shape, rows, columns), (*lead[0].axes, None, None))


def _lead(value: Features) -> Features:
    """Return the axes of a value before those of its matrices, with an id of each matrix."""
    return Features(value.ids[..., 0, 0], value.axes[:-2])


def _in_order(node: Node, build: Builder, ids: IndexArray) -> Tensor:
    """Return a tensor of exactly these features, row-major."""
    tensor, indices = build.operand(node, Features(ids.reshape(-1), (None,)))
    if tensor.features == indices.size and np.array_equal(indices, np.arange(indices.size)):
        return tensor
    return build.gathered(node, indices + tensor.start)[0]
