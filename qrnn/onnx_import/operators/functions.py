"""Layers of what the elementwise operators of a graph compute together (`qrnn.onnx_import.expressions`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from qrnn.model.kinds.function import Function
from qrnn.model.kinds.log_power import LogPower
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.layer import Layer
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import (
    Term,
    function_of_one,
    is_linear,
    multiple_of,
    no_less_than,
    remember,
    two_squares,
)
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Features, Symbol, Tensor

Axes = tuple[Symbol | None, ...]

SEARCH_WORK = 1000
"""Nominal nanoseconds, for each pair of operations of a term, to find the features that it is a function of."""


def function_layer(
    node: Node, build: Builder, term: Term, shape: tuple[int, ...], axes: Axes, only_named: bool = False
) -> Features | None:
    """Return a value of this shape that is ``term``, by one layer, where the term is a function of one number for each feature; else None.

    With ``only_named`` the function has to be an activation with a name.
    """
    if is_linear(term):
        return None
    node.budget.spend(f"{node.where}: what it computes", SEARCH_WORK * term.size**2)
    if (found := function_of_one(term)) is None:
        return None
    ids, function, activation = found
    if activation is None and only_named:
        return None

    def layer(name: str, output: str, tensor: Tensor) -> Layer:
        if activation is not None:
            return Pointwise(name, tensor.name, output, activation)
        build.functions.add(output)
        return Function(name, tensor.name, output, function)

    return build.map_tensors(node, Features(ids.reshape(shape), axes), layer)


def magnitude_layer(
    node: Node, build: Builder, term: Term, root: bool, shape: tuple[int, ...], axes: Axes
) -> Features | None:
    """Return a value of this shape that is ``term``, or with ``root`` its root, where the term is a² + b² and a constant; else None."""
    if (found := two_squares(term)) is None:
        return None
    a, b, epsilon = found

    return _of_pair(node, build, a, b, partial(Magnitude, root=root, epsilon=epsilon), shape, axes)


def log_power_layer(node: Node, build: Builder, term: Term, shape: tuple[int, ...], axes: Axes) -> Features | None:
    """Return a value of this shape that is ``term``, where it is a multiple of ln(a² + b² + constant) and a constant; else None.

    The power may have a lower bound.
    """
    log, factor, offset = multiple_of(term)
    if log.op != "log":
        return None
    power, least = no_less_than(log.args[0])
    if power.op == "sqrt":
        power, factor, least = power.args[0], factor / 2, least**2
        power, inner = no_less_than(power)
        least = max(least, inner)
    if (found := two_squares(power)) is None:
        return None
    a, b, epsilon = found

    layer = partial(LogPower, epsilon=epsilon, factor=factor, offset=offset, least=least)
    return _of_pair(node, build, a, b, layer, shape, axes)


def _of_pair(
    node: Node,
    build: Builder,
    a: IndexArray,
    b: IndexArray,
    layer: Callable[..., Layer],
    shape: tuple[int, ...],
    axes: Axes,
) -> Features:
    """Return the output of a layer of the features ``a`` and ``b``, whose features are in the order in which their tensor has ``a``."""
    left, left_index = build.operand(node, Features(a.reshape(shape), axes))
    right, right_index = build.operand(node, Features(b.reshape(shape), axes))
    if left.has_time != right.has_time:
        raise node.refuse("computes with a tensor with a time axis and one without; run this part outside the model")
    order = np.argsort(left_index, kind="stable")  # the order in which the tensor has them
    output = build.result(node, order.size, left.has_time)
    build.layers.append(layer(node.name, left.name, right.name, output.name, left_index[order], right_index[order]))
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    return Features((places + output.start).reshape(shape), axes)


def unary(node: Node, build: Builder, value: Features, term: Term) -> Features:
    """Return a value that is ``term``, an operation of ``value`` and constants, by one layer; see `function_layer`."""
    result = function_layer(node, build, term, value.ids.shape, value.axes)
    if result is None:
        raise node.refuse("differs from feature to feature; only one constant for all is supported")
    remember(build, result, term.op, *term.args, activation=term.activation)
    return result


def merged_function(node: Node, build: Builder, term: Term, value: Features) -> Features | None:
    """Return the multiple and sum ``term`` of ``value`` as a part of the function that value is; None where constants fold into weights.

    They stay by themselves behind a single activation, and go into a function that is put together, or where that gets a name by it.
    """
    if is_linear(term):
        return None
    made = any(part.tensor.name in build.functions for part in build.book.parts(value.ids))
    result = log_power_layer(node, build, term, value.ids.shape, value.axes)
    if result is None:
        result = function_layer(node, build, term, value.ids.shape, value.axes, only_named=not made)
    if result is not None:
        remember(build, result, term.op, *term.args)
    return result
