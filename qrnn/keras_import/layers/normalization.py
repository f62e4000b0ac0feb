"""Normalizations: by stored statistics of the batch, and over features of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.elementwise import scaled
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.tensors import Value


@layer("BatchNormalization", "SyncBatchNormalization", keeps_mask=True, by_step=True)
def batch_normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write gamma · (x - mean) / sqrt(variance + epsilon) + beta, with the statistics of training, as one product and one sum."""
    call.only()
    x, settings = call.x, call.settings
    axes = settings.axes("axis", x.rank)
    if len(axes) != 1 or axes == [0]:
        settings.refuse(f"it normalizes along the axes {axes} of {x.text()}; only one axis of features is supported")
    size = x.shape[axes[0]]
    if size is None:
        settings.refuse(
            f"it has statistics for each place of axis {axes[0]} of {x.text()}, whose size is open; normalize the features"
        )
    epsilon = settings.number("epsilon", 1e-3)
    center, scale = settings.flag("center", True), settings.flag("scale", True)
    names = [*(["gamma"] if scale else []), *(["beta"] if center else []), "moving_mean", "moving_variance"]
    found = dict(zip(names, call.weights.take(call.layer.where, [(name, (size,)) for name in names]), strict=True))
    if (found["moving_variance"] + epsilon <= 0).any():
        settings.damaged("moving_variance + epsilon is not above 0 everywhere")
    gain = found.get("gamma", np.ones(size)) / np.sqrt(found["moving_variance"] + epsilon)
    offset = found.get("beta", np.zeros(size)) - found["moving_mean"] * gain
    shape = [size if k == axes[0] else 1 for k in range(axes[0], x.rank)]
    return [scaled(graph, x, gain.reshape(shape), offset.reshape(shape))]


@layer("LayerNormalization", keeps_mask=True, by_step=True)
def layer_normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the normalization over the axes of features, with gamma and beta."""
    call.only()
    x, settings = call.x, call.settings
    axes, sizes = _feature_axes(call, "axis")
    epsilon = settings.number("epsilon", 1e-3)
    center, scale = settings.flag("center", True), settings.flag("scale", True)
    if settings.flag("rms_scaling", False):
        settings.refuse("rms_scaling=True is not supported; take RMSNormalization")
    names = [*(["gamma"] if scale else []), *(["beta"] if center else [])]
    found = dict(zip(names, call.weights.take(call.layer.where, [(name, sizes) for name in names]), strict=True))
    gain, offset = found.get("gamma", np.ones(sizes)), found.get("beta", np.zeros(sizes))
    order = [*(k for k in range(x.rank) if k not in axes), *axes]
    moved = graph.transpose(x, order)
    operands = [graph.constant(gain, "gamma"), graph.constant(offset, "beta")]
    y = graph.apply("LayerNormalization", moved, *operands, axis=x.rank - len(axes), epsilon=epsilon)
    return [graph.transpose(y, [int(k) for k in np.argsort(order)])]


def _feature_axes(call: Call, key: str) -> tuple[list[int], tuple[int, ...]]:
    """Return the axes that are normalized and their sizes."""
    x = call.x
    axes = call.settings.axes(key, x.rank)
    sizes = tuple(x.shape[k] for k in axes)
    if 0 in axes or not axes:
        call.settings.refuse(f"it normalizes over the axes {axes} of {x.text()}; only axes of features are supported")
    if 1 in axes and x.rank > 2:
        if x.mask is not None:
            call.settings.refuse("it normalizes over time, masked steps too; normalize the features of each step")
        graph_time = x.shape[1]
        if graph_time is None:
            call.settings.refuse(
                f"it normalizes over the axes {axes} of {x.text()}, of which one is open; normalize the features"
            )
    known = tuple(size for size in sizes if size is not None)
    if len(known) != len(sizes):
        call.settings.refuse(
            f"it normalizes over the axes {axes} of {x.text()}, of which one is open; normalize the features"
        )
    return axes, known


@layer("RMSNormalization", keeps_mask=True, by_step=True)
def rms_normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write x · scale / sqrt(mean(x²) + epsilon) over the last axis."""
    call.only()
    x, settings = call.x, call.settings
    axes, sizes = _feature_axes(call, "axis")
    epsilon = settings.number("epsilon", 1e-6)
    (scale,) = call.weights.take(call.layer.where, [("scale", sizes)])
    square = graph.op("Mul", [x.name, x.name])
    mean = graph.op("ReduceMean", [square], axes=axes, keepdims=1)
    root = graph.op("Sqrt", [graph.op("Add", [mean, graph.number(epsilon)])])
    normal = graph.apply("Div", x, root)
    shape = [x.shape[k] if k in axes else 1 for k in range(min(axes), x.rank)]
    return [graph.apply("Mul", normal, graph.constant(np.reshape(scale, [int(s or 1) for s in shape]), "scale"))]


@layer("UnitNormalization", keeps_mask=True, by_step=True)
def unit_normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write x divided by its length over an axis, which is at least 1e-12."""
    call.only()
    x = call.x
    axes, _ = _feature_axes(call, "axis")
    if len(axes) != 1:
        call.settings.refuse(f"it normalizes over {len(axes)} axes together; expected one")
    return [graph.apply("LpNormalization", x, axis=axes[0], p=2)]


@layer("GroupNormalization")
def group_normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the normalization of groups of channels, over time too where the value has it."""
    call.only()
    x, settings = call.x, call.settings
    (axis,) = settings.axes("axis", x.rank)
    channels, groups = x.shape[axis], settings.take("groups", 32)
    if channels is None or not isinstance(groups, int) or groups == 0:
        settings.refuse(f"it normalizes {groups!r} groups of axis {axis} of {x.text()}")
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups:
        settings.damaged(f"groups={groups} does not divide {channels} channels")
    epsilon = settings.number("epsilon", 1e-3)
    center, scale = settings.flag("center", True), settings.flag("scale", True)
    names = [*(["gamma"] if scale else []), *(["beta"] if center else [])]
    found = dict(zip(names, call.weights.take(call.layer.where, [(name, (channels,)) for name in names]), strict=True))
    graph.mixes_steps(x)
    order = [0, axis, *(k for k in range(1, x.rank) if k != axis)]
    first = graph.transpose(x, order)
    grouped = graph.reshape(first, [0, groups, -1], (None, groups, None))
    unit = [graph.constant(np.ones(groups), "one"), graph.constant(np.zeros(groups), "zero")]
    normal = graph.apply("InstanceNormalization", grouped, *unit, epsilon=epsilon)
    back = graph.op("Reshape", [normal.name, graph.op("Shape", [first.name])])
    shape: list[Any] = [channels, *[1] * (x.rank - 2)]
    y = Value(back, first.shape, x.mask, x.sources)
    y = scaled(
        graph,
        y,
        found.get("gamma", np.ones(channels)).reshape(shape),
        found.get("beta", np.zeros(channels)).reshape(shape),
    )
    return [graph.transpose(y, [int(k) for k in np.argsort(order)])]
