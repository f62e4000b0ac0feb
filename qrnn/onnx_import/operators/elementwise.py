"""Functions of one number for each feature that are no activations of recurrent cells: roots, powers, logarithms, clips and PRelu."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.model.activation import Activation
from qrnn.model.kinds.argmax import ArgMax
from qrnn.model.kinds.multiply import Multiply
from qrnn.model.kinds.prelu import PRelu
from qrnn.model.parts import FloatArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, no_less_than, numbers, remember, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.functions import log_power_layer, magnitude_layer, unary
from qrnn.onnx_import.operators.pointwise import same_axes
from qrnn.onnx_import.operators.two_tensors import of_two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.taken_apart import deviation
from qrnn.onnx_import.values import Features, is_shape

UNARY = {"Abs": "abs", "Exp": "exp", "Reciprocal": "reciprocal", "Erf": "erf"}
"""Operator → the operation of `qrnn.model.scalar_function`."""


@operator(*UNARY)
def function(node: Node, build: Builder) -> Features:
    """Import an operation of one tensor, element by element."""
    value = node.features(0, "its input")
    return unary(node, build, value, Term(None, UNARY[node.op], (term_of(build, value),)))


@operator("Log")
def log(node: Node, build: Builder) -> Features:
    """Import Log: of a sum of two squares, as of a spectrum, without a power that is stored."""
    value = node.features(0, "its input")
    term = Term(None, "log", (term_of(build, value),))
    result = log_power_layer(node, build, term, value.ids.shape, value.axes)
    if result is None:
        return unary(node, build, value, term)
    remember(build, result, "log", *term.args)
    return result


@operator("Sqrt")
def sqrt(node: Node, build: Builder) -> Features:
    """Import Sqrt: of a sum of two squares, as of a spectrum, without a square that is stored."""
    return _root(node, build, node.features(0, "its input"))


def _root(node: Node, build: Builder, value: Features) -> Features:
    known = term_of(build, value)
    power, least = no_less_than(known)
    root = deviation(node, build, Term(None, "sqrt", (known,)), value)
    if root is not None:
        return root
    result = magnitude_layer(node, build, power, True, value.ids.shape, value.axes)
    if result is None:
        return unary(node, build, value, Term(None, "sqrt", (known,)))
    remember(build, result, "sqrt", power)
    return _bounded(node, build, result, [("max", np.sqrt(least) if least > 0.0 else None)])


@operator("Pow")
def power(node: Node, build: Builder) -> Features:
    """Import Pow with a constant exponent, or of a constant base, one for all features."""
    base, exponent = node.input(0), node.input(1)
    if isinstance(base, Features) and isinstance(exponent, Features):
        raise node.refuse("raises features to the power of features; run this part outside the model")
    value = base if isinstance(base, Features) else node.features(1, "the exponent")
    size, known = value.ids.size, term_of(build, value)
    constant = _one(node, 0 if value is exponent else 1, value)
    if value is exponent:
        return unary(node, build, value, Term(None, "pow", (numbers(constant, size), known)))
    if constant == 0.5:
        return _root(node, build, value)
    if constant == 1.0:
        return value
    term = Term(None, "pow", (known, numbers(constant, size)))
    if constant == 2.0:  # an exact product, rounded once
        result = of_two(node, build, Multiply, value, value)
        remember(build, result, "pow", *term.args)
        return result
    return unary(node, build, value, term)


def _one(node: Node, k: int, value: Features) -> float:
    """Return constant input ``k``, which has to be one number for all features of ``value``."""
    given = node.weights(k, "its constant")
    if not given.size or np.broadcast_shapes(given.shape, value.ids.shape) != value.ids.shape:
        raise node.refuse(
            f"has a constant of shape {list(given.shape)} beside {value.describe()}; only one value for all features is supported"
        )
    if not (given == given.flat[0]).all():
        raise node.refuse("has constants that differ from feature to feature; only one value for all is supported")
    return float(given.flat[0])


@operator("Clip")
def clip(node: Node, build: Builder) -> Features:
    """Import Clip: bounds are attributes before opset 11, inputs since; either may be absent."""
    value = node.features(0, "its input")
    bounds: list[float | None] = []
    for k, (name, absent) in enumerate((("min", -3.4028234663852886e38), ("max", 3.4028234663852886e38)), 1):
        if node.opset < 11:
            given = float(node.take(name, absent))
        else:
            given = _one(node, k, value) if node.has_input(k) else absent
        if np.isnan(given):
            raise node.damaged(f"{name} is NaN; check the trained weights")
        bounds.append(None if abs(given) >= 3.4e38 else given)
    return _bounded(node, build, value, [("max", bounds[0]), ("min", bounds[1])])


@operator("Min", "Max")
def bound(node: Node, build: Builder) -> Any:
    """Import Min and Max of features and constants, which are one number for all features each; constants alone are folded."""
    places = [k for k, value in enumerate(node.inputs) if isinstance(value, Features)]
    if len(places) != 1 or any(is_shape(value) for value in node.inputs):
        raise node.refuse(
            f"takes the {node.op.lower()}imum of {len(places)} computed tensors; only one and constants are supported"
        )
    value = node.features(places[0], "operand")
    others = [_one(node, k, value) for k in range(len(node.inputs)) if k != places[0]]
    return _bounded(node, build, value, [(node.op.lower(), other) for other in others])


def _bounded(node: Node, build: Builder, value: Features, bounds: list[tuple[str, float | None]]) -> Features:
    """Return ``value`` after minima and maxima with constants, one after the other; None bounds nothing."""
    term = known = term_of(build, value)
    for op, number in bounds:
        if number is not None:
            term = Term(None, op, (term, numbers(number, value.ids.size)))
    return value if term is known else unary(node, build, value, term)


@operator("Mish")
def mish(node: Node, build: Builder) -> Features:
    """Import Mish, x·tanh(ln(1 + e^x))."""
    value = node.features(0, "its input")
    term = Term(None, "activation", (term_of(build, value),), activation=Activation("mish"))
    return unary(node, build, value, term)


@operator("PRelu")
def prelu(node: Node, build: Builder) -> Features:
    """Import PRelu: x for x ≥ 0, else slope · x, with one slope for all features or one for each."""
    value = node.features(0, "X")
    slope: FloatArray = node.weights(1, "slope")
    if np.broadcast_shapes(slope.shape, value.ids.shape) != value.ids.shape:
        raise node.refuse(
            f"slope has shape {list(slope.shape)}, its input is {value.describe()}; only one slope, or one per feature, is supported"
        )
    node.reserve(value.ids.size)
    slopes = np.broadcast_to(slope, value.ids.shape).reshape(-1)
    if (slopes == slopes[0]).all():
        activation = Activation("leaky_relu", float(slopes[0]))
        term = Term(None, "activation", (Term(value.ids.reshape(-1)),), activation=activation)
        return unary(node, build, value, term)
    tensor, indices = build.whole_operand(node, value)
    output = build.result(node, tensor.features, tensor.has_time)
    build.layers.append(PRelu(node.name, tensor.name, output.name, slopes[np.argsort(indices)]))
    return Features((indices + output.start).reshape(value.ids.shape), value.axes)


axis_rule(*UNARY, "Log", "Sqrt", "Clip", "Mish", "PRelu")(same_axes)


@operator("ArgMax")
def argmax(node: Node, build: Builder) -> Features:
    """Import ArgMax over all features of each step, which gives whole numbers."""
    value = node.features(0, "its input")
    rank = value.ids.ndim
    axis, keep = node.axis(int(node.take("axis", 0)), rank), int(node.take("keepdims", 1))
    latest = bool(int(node.take("select_last_index", 0)))
    if value.axes[axis] is not None or value.ids.shape[axis] != value.ids.size:
        raise node.refuse(f"axis={axis} of {value.describe()}; only the axis of all features is supported")
    tensor, indices = build.operand(node, value)
    if not np.array_equal(indices, np.arange(tensor.features)):  # an index is a place in this order
        tensor, indices = build.gathered(node, indices + tensor.start)
    output = build.result(node, 1, tensor.has_time)
    build.layers.append(ArgMax(node.name, tensor.name, output.name, latest))
    shape = [1 if k == axis else size for k, size in enumerate(value.ids.shape) if keep or k != axis]
    return Features(output.ids.reshape(shape), tuple(a for k, a in enumerate(value.axes) if keep or k != axis))


@axis_rule("ArgMax")
def argmax_axes(node: Node, roles: Roles) -> AxisTensor:
    """Drop the axis, or with keepdims make a new one."""
    value: AxisTensor = node.input(0)
    axis, keep = node.axis(int(node.take("axis", 0)), value.rank), int(node.take("keepdims", 1))
    made = [roles.made(1, node.name)] if keep else []
    return AxisTensor((*value.axes[:axis], *made, *value.axes[axis + 1 :]))
