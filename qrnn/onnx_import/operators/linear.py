"""Einsum and MatMul of features and constants: any sum of products that is linear in the features of a step is one matrix.

Subscripts name the axes as in Einsum. Those of batch and time stay; of the others a matrix [O, I] is made by the sum itself, of I unit vectors.
A matrix that is block diagonal, as that of a layer of weights for each group of features, becomes a convolution with groups.
"""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

import numpy as np

from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.parts import FloatArray
from qrnn.model.window import EACH
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.matrices import einsum_of_two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.values import Features, Value, is_shape

MULTIPLICATIONS = 2
"""Multiplications of constants per nominal nanosecond."""

MOST_LABELS = 24
"""The most axes of an Einsum; two letters are left for what is made of its subscripts."""


def subscripts_of(node: Node, ranks: list[int]) -> tuple[list[str], str]:
    """Return the subscripts of each operand and of the result of an Einsum, with a letter for each axis that an ellipsis stands for."""
    equation = "".join(str(node.take("equation", "")).split())
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    if len(operands) != len(ranks):
        raise node.damaged(f"equation={equation!r} has {len(operands)} operands, the node has {len(ranks)}")
    free = [letter for letter in ascii_letters if letter not in equation]
    widths = [rank - len(text.replace("...", "")) for text, rank in zip(operands, ranks, strict=True)]
    most = max((width for text, width in zip(operands, widths, strict=True) if "..." in text), default=0)
    if most > len(free) or any(
        width < 0 or (width and "..." not in t) for t, width in zip(operands, widths, strict=True)
    ):
        raise node.damaged(f"equation={equation!r} does not fit operands of {ranks} axes")
    more = "".join(free[:most])
    found = [text.replace("...", more[most - width :]) for text, width in zip(operands, widths, strict=True)]
    if not arrow:
        once = sorted(letter for letter in set(left) if letter.isalpha() and left.count(letter) == 1)
        result = ("..." if most else "") + "".join(once)
    whole = result.replace("...", more)
    named = {letter for text in found for letter in text}
    if not set(whole) <= named or len(set(whole)) < len(whole) or not all(letter.isalpha() for letter in named):
        raise node.damaged(f"equation={equation!r} is not valid")
    if len(named) > MOST_LABELS:
        raise node.refuse(f"has {len(named)} axes, at most {MOST_LABELS} are supported")
    return found, whole


def linear(
    node: Node, build: Builder, value: Features, own: str, others: list[tuple[str, FloatArray]], result: str
) -> Features:
    """Return the sum of products of ``value``, whose axes have the subscripts ``own``, and of constants."""
    symbols = {letter: axis for letter, axis in zip(own, value.axes, strict=True) if axis is not None}
    if len(set(own)) < len(own):
        raise node.refuse(f"takes a diagonal of {value.describe()}; run this part outside the model")
    sizes = {letter: size for letter, size in zip(own, value.ids.shape, strict=True) if letter not in symbols}
    constants = []
    for text, array in others:
        for letter, size in zip(text, array.shape, strict=True):
            if letter in symbols and size != 1:
                raise node.refuse(
                    f"multiplies {value.describe()} by constants along its axis {symbols[letter]}; only features can be"
                )
            if letter not in symbols and 1 not in (size, sizes.setdefault(letter, size)) and sizes[letter] != size:
                raise node.damaged(f"has axes of {sizes[letter]} and {size} elements under one subscript, '{letter}'")
            sizes[letter] = max(size, sizes.get(letter, 1)) if letter not in symbols else 1
        kept = tuple(0 if letter in symbols else slice(None) for letter in text)
        constants.append(("".join(letter for letter in text if letter not in symbols), array[kept]))
    if missing := [axis for letter, axis in symbols.items() if letter not in result]:
        raise node.refuse(f"sums over the axis {missing[0]} of {value.describe()}; only features can be summed")
    if 0 in sizes.values():
        raise node.damaged("multiplies empty tensors")
    inner = "".join(letter for letter in own if letter not in symbols)
    wanted = "".join(letter for letter in result if letter not in symbols)
    if any(
        size == 1 and sizes[letter] != 1 for letter, size in zip(own, value.ids.shape, strict=True) if letter in inner
    ):
        raise node.refuse(f"repeats features of {value.describe()}; re-export with them expanded")
    matrix = _matrix(node, constants, inner, wanted, sizes)
    ids = value.ids.reshape(-1)
    output = _product(node, build, Features(ids, (None,)), matrix)
    shape = [1 if letter in symbols else sizes[letter] for letter in result]
    return Features(output.reshape(shape), tuple(symbols.get(letter) for letter in result))


