"""Range, and comparisons and choices of sizes: what exporters write around Expand, Reshape and Slice."""

from __future__ import annotations

import operator as python
from collections.abc import Callable

import numpy as np

from qrnn.onnx_import.budget import count
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Array, Dim, Symbol, as_shape

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "Equal": python.eq,
    "Greater": python.gt,
    "GreaterOrEqual": python.ge,
    "Less": python.lt,
    "LessOrEqual": python.le,
}


def compared(node: Node, a: Array, b: Array) -> Array:
    """Return the comparison of sizes element by element; a size that is no number is at least 1, and is the same as itself."""
    pairs = _pairs(node, a, b)
    found = [_compared(node, x, y) for x, y in pairs]
    return np.array(found, dtype=np.bool_).reshape(pairs.shape)


def chosen(node: Node, condition: Array, a: Array, b: Array) -> Array:
    """Return sizes of ``a`` where a constant condition holds, and else of ``b``."""
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    node.reserve(3 * count(shape))
    result = np.where(np.broadcast_to(condition, shape), a.astype(object), b.astype(object))
    return as_shape(np.asarray(result, dtype=object))


def _pairs(node: Node, a: Array, b: Array) -> np.broadcast:
    node.reserve(2 * count(np.broadcast_shapes(a.shape, b.shape)))
    return np.broadcast(a.astype(object), b.astype(object))


def _compared(node: Node, a: Dim, b: Dim) -> bool:
    compare = COMPARISONS[node.op]
    if not isinstance(a, Symbol) and not isinstance(b, Symbol):
        return compare(int(a), int(b))
    if a is b or (rule_of(a) is not None and rule_of(a) == rule_of(b)):
        return compare(0, 0)
    if not isinstance(b, Symbol) and b < 1:  # which of the numbers from 1 it is makes no difference
        return compare(1, int(b))
    if not isinstance(a, Symbol) and a < 1:
        return compare(int(a), 1)
    raise node.refuse(
        f"compares the size {a} to {b}, which depends on what the model is run on; re-export without a branch on sizes"
    )


def counts_up(value: Array) -> bool:
    """Return whether an array is 0, 1, 2 … along its last axis, and has no other axis but of size 1."""
    return bool(
        value.ndim and value.size == value.shape[-1] > 1 and np.array_equal(value.reshape(-1), np.arange(value.size))
    )
