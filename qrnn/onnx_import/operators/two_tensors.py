"""Sums, differences, products and quotients of two computed tensors, whose features may be repeated along inner axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.model.kinds.add import Add
from qrnn.model.kinds.combine import Combine
from qrnn.model.kinds.multiply import Multiply
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, remember, square_of, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.functions import Axes, function_layer, magnitude_layer
from qrnn.onnx_import.steps import as_steps
from qrnn.onnx_import.taken_apart import normalization, variance
from qrnn.onnx_import.values import BATCH, TIME, Features, Symbol, Tensor

VERBS = {"add": "adds", "sub": "subtracts", "mul": "multiplies", "div": "divides"}


def two(node: Node, build: Builder, op: str, a: Features, b: Features) -> Features:
    """Import an operator of two computed tensors, of one shape or of shapes that broadcast along feature axes.

    What both are functions of is looked at first: see `qrnn.onnx_import.expressions`.
    """
    aligned = broadcast(node, build, a, b)
    if aligned is None and _at_pairs_of_steps(a, b):
        raise node.refuse(
            f"{VERBS[op]} '{node.input_names[0]}' {a.describe()} and '{node.input_names[1]}' {b.describe()}, a number for each pair of steps, "
            "as additive attention over steps computes; only scores that are products of queries and keys are supported"
        )
    if aligned is None:
        raise node.refuse(
            f"{VERBS[op]} '{node.input_names[0]}' {a.describe()} and '{node.input_names[1]}' {b.describe()}; only tensors of the same "
            "shape, or with feature axes of size 1, can be, and their batch and time axes must be the same; re-export with both expanded to "
            "one shape, or run this part outside the model"
        )
    left, right = aligned
    terms = term_of(build, left), term_of(build, right)
    term, shape = Term(None, op, terms), left.ids.shape
    result = normalization(node, build, term, shape, left.axes)
    if result is not None:
        return result
    result = variance(node, build, term, shape, left.axes) if op in ("add", "sub") else None
    if result is None and op == "add":
        result = magnitude_layer(node, build, term, False, shape, left.axes)
    if result is None and square_of(term) is None:
        result = function_layer(node, build, term, shape, left.axes)
    if result is None and op in ("add", "mul") and a.ids.shape == b.ids.shape:
        result = of_two(node, build, Add if op == "add" else Multiply, left, right)
    if result is None:
        result = _combined(node, build, op, left, right)
    remember(build, result, op, *terms)
    return result


def _at_pairs_of_steps(a: Features, b: Features) -> bool:
    """Return whether two values go over time along different axes, counted from the back."""
    places = [[k for k, axis in enumerate(value.axes[::-1]) if axis is TIME] for value in (a, b)]
    return len(places[0]) == len(places[1]) == 1 and places[0] != places[1]


def broadcast(node: Node, build: Builder, a: Features, b: Features) -> tuple[Features, Features] | None:
    """Return two values expanded to one shape, axes aligned from the back; None where that would repeat one along batch or time."""
    rank = max(a.ids.ndim, b.ids.ndim)

    def padded(value: Features) -> tuple[Any, Axes]:
        more = rank - value.ids.ndim
        return value.ids.reshape((1,) * more + value.ids.shape), (None,) * more + value.axes

    (left, left_axes), (right, right_axes) = padded(a), padded(b)
    (left, left_axes), (right, right_axes) = _at_each_step(node, build, (left, left_axes), (right, right_axes))
    axes: list[Any] = []
    for k, (x, y) in enumerate(zip(left_axes, right_axes, strict=True)):
        if x is y:
            axes.append(x)
        elif build.one_step and {x, y} == {None, TIME} and left.shape[k] == right.shape[k] == 1:
            axes.append(TIME)  # the time axis of one step is an axis of size 1 like any other
        elif _ones(build, (left, left_axes), (right, right_axes)):
            return broadcast(node, build, Features(left, left_axes), Features(right, left_axes))
        else:
            return None
    try:
        shape = np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        return None
    node.reserve_features(2 * int(np.prod(shape)))
    return tuple(Features(np.broadcast_to(ids, shape), tuple(axes)) for ids in (left, right))  # type: ignore[return-value]


def _ones(build: Builder, a: tuple[Any, Axes], b: tuple[Any, Axes]) -> bool:
    """Return whether two values of one step of one sequence differ only in which of their axes of size 1 are batch and time."""
    (left, left_axes), (right, right_axes) = a, b
    differ = [k for k, (x, y) in enumerate(zip(left_axes, right_axes, strict=True)) if x is not y]
    alike = left_axes.count(BATCH) == right_axes.count(BATCH) == 1
    ones = all(
        left.shape[k] == right.shape[k] == 1 and {left_axes[k], right_axes[k]} <= {None, BATCH, TIME} for k in differ
    )
    return build.one_step and 1 in build.baked[BATCH] and alike and ones


def _at_each_step(node: Node, build: Builder, a: tuple[Any, Axes], b: tuple[Any, Axes]) -> list[tuple[Any, Axes]]:
    """Return ids and axes of two values, of which a vector beside a sequence is repeated at each of its steps."""
    found = [a, b]
    for k in (0, 1):
        (ids, axes), (_, others) = found[k], found[1 - k]
        if TIME in axes or TIME not in others or build.one_step:
            continue
        place, rule = others.index(TIME), build.length_rule(Features(found[1 - k][0], others))
        if (steps := as_steps(node, build, Features(ids, axes), place, rule)) is not None:
            found[k] = steps.ids, steps.axes
    return found


def _combined(node: Node, build: Builder, op: str, a: Features, b: Features) -> Features:
    """Return a Combine layer's output of two values of one shape."""
    (left, left_index), (right, right_index) = build.operand(node, a), build.operand(node, b)
    if left.has_time != right.has_time:
        raise node.refuse(f"{VERBS[op]} a tensor with a time axis and one without; run this part outside the model")
    wide = left_index if left.features >= right.features else right_index
    order = np.argsort(wide, kind="stable")  # the order in which the wider tensor has them
    output = build.result(node, order.size, left.has_time)
    build.layers.append(
        Combine(node.name, left.name, right.name, output.name, left_index[order], right_index[order], op)
    )
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    return Features((places + output.start).reshape(a.ids.shape), a.axes)


