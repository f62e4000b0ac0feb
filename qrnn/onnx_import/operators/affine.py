"""Mul, Sub, Div and Neg of features and constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from qrnn.model.kinds.affine import Affine
from qrnn.model.parts import FloatArray
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, numbers, remember, term_of
from qrnn.onnx_import.lengths import longer, rule_of, size_of
from qrnn.onnx_import.merging import quotient_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.functions import merged_function, unary
from qrnn.onnx_import.operators.reductions import mean_of_sum
from qrnn.onnx_import.operators.two_tensors import two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import without_repeats
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.values import Array, Dim, Features, Symbol, Value, as_shape, is_shape


def affine(node: Node, build: Builder, value: Features, scale: FloatArray, offset: FloatArray) -> Features:
    """Return scale · value + offset, where scale and offset hold one number for each feature, or broadcast to that."""
    scale, offset = (without_repeats(node, build, what, value) for what in (scale, offset))
    value = widened(node, value, scale, offset)
    for what in (scale, offset):
        if np.broadcast_shapes(what.shape, value.ids.shape) != value.ids.shape:
            raise node.refuse(
                f"takes {value.describe()} and a constant of shape {list(what.shape)}; only one value per feature is supported"
            )
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        raise node.damaged("its constants make NaN or infinity; check the trained weights")
    if (scale == 1.0).all() and not offset.any():
        return value
    node.reserve(2 * value.ids.size)
    known, flat = term_of(build, value), value.ids.reshape(-1)
    factor, added = (numbers(np.broadcast_to(what, value.ids.shape).reshape(-1), flat.size) for what in (scale, offset))
    scaled = known if (scale == 1.0).all() else Term(None, "mul", (known, factor))
    moved = (scaled, added) if offset.any() else ()
    whole = Term(None, "add", moved) if moved else scaled
    if (merged := merged_function(node, build, whole, value)) is not None:
        return merged
    tensor, indices = build.whole_operand(node, value)
    order = np.argsort(indices)
    scales, offsets = (np.broadcast_to(what, value.ids.shape).reshape(-1)[order] for what in (scale, offset))
    output = build.result(node, tensor.features, tensor.has_time)
    build.layers.append(Affine(node.name, tensor.name, output.name, scales, offsets))
    result = Features((indices + output.start).reshape(value.ids.shape), value.axes)
    remember(build, result, whole.op, *whole.args)
    return result


def widened(node: Node, value: Features, *constants: FloatArray) -> Features:
    """Return ``value`` with its features repeated along feature axes of size 1, where constants are longer there."""
    try:
        shape = np.broadcast_shapes(value.ids.shape, *(constant.shape for constant in constants))
    except ValueError:
        return value  # who computes with both refuses them
    along = len(shape) == value.ids.ndim and all(
        axis is None or size == 1 for size, axis in zip(shape, value.axes, strict=True)
    )
    if shape == value.ids.shape or not along:
        return value
    node.reserve_features(math.prod(shape))
    return Features(np.broadcast_to(value.ids, shape), value.axes)


def constant_of(node: Node, k: int) -> FloatArray:
    """Return input ``k`` as real numbers; a shape is refused."""
    if is_shape(node.input(k)):
        raise node.refuse("computes with features and sizes of the graph; run this part outside the model")
    return node.weights(k, "the constant")


def _less(node: Node, sizes: Array, less: Array) -> Array:
    """Return sizes less constants: of a time axis, that of an axis without so many steps."""

    def one(size: Dim, by: Dim) -> Dim:
        if (rule := rule_of(size)) is not None:
            return size_of(longer(rule, -int(by)))  # type: ignore[arg-type]
        if isinstance(size, Axis):  # the first pass does not count steps
            return Axis(f"{size.name} less {by}")
        if isinstance(size, Symbol):
            raise node.refuse(f"subtracts {by} from the size {size}; only sizes of time axes are supported")
        return int(size) - int(by)  # type: ignore[arg-type]

    return _each(node, sizes, less, one)


def _each(node: Node, a: Array, b: Array, function: Callable[[Dim, Dim], Dim]) -> Array:
    """Return sizes that are a function of each pair of sizes."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    node.reserve(count(shape))
    result = np.empty(shape, dtype=object)
    for place, pair in enumerate(np.broadcast(a, b)):
        result.reshape(-1)[place] = function(*pair)
    return as_shape(result)


@operator("Sub")
def sub(node: Node, build: Builder) -> Value:
    """Import Sub of features and of constants, and of sizes less constants."""
    a, b = node.input(0), node.input(1)
    if is_shape(a) and isinstance(b, np.ndarray) and b.dtype != object and (b == np.round(b)).all():
        return _less(node, a, b)
    if isinstance(a, Features) and isinstance(b, Features):
        return two(node, build, "sub", a, b)
    if isinstance(a, Features):
        return affine(node, build, a, np.ones(1), -constant_of(node, 1))
    return affine(node, build, node.features(1, "operand"), -np.ones(1), constant_of(node, 0))


@operator("Div")
def div(node: Node, build: Builder) -> Value:
    """Import Div of sizes, of features by constants or features, of a constant by features, and of a sum over time by its number of steps."""
    a, b = node.input(0), node.input(1)
    if is_shape(a) and isinstance(b, np.ndarray) and b.dtype in (np.int64, object):
        return _each(node, a, b, partial(quotient_of, node))
    if isinstance(a, Features) and isinstance(b, Features):
        return two(node, build, "div", a, b)
    if isinstance(b, Features):
        given = constant_of(node, 0)
        if given.size == 1:
            factor = numbers(given, b.ids.size)
            return unary(node, build, b, Term(None, "div", (factor, term_of(build, b))))
        inverse = unary(node, build, b, Term(None, "reciprocal", (term_of(build, b),)))
        return affine(node, build, inverse, given, np.zeros(1))
    if (mean := mean_of_sum(node, build, a, b)) is not None:
        return mean
    divisor = constant_of(node, 1)
    if not divisor.all():
        raise node.damaged(f"divides by zero: '{node.input_names[1]}'")
    return affine(node, build, a, 1.0 / divisor, np.zeros(1))


@operator("Neg")
def neg(node: Node, build: Builder) -> Features:
    """Import Neg of features."""
    return affine(node, build, node.features(0, "operand"), -np.ones(1), np.zeros(1))


@axis_rule("Neg")
def affine_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of the operand that has the most."""
    values = [value for value in node.inputs if isinstance(value, AxisTensor)]
    return AxisTensor(max(values, key=lambda value: value.rank).axes)
