"""Comparisons, Not and Where: of sizes and constants, and of features, whose comparisons are 1 where they hold and else 0."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, numbers, remember, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine
from qrnn.onnx_import.operators.functions import function_layer, unary
from qrnn.onnx_import.operators.pointwise import same_axes
from qrnn.onnx_import.operators.size_logic import COMPARISONS, chosen, compared, counts_up
from qrnn.onnx_import.operators.two_tensors import broadcast, two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import without_repeats
from qrnn.onnx_import.roles import STEPS, AxisTensor, Roles
from qrnn.onnx_import.values import Array, Features, Value, is_shape

OPERATIONS = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}
"""Operator → the operation of `qrnn.model.scalar_function`."""

TURNED = {
    "equal": "equal",
    "greater": "less",
    "greater_equal": "less_equal",
    "less": "greater",
    "less_equal": "greater_equal",
}
"""A comparison → the one that holds for the operands in the other order."""


@operator(*COMPARISONS)
def comparison(node: Node, build: Builder) -> Value:
    """Import a comparison of sizes, or of features with constants or features."""
    a, b = node.input(0), node.input(1)
    op = OPERATIONS[node.op]
    if isinstance(a, Features) and isinstance(b, Features):
        difference = two(node.as_operator("Sub", [a, b], node.input_names[:2]), build, "sub", a, b)
        term = Term(None, op, (term_of(build, difference), numbers(0.0, difference.ids.size)))
        return unary(node, build, difference, term)
    if isinstance(a, Features) or isinstance(b, Features):
        value, k = (a, 1) if isinstance(a, Features) else (b, 0)
        constant = _constant(node, build, k, value)
        op = op if k == 1 else TURNED[op]
        if (constant == constant.flat[0]).all():
            return unary(
                node, build, value, Term(None, op, (term_of(build, value), numbers(constant.flat[0], value.ids.size)))
            )
        moved = affine(node, build, value, np.ones(1), -constant)
        return unary(node, build, moved, Term(None, op, (term_of(build, moved), numbers(0.0, value.ids.size))))
    return compared(node, a, b)


@operator("Not")
def negation(node: Node, build: Builder) -> Features:
    """Import Not of a comparison of features."""
    value = node.features(0, "X")
    return unary(node, build, value, Term(None, "not", (term_of(build, value),)))


def _constant(node: Node, build: Builder, k: int, value: Features) -> Array:
    """Return constant input ``k``, which broadcasts to ``value``, as one number for each of its features."""
    given = without_repeats(node, build, node.weights(k, "the constant"), value)
    if np.broadcast_shapes(given.shape, value.ids.shape) != value.ids.shape:
        raise node.refuse(
            f"takes {value.describe()} and a constant of shape {list(given.shape)}; only one value per feature is supported"
        )
    node.reserve(value.ids.size)
    return np.broadcast_to(given, value.ids.shape)


@operator("Where")
def where(node: Node, build: Builder) -> Value:
    """Import Where: of sizes by constants, of features by constants, and of features or constants by a comparison of features."""
    condition, a, b = node.input(0), node.input(1), node.input(2)
    if not any(isinstance(value, Features) for value in (condition, a, b)):
        if is_shape(condition):
            raise node.refuse("chooses by sizes; run this part outside the model")
        return chosen(node, condition, a, b)
    if isinstance(condition, Features):
        return _by_features(node, build, condition)
    if isinstance(a, Features) and isinstance(b, Features):
        return _of_two(node, build, condition, a, b)
    value, k = (a, 2) if isinstance(a, Features) else (node.features(2, "Y"), 1)
    keeps = _constant(node, build, 0, value).astype(np.float64)
    keeps = keeps if k == 2 else 1.0 - keeps
    return affine(node, build, value, keeps, (1.0 - keeps) * _constant(node, build, k, value))


def _of_two(node: Node, build: Builder, condition: Array, a: Features, b: Features) -> Features:
    """Return the features of a or b, by a constant condition."""
    aligned = broadcast(node, build, a, b)
    if aligned is None:
        raise node.refuse(
            f"chooses of {a.describe()} and {b.describe()}; only tensors of the same batch and time axes are supported"
        )
    left, right = aligned
    keeps = without_repeats(node, build, condition, left)
    if np.broadcast_shapes(keeps.shape, left.ids.shape) != left.ids.shape:
        raise node.refuse(f"chooses by a condition of shape {list(keeps.shape)} of {left.describe()}")
    return Features(np.where(keeps, left.ids, right.ids), left.axes)


def _by_features(node: Node, build: Builder, condition: Features) -> Features:
    """Return Where by a condition that is computed: one function of features, or condition · (a - b) + b."""
    like = condition
    for k in (1, 2):
        if isinstance(other := node.input(k), Features):
            aligned = broadcast(node, build, like, other)
            if aligned is None:
                raise node.refuse(
                    f"chooses by {like.describe()} of {other.describe()}; only tensors of the same batch and time axes are supported"
                )
            like = aligned[0]
    terms = []
    for k in range(3):
        value = node.input(k)
        if isinstance(value, Features):
            aligned = broadcast(node, build, value, like)
            assert aligned is not None  # it was broadcast above
            terms.append(term_of(build, aligned[0]))
        else:
            terms.append(numbers(_constant(node, build, k, like).reshape(-1), like.ids.size))
    result = function_layer(node, build, Term(None, "where", tuple(terms)), like.ids.shape, like.axes)
    if result is not None:
        remember(build, result, "where", *terms)
        return result
    return _blended(node, build, condition, like)


def _blended(node: Node, build: Builder, condition: Features, like: Features) -> Features:
    """Return condition · (a - b) + b, where a or b are features; like is of the shape of the result."""
    a, b = node.input(1), node.input(2)
    if isinstance(a, Features) and isinstance(b, Features):
        difference = two(node.as_operator("Sub", [a, b], node.input_names[1:3]), build, "sub", a, b)
        return two(node, build, "add", two(node, build, "mul", condition, difference), b)
    if isinstance(a, Features):
        fill = _constant(node, build, 2, like)
        difference = affine(node, build, a, np.ones(1), -fill)
        return affine(node, build, two(node, build, "mul", condition, difference), np.ones(1), fill)
    fill = _constant(node, build, 1, like)
    if isinstance(b, Features):
        opposite = affine(node, build, condition, -np.ones(1), np.ones(1))
        difference = affine(node, build, b, np.ones(1), -fill)
        return affine(node, build, two(node, build, "mul", opposite, difference), np.ones(1), fill)
    other = _constant(node, build, 2, like)
    return affine(node, build, condition, fill - other, other)


@axis_rule(*COMPARISONS, "Where")
def compared_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry axes by broadcasting: axes aligned from the back are the same unless one has size 1."""
    values = [v for v in node.inputs if isinstance(v, AxisTensor)]
    counted = any(STEPS in v.sources for v in values)
    counted = counted or any(isinstance(v, np.ndarray) and v.dtype != object and counts_up(v) for v in node.inputs)
    for value in values if counted and node.op != "Where" else ():
        roles.mark(value, "lengths", node.name)
    wide = max(values, key=lambda v: v.rank)
    arrays = [value for value in node.inputs if isinstance(value, np.ndarray)]
    more = max((array.ndim for array in arrays), default=0) - wide.rank
    axes = [*(roles.made(1, node.name) for _ in range(more)), *wide.axes]
    for other in values:
        for back, axis in enumerate(other.axes[::-1], 1):
            if axes[-back].size == 1 and axis.size != 1:
                axes[-back] = axis
            elif axes[-back].size == axis.size or None in (axes[-back].size, axis.size):
                roles.same(axes[-back], axis, node.name)
    for array in arrays:
        for back, size in enumerate(array.shape[::-1], 1):
            if axes[-back].size == 1 != size:
                axes[-back] = roles.made(int(size), node.name)
    return AxisTensor(tuple(axes))


axis_rule("Not")(same_axes)
