"""Triangles of matrices of constants, and what graphs ask of a softmax whose steps may all be masked."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.comparisons import compared_axes
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import Value


@operator("Trilu")
def trilu(node: Node, build: Builder) -> Value:
    """Import Trilu of constants: an upper or a lower triangle, the rest 0."""
    matrix = node.constant(0, "the matrix")
    if matrix.ndim < 2:
        raise node.damaged(f"takes a triangle of a tensor of shape {list(matrix.shape)}, expected matrices")
    (diagonal,) = node.ints(1, "k") if node.has_input(1) else (0,)
    node.reserve(matrix.size)
    return np.triu(matrix, diagonal) if node.take("upper", 1) else np.tril(matrix, diagonal)


@operator("IsNaN")
def is_nan(node: Node, build: Builder) -> Value:
    """Import IsNaN of constants, none of which is NaN."""
    return np.zeros(node.constant(0, "its input").shape, np.bool_)


@operator("And", "Or", "Xor")
def joined(node: Node, build: Builder) -> Value:
    """Refuse conditions of features that are joined; those of constants and of numbers of steps are folded."""
    raise node.refuse(
        "joins conditions that are no masks of earlier steps and of padding; run this part outside the model"
    )


axis_rule("And", "Or", "Xor")(compared_axes)


@axis_rule("IsNaN")
def is_nan_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes."""
    return AxisTensor(node.input(0).axes)
