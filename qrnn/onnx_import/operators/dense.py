"""MatMul, Gemm and the Add that carries a bias all become Dense layers. The Add of two computed tensors is a layer of its own."""

from __future__ import annotations

import numpy as np

from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.parts import FloatArray
from qrnn.model.window import EACH
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import numbers, remember, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine, widened
from qrnn.onnx_import.operators.linear import linear, product_subscripts
from qrnn.onnx_import.operators.matrices import product_of_two
from qrnn.onnx_import.operators.two_tensors import two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.repeated import without_repeats
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.steps import unrolled
from qrnn.onnx_import.values import TIME, Features, Value
from qrnn.onnx_import.vectors import constants_of

MULTIPLICATIONS = 2
"""Multiplications of two constant matrices per nominal nanosecond."""


def _dense(node: Node, build: Builder, value: Features, weight: FloatArray, bias: FloatArray) -> Features:
    """Apply weight [O, I] and bias [O] to the last axis of ``value``, which holds all of its features."""
    if value.axes[-1:] == (TIME,):  # [N, T]: of a declared number of steps with one feature, all of them
        value = unrolled(node, build, value) or value
    if value.ids.ndim < (2 if build.batch is not None else 1) or value.axes[-1] is not None:
        raise node.refuse(
            f"multiplies {value.describe()} along its batch or time axis; re-export with features as the last axis"
        )
    if value.ids.size != value.ids.shape[-1]:
        raise node.refuse(
            f"multiplies the last axis of {value.describe()}, which has other feature axes; re-export with one feature axis"
        )
    if weight.shape[1] != value.ids.shape[-1]:
        raise node.damaged(
            f"weight '{node.input_names[1]}' takes {weight.shape[1]} features, its input has {value.ids.shape[-1]}"
        )
    if not np.isfinite(weight).all() or not np.isfinite(bias).all():
        raise node.damaged("its weight or bias holds NaN or infinity after alpha and beta; check the trained weights")
    tensor, indices = build.operand(node, value)
    full = build.spread_columns(node, weight, tensor, indices)
    output = build.result(node, weight.shape[0], tensor.has_time)
    build.add_matrix(Dense(node.name, tensor.name, output.name, full, bias))
    return Features(output.ids.reshape((*value.ids.shape[:-1], weight.shape[0])), value.axes)


def _weight(node: Node, what: str) -> FloatArray:
    """Return input 1 as a weight of two axes, none of them empty, and count room for a copy of it."""
    weight = node.weights(1, what)
    if weight.ndim != 2:
        raise node.refuse(f"multiplies by a weight of shape {list(weight.shape)}; only [I, O] is supported")
    if 0 in weight.shape:
        raise node.damaged(f"weight '{node.input_names[1]}' is empty: {list(weight.shape)}")
    node.reserve(weight.size)
    return weight


def _constants_only(node: Node, *operands: int) -> bool:
    return all(isinstance(node.input(k), np.ndarray) for k in operands)


