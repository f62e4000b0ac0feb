"""GatherElements and GatherND of steps: each sequence's own last one, by the lengths less 1."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.counted import last_by_lengths
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import BATCH, TIME, Features


@operator("GatherElements")
def gather_elements(node: Node, build: Builder) -> Features:
    """Import GatherElements along time, whose indices are one and the same step of each sequence for all of its features."""
    value, indices = node.features(0, "data"), node.features(1, "indices")
    axis = node.axis(int(node.take("axis", 0)), value.ids.ndim)
    shape = indices.ids.shape
    others = [k for k in range(value.ids.ndim) if k != axis]
    fits = indices.ids.ndim == value.ids.ndim and shape[axis] == 1 and value.axes[axis] is TIME
    if not fits or any(indices.axes[k] is not value.axes[k] or shape[k] > value.ids.shape[k] for k in others):
        raise node.refuse(
            f"takes elements {indices.describe()} along axis {axis} of {value.describe()}; only one step of each sequence can be taken"
        )
    last = last_by_lengths(node, build, value, indices)
    return Features(last.ids[tuple(slice(size) for size in shape)], last.axes)


@operator("GatherND")
def gather_nd(node: Node, build: Builder) -> Features:
    """Import GatherND of one step of each sequence: data [N, T, …], indices [N, 1] or [N, …, 1], batch_dims 1."""
    value, indices = node.features(0, "data"), node.features(1, "indices")
    batch_dims = int(node.take("batch_dims", 0))
    shape = indices.ids.shape
    if (
        batch_dims != 1
        or value.axes[:2] != (BATCH, TIME)
        or not indices.axes
        or indices.axes[0] is not BATCH
        or set(indices.axes[1:]) - {None}
        or int(np.prod(shape)) != 1
    ):
        raise node.refuse(
            f"takes {indices.describe()} of {value.describe()} with batch_dims={batch_dims}; only one step of each sequence can be taken, from "
            "data [N, T, …] by indices [N, 1] with batch_dims=1"
        )
    last = last_by_lengths(node, build, value, indices)
    more = indices.ids.ndim - 2
    ids = last.ids.reshape(1, *(1,) * more, *value.ids.shape[2:])
    return Features(ids, (BATCH, *(None,) * more, *last.axes[2:]))


@axis_rule("GatherElements", "GatherND")
def taken_axes(node: Node, roles: Roles) -> AxisTensor:
    """Mark the indices as lengths; the axes that stay are those of the data."""
    value: AxisTensor = node.input(0)
    indices = node.input(1)
    if isinstance(indices, AxisTensor):
        roles.mark(indices, "lengths", node.name)
        roles.same(indices.axes[0], value.axes[0], node.name)
    if node.op == "GatherND":
        return AxisTensor((value.axes[0], *value.axes[2:]))
    axis = node.axis(int(node.take("axis", 0)), value.rank)
    return AxisTensor(tuple(roles.made(1, node.name) if k == axis else a for k, a in enumerate(value.axes)))