def _matrix(
    node: Node, constants: list[tuple[str, FloatArray]], inner: str, wanted: str, sizes: dict[str, int]
) -> FloatArray:
    """Return the matrix [O, I] of a sum of products, by what it makes of unit vectors."""
    columns, rows = (count([sizes[letter] for letter in text]) for text in (inner, wanted))
    node.reserve_features(rows)
    node.reserve(columns * columns + 2 * rows * columns, scratch=count(sizes.values()))
    node.budget.spend(node.where, columns * count(sizes.values()) // MULTIPLICATIONS)
    unit = next(letter for letter in ascii_letters if letter not in sizes)
    terms: list[Any] = [np.eye(columns).reshape([columns, *(sizes[letter] for letter in inner)])]
    texts = [unit + inner]
    for text, array in constants:
        terms.append(np.broadcast_to(array, [sizes[letter] for letter in text]))
        texts.append(text)
    missing = [letter for letter in wanted if not any(letter in text for text in texts)]
    assert not missing  # every subscript of the result is one of an operand
    made: FloatArray = np.einsum(f"{','.join(texts)}->{wanted}{unit}", *terms, optimize=True)
    return np.ascontiguousarray(made.reshape(rows, columns))


def _product(node: Node, build: Builder, value: Features, matrix: FloatArray) -> Any:
    """Return the ids of the features that a layer of weights ``matrix`` makes of a value."""
    if not np.isfinite(matrix).all():
        raise node.damaged("its constants make NaN or infinity; check the trained weights")
    groups = blocks(matrix)
    tensor, indices = build.operand(node, value)
    bias = np.zeros(len(matrix))
    if groups > 1 and tensor.has_time and tensor.kind == "layer":
        tensor, indices = build.whole_operand(node, value)
        if np.array_equal(indices, np.arange(tensor.features)):
            output = build.result(node, len(matrix), True)
            rows, columns = len(matrix) // groups, matrix.shape[1] // groups
            by_group = matrix.reshape(groups, rows, groups, columns)
            weight = np.concatenate([by_group[g, :, g] for g in range(groups)])[:, :, None, None]
            build.add_matrix(Conv(node.name, tensor.name, output.name, weight, bias, EACH, groups=groups))
            return output.ids
    full = build.spread_columns(node, matrix, tensor, indices)
    output = build.result(node, len(matrix), tensor.has_time)
    build.add_matrix(Dense(node.name, tensor.name, output.name, full, bias))
    return output.ids


def blocks(matrix: FloatArray) -> int:
    """Return the largest number of equal blocks on the diagonal of a matrix outside of which it is 0."""
    rows, columns = matrix.shape
    if matrix[0, -1] or matrix[-1, 0]:
        return 1
    used_rows, used_columns = np.nonzero(matrix)
    for groups in range(math.gcd(rows, columns), 1, -1):
        fits = rows % groups == 0 and columns % groups == 0
        if fits and np.array_equal(used_rows // (rows // groups), used_columns // (columns // groups)):
            return groups
    return 1


@operator("Einsum")
def einsum(node: Node, build: Builder) -> Value:
    """Import Einsum of one computed tensor and constants, or of constants alone."""
    values = [node.input(k) for k in range(len(node.inputs))]
    if any(is_shape(value) for value in values):
        raise node.refuse("computes with sizes; run this part outside the model")
    ranks = [value.ids.ndim if isinstance(value, Features) else np.ndim(value) for value in values]
    texts, result = subscripts_of(node, ranks)
    places = [k for k, value in enumerate(values) if isinstance(value, Features)]
    if len(places) == len(values) == 2:
        return einsum_of_two(node, build, values[0], values[1], texts, result)
    if len(places) > 1:
        raise node.refuse(f"multiplies {len(places)} computed tensors; only one and constants are supported")
    arrays = {k: node.weights(k, "an operand") for k in range(len(values)) if k not in places}
    if not places:
        sizes = {
            letter: size for k, array in arrays.items() for letter, size in zip(texts[k], array.shape, strict=True)
        }
        node.reserve(count([sizes[letter] for letter in result]), scratch=count(sizes.values()))
        node.budget.spend(node.where, count(sizes.values()) // MULTIPLICATIONS)
        return np.asarray(np.einsum(f"{','.join(texts)}->{result}", *arrays.values()))
    others = [(texts[k], array) for k, array in arrays.items()]
    return linear(node, build, node.features(places[0], "an operand"), texts[places[0]], others, result)


@axis_rule("Einsum")
def einsum_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes by their subscripts."""
    ranks = [value.rank if isinstance(value, AxisTensor) else np.ndim(value) for value in node.inputs]
    texts, result = subscripts_of(node, ranks)
    found: dict[str, Axis] = {}
    for text, value in zip(texts, node.inputs, strict=True):
        if isinstance(value, AxisTensor):
            for letter, axis in zip(text, value.axes, strict=True):
                if letter in found:
                    roles.same(found[letter], axis, node.name)
                found.setdefault(letter, axis)
    for text, value in zip(texts, node.inputs, strict=True):
        if not isinstance(value, AxisTensor):
            for letter, size in zip(text, np.shape(value), strict=True):
                if letter not in found or found[letter].size == 1:
                    found[letter] = roles.made(int(size), node.name)
                else:
                    roles.used_as(found[letter], int(size))
    return AxisTensor(tuple(found[letter] for letter in result))


def product_subscripts(node: Node, a: int, b: int) -> tuple[str, str, str]:
    """Return the subscripts of a MatMul of tensors of ``a`` and ``b`` axes, and of its result."""
    if min(a, b) < 1 or max(a, b) > MOST_LABELS - 2:
        raise node.damaged(f"multiplies tensors of {a} and {b} axes")
    outer, k, m, n = ascii_letters[: max(a, b, 2) - 2], "X", "Y", "Z"
    left = k if a == 1 else outer[len(outer) - (a - 2) :] + m + k
    right = k if b == 1 else outer[len(outer) - (b - 2) :] + k + n
    return left, right, outer[len(outer) - max(a - 2, b - 2, 0) :] + (m if a > 1 else "") + (n if b > 1 else "")
