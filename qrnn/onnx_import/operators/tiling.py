"""Tile: features that are repeated are read again, none is computed twice, and a vector may be repeated over time."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.joining import part_of
from qrnn.onnx_import.operators.shapes import for_each_sequence
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import tiled_constant
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.steps import repeated
from qrnn.onnx_import.values import AXIS_NAMES, Array, Dim, Features, Symbol, Value, is_shape


def _repeats(node: Node, rank: int) -> list[Dim]:
    """Return how often Tile repeats each axis."""
    sizes = node.input(1)
    given: list[Dim] = list(sizes.reshape(-1)) if is_shape(sizes) else list(node.ints(1, "repeats"))
    if len(given) != rank or min((times for times in given if not isinstance(times, Symbol)), default=1) < 1:
        raise node.damaged(f"repeats={given[:rank]}…, expected one number of at least 1 for each of {rank} axes")
    return given


@operator("Tile")
def tile(node: Node, build: Builder) -> Value:
    """Import Tile: feature axes are repeated, of constants any."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    sizes = node.input(1)
    if not isinstance(value, Features) and is_shape(sizes):
        if for_each_sequence(ids, list(sizes.reshape(-1))):
            return ids
        return tiled_constant(node, build, value, node.input(1))
    repeats = _repeats(node, ids.ndim)
    if isinstance(value, Features):
        for axis, times in enumerate(repeats):
            if (rule := rule_of(times)) is not None and value.axes[axis] is None and ids.shape[axis] == 1:
                value, repeats[axis] = repeated(node, build, value, axis, rule), 1
                ids = value.ids
    counts = [times for times in repeats if not isinstance(times, Symbol)]
    if len(counts) != len(repeats):
        raise node.refuse(
            f"repeats as often as {repeats}; only a vector can be repeated as often as there are steps, re-export with fixed numbers of repeats"
        )
    if not isinstance(value, Features):
        node.reserve(count(ids.shape) * count(counts))
        return np.tile(ids, counts)
    for axis, (symbol, times) in enumerate(zip(value.axes, counts, strict=True)):
        if symbol is not None and times != 1:
            raise node.refuse(
                f"repeats the {AXIS_NAMES[symbol]} axis {axis} of {value.describe()} {times} times; only axes of features "
                "are repeated; run this part outside the model"
            )
    node.reserve_features(count(ids.shape) * count(counts))
    return Features(np.tile(ids, counts), value.axes)


@axis_rule("Tile")
def tile_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; one that is repeated has another size."""
    value: AxisTensor = node.input(0)
    axes = list(value.axes)
    for k, times in enumerate(_repeats(node, value.rank)):
        size = axes[k].size
        if isinstance(times, Axis) and size == 1:
            axes[k] = times
        elif times != 1:
            axes[k] = roles.made(None if size is None or isinstance(times, Symbol) else size * times, node.name)
            part_of(value.axes[k], axes[k], node, roles)
    return AxisTensor(tuple(axes), value.sources)
