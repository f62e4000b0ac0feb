"""Pad: zeros around an axis become a part of the window that reads them; what repeats or drops features of a step moves their ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import QrnnError
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.values import Array, Features, Padding, Value

MOVES = ("reflect", "edge", "wrap")
"""Modes of Pad that repeat elements; NumPy's have the same names."""


@operator("Pad")
def pad(node: Node, build: Builder) -> Value:
    """Import Pad: of constants, and of features by a constant (over time by zeros, read by Conv alone) or by elements of an axis of a step."""
    value = node.input(0)
    mode = str(node.take("mode", "constant"))
    if mode != "constant" and mode not in MOVES:
        raise node.damaged(f"mode={mode!r}, expected constant, reflect, edge or wrap")
    rank = value.ids.ndim if isinstance(value, Features) else np.ndim(value)
    edges = _edges(node, rank)
    grown = [(max(before, 0), max(after, 0)) for before, after in edges]
    fill = _fill(node)
    if not isinstance(value, Features):
        kept = _cropped(value, edges)
        node.reserve(count([size + sum(edge) for size, edge in zip(kept.shape, grown, strict=True)]))
        return _padded(kept, grown, mode, fill)
    if any(
        symbol is not None and edge != (0, 0) and min(edge) < 0 for symbol, edge in zip(value.axes, edges, strict=True)
    ):
        raise node.refuse(f"drops elements of {value.describe()} along batch or time; run this part outside the model")
    ids = _cropped(value.ids, edges)
    value = Features(ids, value.axes)
    if not any(map(any, grown)):
        return value
    node.reserve_features(count([size + sum(edge) for size, edge in zip(ids.shape, grown, strict=True)]))
    if mode != "constant":
        if any(symbol is not None and any(edge) for symbol, edge in zip(value.axes, grown, strict=True)):
            raise node.refuse(
                f"mode={mode} over batch or time of {value.describe()} is not supported; only constant zeros are"
            )
        return Features(_padded(ids, grown, mode), value.axes)
    if fill == 0.0:
        return build.padded(node, Padding(value, tuple(grown)))
    if not np.isfinite(fill) or any(
        symbol is not None and any(edge) for symbol, edge in zip(value.axes, grown, strict=True)
    ):
        raise node.refuse(f"pads {value.describe()} with {fill}; over batch or time only zeros are supported")
    node.reserve(3 * count([size + sum(edge) for size, edge in zip(ids.shape, grown, strict=True)]))
    zeros = Features(np.pad(ids, grown, constant_values=build.zero), value.axes)
    return affine(node, build, zeros, np.ones(1), np.pad(np.zeros(ids.shape), grown, constant_values=fill))


def _padded(array: Array, edges: list[tuple[int, int]], mode: str, fill: float = 0.0) -> Array:
    """Return an array with elements around it, by the node's mode."""
    more: dict[str, Any] = {"mode": mode} if mode in MOVES else {"constant_values": fill}
    result: Array = np.pad(array, edges, **more)
    return result


def _cropped(array: Array, edges: list[tuple[int, int]]) -> Array:
    """Return an array without the elements that negative padding drops."""
    spans = zip(edges, array.shape, strict=True)
    result: Array = array[tuple(slice(max(0, -before), size - max(0, -after)) for (before, after), size in spans)]
    return result


def _edges(node: Node, rank: int) -> list[tuple[int, int]]:
    """Return the padding (before, after) of each axis."""
    given = [int(v) for v in node.take("pads", node.take("paddings", []))] if node.opset < 11 else node.ints(1, "pads")
    axes = list(range(rank))
    if node.has_input(3):
        axes = [node.axis(axis, rank) for axis in node.ints(3, "axes")]
    if len(given) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise node.damaged(f"pads lists {len(given)} numbers for the axes {axes}, expected two for each")
    edges = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        edges[axis] = given[k], given[k + len(axes)]
    return edges


def _fill(node: Node) -> float:
    """Return the number that is padded."""
    if node.opset < 11:
        return float(node.take("value", 0.0))
    if not node.has_input(2):
        return 0.0
    fill = node.constant(2, "constant_value")
    if fill.size != 1:
        raise node.damaged(f"constant_value '{node.input_names[2]}' has {fill.size} elements, expected one")
    return float(fill.reshape(-1)[0])


@axis_rule("Pad")
def pad_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; one that grows has another size and the same role."""
    value: AxisTensor = node.input(0)
    try:
        edges = _edges(node, value.rank)
    except QrnnError:  # the second pass says what is wrong with the node
        return AxisTensor(value.axes)
    return AxisTensor(tuple(_grown(axis, sum(edge), node, roles) for axis, edge in zip(value.axes, edges, strict=True)))


def _grown(axis: Axis, more: int, node: Node, roles: Roles) -> Axis:
    if axis.size is None or not more:
        return axis
    made = roles.made(axis.size + more, node.name)
    roles.same(made, axis, node.name)
    return made