def of_two(node: Node, build: Builder, kind: type[Add | Multiply], a: Features, b: Features) -> Features:
    """Return the sum or product of two computed tensors of the same axes and sizes: nothing is repeated along an axis."""
    verb = "adds" if kind is Add else "multiplies"

    def axes(value: Features) -> list[Symbol | None]:
        # the time axis of one step is an axis of size 1 like any other
        return [None if axis is TIME and build.one_step else axis for axis in value.axes]

    if axes(a) != axes(b) or a.ids.shape != b.ids.shape:
        raise node.refuse(
            f"{verb} '{node.input_names[0]}' {a.describe()} and '{node.input_names[1]}' {b.describe()}; only tensors of the same shape "
            f"can be {'added' if kind is Add else 'multiplied'}; re-export with both expanded to one shape, or run this part outside the model"
        )
    (left, left_indices), (right, right_indices) = build.operand(node, a), build.operand(node, b)
    if left.has_time != right.has_time:
        raise node.refuse(f"{verb} a tensor with a time axis and one without; run this part outside the model")
    indices = left_indices
    if not (np.array_equal(left_indices, right_indices) and _is_whole(left, indices) and _is_whole(right, indices)):
        indices = np.arange(indices.size, dtype=np.int64)
        left, right = (_in_order(node, build, *part) for part in ((left, left_indices), (right, right_indices)))
    output = build.result(node, indices.size, left.has_time)
    build.layers.append(kind(node.name, left.name, right.name, output.name))
    return Features((indices + output.start).reshape(a.ids.shape), a.axes if TIME in a.axes else b.axes)


def _is_whole(tensor: Tensor, indices: IndexArray) -> bool:
    """Return whether ``indices`` are all features of the tensor, each once."""
    return indices.size == tensor.features and np.array_equal(np.sort(indices), np.arange(tensor.features))


def _in_order(node: Node, build: Builder, tensor: Tensor, indices: IndexArray) -> Tensor:
    """Return a tensor of exactly the features ``indices`` of ``tensor``, in this order."""
    if np.array_equal(indices, np.arange(tensor.features)):
        return tensor
    return build.gathered(node, indices + tensor.start)[0]