@operator("MatMul")
def matmul(node: Node, build: Builder) -> Value:
    """Import MatMul, [.., I] · [I, O], as a Dense layer, and that of two computed matrices."""
    if _constants_only(node, 0, 1):
        a, b = node.weights(0, "operand"), node.weights(1, "operand")
        outer = count(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        rows, columns = count(a.shape[-2:-1]), count(b.shape[-1:]) if b.ndim > 1 else 1
        node.reserve(outer * rows * columns)
        node.budget.spend(node.where, outer * rows * columns * count(a.shape[-1:]) // MULTIPLICATIONS)
        return np.asarray(a @ b)
    if isinstance(node.input(1), Features) and isinstance(node.input(0), np.ndarray):
        return _linear(node, build, 1)
    value, other = node.features(0, "the first operand"), node.input(1)
    if isinstance(other, Features):
        made = _of_constants(node, build, value, other)
        return product_of_two(node, build, value, other) if made is None else made
    if value.axes[-1:] == (TIME,):  # [N, T]: of a declared number of steps with one feature, all of them
        value = unrolled(node, build, value) or value
    if np.ndim(other) == 2 and (shared := _shared(node, build, value)) is not None:
        return shared
    if np.ndim(other) != 2 or value.axes[-1:] != (None,) or value.ids.size != value.ids.shape[-1]:
        return _linear(node, build, 0)
    weight = _weight(node, "the second operand")
    return _dense(node, build, value, weight.T.copy(), np.zeros(weight.shape[1]))


def _of_constants(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return the product of constants of each sequence, such as learned queries, and of features; None for another product."""
    found = [constants_of(build, value) for value in (a, b)]
    if (found[0] is None) == (found[1] is None):
        return None
    k = 0 if found[0] is None else 1
    constant = found[1 - k]
    assert constant is not None
    left, right, result = product_subscripts(node, a.ids.ndim, b.ids.ndim)
    own, other = (left, right) if k == 0 else (right, left)
    return linear(node, build, (a, b)[k], own, [(other, constant)], result)


def _shared(node: Node, build: Builder, value: Features) -> Features | None:
    """Import MatMul of [.., B, I] over time by [I, O], the same weights for each of B bands, as a convolution of one tap; None for others."""
    inputs, bands = value.ids.shape[-1], value.ids.size // max(1, value.ids.shape[-1])
    if bands < 2 or value.axes[-1] is not None or any(p.tensor.kind != "layer" for p in build.book.parts(value.ids)):
        return None
    weight = _weight(node, "the second operand")
    if weight.shape[0] != inputs:
        raise node.damaged(f"weight '{node.input_names[1]}' takes {weight.shape[0]} features, its input has {inputs}")
    tensor, indices = build.operand(node, value)
    if not tensor.has_time:
        return None
    if not np.array_equal(indices, np.arange(tensor.features)):
        tensor, _ = build.gathered(node, indices + tensor.start)
    outputs = weight.shape[1]
    output = build.result(node, bands * outputs, True)
    each = np.ascontiguousarray(weight.T)[:, :, None, None]
    build.add_matrix(Conv(node.name, tensor.name, output.name, each, np.zeros(outputs), EACH, EACH, bands))
    return Features(output.ids.reshape(*value.ids.shape[:-1], outputs), value.axes)


def _linear(node: Node, build: Builder, k: int) -> Features:
    """Import MatMul of features, operand ``k``, and of a constant that is no matrix for all of them."""
    names = "the first operand", "the second operand"
    value, constant = node.features(k, names[k]), node.weights(1 - k, names[1 - k])
    ranks = (value.ids.ndim, constant.ndim) if k == 0 else (constant.ndim, value.ids.ndim)
    left, right, result = product_subscripts(node, *ranks)
    own, other = (left, right) if k == 0 else (right, left)
    return linear(node, build, value, own, [(other, constant)], result)


@operator("Gemm")
def gemm(node: Node, build: Builder) -> Value:
    """Import Gemm as a Dense layer: alpha · A · B + beta · C.

    A is [N, I], B [I, O] or [O, I] (transB), and C is broadcast to [N, O].
    """
    alpha, beta = float(node.take("alpha", 1.0)), float(node.take("beta", 1.0))
    trans_a, trans_b = int(node.take("transA", 0)), int(node.take("transB", 0))
    if trans_a:
        raise node.refuse("transA=1 is not supported; re-export with the batch as the first axis of A")
    value = node.features(0, "A")
    if value.ids.ndim == 2 and value.ids.shape[0] > 1 and node.constant(1, "B").ndim == 2:  # a row for each band
        return _rows(node, build, value, alpha, beta, bool(trans_b))
    if value.ids.ndim != 2 or node.constant(1, "B").ndim != 2:
        raise node.damaged(f"A {value.describe()} and B {list(node.constant(1, 'B').shape)} must have two axes each")
    weight = _weight(node, "B")
    weight = alpha * (weight if trans_b else weight.T)
    bias = np.zeros(weight.shape[0])
    if node.has_input(2):
        c = beta * node.weights(2, "C")
        if np.broadcast_shapes(c.shape, (1, bias.size)) != (1, bias.size):
            raise node.refuse(f"C has shape {list(c.shape)}; only one bias for all rows ([{bias.size}]) is supported")
        bias = np.broadcast_to(c, (1, bias.size))[0].copy()
    return _dense(node, build, value, np.ascontiguousarray(weight), bias)


def _rows(node: Node, build: Builder, value: Features, alpha: float, beta: float, turned: bool) -> Value:
    """Import Gemm of rows, of which each step has several: the same product for each, as MatMul and Add have it."""
    weight = alpha * _weight(node, "B")
    operands = [value, np.ascontiguousarray(weight.T) if turned else weight, *node.inputs[2:]]
    names = node.input_names
    product = matmul(node.as_operator("MatMul", operands[:2], names[:2]), build)
    if not node.has_input(2) or not isinstance(product, Features):
        return product
    return affine(node, build, product, np.ones(1), beta * node.weights(2, "C"))


@operator("Add")
def add(node: Node, build: Builder) -> Value:
    """Import Add: of two tensors of one shape, or of features and a constant vector.

    The vector is the bias of the Dense layer before, or of an identity Dense. The old Dense layer goes if it is unused.
    """
    if _constants_only(node, 0, 1):
        a, b = node.constant(0, "operand"), node.constant(1, "operand")
        node.reserve(count(np.broadcast_shapes(a.shape, b.shape)))
        return np.asarray(a + b)
    if isinstance(node.input(0), Features) and isinstance(node.input(1), Features):
        return two(node, build, "add", node.input(0), node.input(1))
    k = 0 if isinstance(node.input(0), Features) else 1
    value = node.features(k, "operand")
    constant = without_repeats(node, build, node.weights(1 - k, "the added constant"), value)
    value = widened(node, value, constant)
    if np.broadcast_shapes(constant.shape, value.ids.shape) != value.ids.shape:
        raise node.refuse(
            f"adds a constant of shape {list(constant.shape)} to {value.describe()}; only one value per feature is supported"
        )
    if not constant.any():
        return value
    node.reserve(value.ids.size)
    offset = np.broadcast_to(constant, value.ids.shape).reshape(-1)
    tensor, indices = build.operand(node, value)
    before = build.matrix_that_writes(tensor)
    if not isinstance(before, Dense):
        return affine(node, build, value, np.ones(1), constant)
    node.reserve(indices.size * before.weight.shape[1])
    source, weight, bias = before.input, before.weight[indices], before.bias[indices] + offset
    name = before.name if indices.size == tensor.features else node.name
    output = build.result(node, indices.size, tensor.has_time)
    build.add_matrix(Dense(name, source, output.name, weight, bias))
    result = Features(output.ids.reshape(value.ids.shape), value.axes)
    remember(build, result, "add", term_of(build, value), numbers(offset, offset.size))
    return result


@axis_rule("MatMul", "Gemm")
def product_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry all axes but the last; the last one is new, or of two computed matrices that of the second."""
    value, other = node.input(0), node.input(1)
    if isinstance(value, np.ndarray) and isinstance(other, AxisTensor) and other.rank >= 2 and value.ndim >= 2:
        roles.used_as(other.axes[-2], int(value.shape[-1]))
        return AxisTensor((*other.axes[:-2], roles.made(int(value.shape[-2]), node.name), other.axes[-1]))
    if isinstance(value, AxisTensor) and isinstance(other, AxisTensor) and other.rank > 2:
        roles.same(value.axes[-1], other.axes[-2], node.name)
        wide = max((value, other), key=lambda operand: operand.rank)
        return AxisTensor((*wide.axes[:-2], *value.axes[-2:-1], other.axes[-1]))
    if not isinstance(value, AxisTensor):
        raise node.refuse("multiplies a constant by features; run this part outside the model")
    roles.mark(node.input(1), "weight", node.name)
    size = None
    if isinstance(weight := node.input(1), np.ndarray) and weight.ndim >= 2:
        turned = node.op == "Gemm" and node.take("transB", 0)
        rows, size = (int(n) for n in (weight.shape[::-1] if turned else weight.shape[-2:]))
        roles.used_as(value.axes[-1], rows)
    return AxisTensor((*value.axes[:-1], roles.made(size, node.name)))


@axis_rule("Add", "Mul", "Sub", "Div", "Pow", "Min", "Max")
def sum_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry axes by broadcasting: axes aligned from the back are the same unless one has size 1."""
    values = [v for v in node.inputs if isinstance(v, AxisTensor)]
    wide = max(values, key=lambda v: v.rank)
    for other in values:
        for a, b in zip(wide.axes[::-1], other.axes[::-1], strict=False):
            if a.size == b.size or None in (a.size, b.size):
                roles.same(a, b, node.name)
    whole = all(v is wide or (isinstance(v, np.ndarray) and v.dtype == np.int64) for v in node.inputs)
    return AxisTensor(wide.axes, wide.sources if whole else frozenset())  # whole numbers are lengths, and still say so
