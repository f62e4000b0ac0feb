"""Constants that are repeated for each sequence or step: by nodes of the graph, or by an exporter that baked in how many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.constants import fold
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import AXIS_NAMES, BATCH, TIME, Array, Features, Symbol

BY_ELEMENT = frozenset(
    ["Add", "Sub", "Mul", "Div", "Neg", "Where", "Max", "Min", "Tanh", "Sigmoid", "Relu", "Exp", "Abs", "Sqrt", "Pow"]
)
"""Operators that compute repeated constants as they compute constants."""


def through(
    proto: onnx.NodeProto, opset: int, node: Node, build: Builder, handler: Callable[[Node, Builder], Any]
) -> Any:
    """Return what a node computes of constants that were repeated to the batch or time; None for a node that reads none.

    Beside features they are the constants that they were before. Of such constants alone the node makes others, which only initial states may
    read.
    """
    if node.op not in BY_ELEMENT or not any(isinstance(value, Features) for value in node.inputs):
        return None
    values: list[Any] = [_constants(build, value) if isinstance(value, Features) else value for value in node.inputs]
    if all(own is value for own, value in zip(values, node.inputs, strict=True)):
        return None
    if any(isinstance(value, Features) for value in values):
        return handler(node.as_operator(node.op, values, node.input_names), build)
    axes: dict[int, Symbol | None] = {}
    for value in node.inputs:
        if isinstance(value, Features):
            axes |= {back: symbol for back, symbol in enumerate(value.axes[::-1], 1) if symbol is not None}
    (result,) = fold(proto, opset, values, build.budget)
    return build.constant(result.astype(np.float64), tuple(axes.get(back) for back in range(result.ndim, 0, -1)))


def _constants(build: Builder, value: Features) -> Features | Array:
    """Return the numbers of repeated constants, with size 1 along batch and time; any other value as it is."""
    parts = build.book.parts(value.ids)
    if not parts or any(part.tensor.values is None for part in parts):
        return value
    build.budget.value("constants that are repeated", value.ids.size)
    numbers = np.empty(value.ids.size)
    for part in parts:
        assert part.tensor.values is not None
        numbers[part.positions] = part.tensor.values[part.indices]
    return numbers.reshape(value.ids.shape)


def without_repeats(node: Node, build: Builder, constant: Array, value: Features) -> Array:
    """Return ``constant`` with size 1 along the batch and time axes of ``value``, to which it broadcasts, where it is equal along them.

    UnsupportedError where it differs from sequence to sequence or from step to step.
    """
    sizes = build.sizes(value)
    for back in range(1, min(constant.ndim, value.ids.ndim) + 1):
        symbol, size = value.axes[-back], constant.shape[-back]
        if symbol is None or size == 1 or size not in sizes.get(symbol, set()):
            continue
        index: Any = (..., slice(0, 1), *(slice(None),) * (back - 1))
        node.reserve(constant.size)
        if (constant != constant[index]).any():
            raise node.refuse(
                f"computes with constants that differ along the {AXIS_NAMES[symbol]} axis, which binds the graph to its size {size}; only "
                "constants that are equal along it are supported; run this part outside the model"
            )
        constant = constant[index]
    return constant


def tiled_constant(node: Node, build: Builder, array: Array, repeats: Array) -> Features:
    """Return a constant that Tile repeats as often as there are sequences or steps, along an axis of size 1 each."""
    if repeats.shape != (array.ndim,):
        raise node.damaged(f"has {repeats.size} repeats for {array.ndim} axes")
    axes = tuple(TIME if rule_of(times) is not None else BATCH if times is BATCH else None for times in repeats)
    counts = [
        1 if axis is not None else int(times)
        for axis, times in zip(axes, repeats, strict=True)
        if axis is not None or not isinstance(times, Symbol)
    ]
    sizes = (size for size, axis in zip(array.shape, axes, strict=True) if axis is not None)
    if len(counts) < array.ndim or any(size != 1 for size in sizes) or axes.count(BATCH) > 1 or axes.count(TIME) > 1:
        raise node.refuse(
            f"repeats a constant of shape {list(array.shape)} {list(repeats)} times; an axis of size 1 can be repeated as often as there are "
            "sequences or steps"
        )
    if min(counts, default=1) < 1:
        raise node.damaged(f"repeats a constant {list(repeats)} times, expected numbers of at least 1")
    node.reserve(2 * count(array.shape) * count(counts))
    return build.constant(np.tile(array, counts).astype(np.float64), axes)
