"""Tile: features that are repeated are read again, and none is computed twice."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.structural import part_of
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import tiled_constant
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import AXIS_NAMES, Array, Features, Value, is_shape


def _repeats(node: Node, rank: int) -> list[int]:
    """Return how often Tile repeats each axis."""
    if is_shape(node.input(1)):
        raise node.refuse("repeats as often as a size of the graph; re-export with fixed numbers of repeats")
    given = node.ints(1, "repeats")
    if len(given) != rank or min(given, default=1) < 1:
        raise node.damaged(f"repeats={given[:rank]}…, expected one number of at least 1 for each of {rank} axes")
    return given


@operator("Tile")
def tile(node: Node, build: Builder) -> Value:
    """Import Tile: feature axes are repeated, of constants any."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    if not isinstance(value, Features) and is_shape(node.input(1)):
        return tiled_constant(node, build, value, node.input(1))
    repeats = _repeats(node, ids.ndim)
    if not isinstance(value, Features):
        node.reserve(count(ids.shape) * count(repeats))
        return np.tile(ids, repeats)
    for axis, (symbol, times) in enumerate(zip(value.axes, repeats, strict=True)):
        if symbol is not None and times != 1:
            raise node.refuse(
                f"repeats the {AXIS_NAMES[symbol]} axis {axis} of {value.describe()} {times} times; only axes of features "
                "are repeated; run this part outside the model"
            )
    node.reserve_features(count(ids.shape) * count(repeats))
    return Features(np.tile(ids, repeats), value.axes)


@axis_rule("Tile")
def tile_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; one that is repeated has another size."""
    value: AxisTensor = node.input(0)
    axes = list(value.axes)
    for k, times in enumerate(_repeats(node, value.rank)):
        if times != 1:
            size = axes[k].size
            axes[k] = roles.made(None if size is None else size * times, node.name)
            part_of(value.axes[k], axes[k], node, roles)
    return AxisTensor(tuple(axes), value.sources)
