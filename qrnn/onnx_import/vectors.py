"""Constants that are expanded to the batch, such as a learned query: what is computed of them alone stays constants of each sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Features, is_shape

OPERATORS = ("Add", "Sub", "Mul", "Div", "MatMul")


def constants_of(build: Builder, value: object) -> FloatArray | None:
    """Return the constants that features of each sequence are, in the shape of their ids; None where one of them is anything else."""
    if not isinstance(value, Features) or not value.ids.size:
        return None
    if build.book.parts(value.ids.reshape(-1)[:1])[0].tensor.kind != "constant":
        return None
    flat = np.empty(value.ids.size)
    for part in build.book.parts(value.ids):
        if part.tensor.kind != "constant" or part.tensor.values is None:
            return None
        flat[part.positions] = part.tensor.values[part.indices]
    return flat.reshape(value.ids.shape)


def through(node: Node, build: Builder) -> Any:
    """Return what a node computes of constants of each sequence and of constants; None for another node."""
    if node.op not in OPERATORS or len(node.inputs) != 2:
        return None
    arrays: list[FloatArray] = []
    axes: list[tuple[Any, ...]] = []
    for value in node.inputs:
        found = constants_of(build, value)
        if found is None and (not isinstance(value, np.ndarray) or is_shape(value)):
            return None
        arrays.append(np.asarray(value, np.float64) if found is None else found)
        axes.append((None,) * np.ndim(arrays[-1]) if found is None else value.axes)
    if not any(isinstance(value, Features) for value in node.inputs):
        return None
    a, b = arrays
    if node.op == "MatMul":
        if (
            not isinstance(node.inputs[0], Features)
            or isinstance(node.inputs[1], Features)
            or b.ndim != 2
            or axes[0][-1] is not None
        ):
            return None
        node.reserve(count((*a.shape[:-1], b.shape[1])))
        return build.constant(a @ b, axes[0])
    shape = np.broadcast_shapes(a.shape, b.shape)
    more = [(None,) * (len(shape) - len(own)) + own for own in axes]
    symbols = tuple(x if x is not None else y for x, y in zip(*more, strict=True))
    if any(symbol is not None and size != 1 for symbol, size in zip(symbols, shape, strict=True)):
        return None
    if any(x is not y for x, y in zip(*more, strict=True) if x is not None and y is not None):
        return None
    node.reserve(count(shape))
    with np.errstate(all="ignore"):
        made = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op](a, b)
    return build.constant(np.asarray(made), symbols)
