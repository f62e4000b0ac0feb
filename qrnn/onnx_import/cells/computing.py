"""The rules of operators that compute: sums, products, matrices and elementwise functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.onnx_import.cells.elements import WHAT, Function, Known, Layer, Value
from qrnn.onnx_import.cells.evaluate import MOST_ELEMENTS, Call, NotFollowed, Result, rule
from qrnn.onnx_import.cells.moves import one_row
from qrnn.onnx_import.values import Array

FUNCTIONS: dict[str, tuple[float | None, float | None]] = {
    "Sigmoid": (None, None),
    "Tanh": (None, None),
    "Relu": (None, None),
    "Softsign": (None, None),
    "Softplus": (None, None),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, None),
    "Elu": (1.0, None),
    "ThresholdedRelu": (1.0, None),
    "Erf": (None, None),
    "Exp": (None, None),
    "Sqrt": (None, None),
    "Abs": (None, None),
    "HardSwish": (None, None),
}
"""The elementwise operators that are followed, with the defaults of their parameters."""


def _aligned(call: Call, values: Sequence[Known | Value]) -> tuple[list[Array], int | None, tuple[int, ...]]:
    """Return the operands of an elementwise operator with one row for the batch, the axis of that, and the shape of the result."""
    arrays = [v.array if isinstance(v, Known) else v.ids for v in values]
    rank = max(a.ndim for a in arrays)
    batches = {v.batch + rank - a.ndim for v, a in zip(values, arrays, strict=True) if v.batch is not None}
    if len(batches) > 1:
        raise NotFollowed
    batch = batches.pop() if batches else None
    for k, (value, array) in enumerate(zip(values, arrays, strict=True)):
        axis = -1 if batch is None else batch - rank + array.ndim
        if axis >= 0 and value.batch is None:
            arrays[k] = one_row(array, axis, call.evaluation.batch_size)
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    if not 0 < np.prod([1.0, *shape]) <= MOST_ELEMENTS:
        raise NotFollowed
    call.elements.budget.value(WHAT, 0, scratch=4 * len(arrays) * int(np.prod(shape)))
    return [np.broadcast_to(a, shape).reshape(-1) for a in arrays], batch, tuple(shape)


def _sum(call: Call, values: Sequence[Known | Value], signs: Sequence[float]) -> Value:
    arrays, batch, shape = _aligned(call, values)
    known = np.zeros(arrays[0].size)
    terms = []
    for value, array, sign in zip(values, arrays, signs, strict=True):
        if isinstance(value, Known):
            known += sign * array.astype(np.float64)
        else:
            terms.append((np.full(array.size, sign), np.ascontiguousarray(array)))
    return Value(call.elements.total(terms, known, call.home).reshape(shape), batch)


def _numeric(call: Call, values: Sequence[Known | Value]) -> Result | None:
    """Return the result of arithmetic on constants alone."""
    if any(isinstance(v, Value) for v in values):
        return None
    if len(values) != 2:
        raise NotFollowed
    a, b, *_ = (v.array for v in values if isinstance(v, Known))
    rank = max(a.ndim, b.ndim)
    batches = {v.batch + rank - v.array.ndim for v in values if isinstance(v, Known) and v.batch is not None}
    size = int(np.prod(np.broadcast_shapes(a.shape, b.shape), dtype=np.float64))
    if size > max(MOST_ELEMENTS, a.size, b.size):
        raise NotFollowed
    call.elements.budget.value(WHAT, size, scratch=size)
    with np.errstate(all="ignore"):
        if call.op == "Div":
            result = np.trunc(a / b).astype(np.int64) if a.dtype.kind == b.dtype.kind == "i" else a / b
        else:
            result = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[call.op](a, b)
    if len(batches) > 1 or not np.isfinite(result).all():
        raise NotFollowed
    return Known(result, batches.pop() if batches else None)


@rule("Add", "Sub", "Sum")
def add(call: Call) -> Sequence[Result]:
    """Add or subtract."""
    values = [call.operand(k) for k in range(len(call.inputs))]
    known = _numeric(call, values)
    if known is not None:
        return [known]
    return [_sum(call, values, [-1.0 if call.op == "Sub" and k else 1.0 for k in range(len(values))])]


@rule("Neg")
def negate(call: Call) -> Sequence[Result]:
    """Change the sign."""
    value = call.operand()
    if isinstance(value, Known):
        call.elements.budget.value(WHAT, value.array.size)
        return [Known(-value.array, value.batch)]
    return [_sum(call, [value], [-1.0])]


@rule("Mul", "Div")
def multiply(call: Call) -> Sequence[Result]:
    """Multiply elements, or by constants; divide by constants."""
    values = [call.operand(0), call.operand(1)]
    known = _numeric(call, values)
    if known is not None:
        return [known]
    arrays, batch, shape = _aligned(call, values)
    a, b = (np.ascontiguousarray(array) for array in arrays)
    if all(isinstance(v, Value) for v in values):
        if call.op == "Div":
            raise NotFollowed
        return [Value(call.elements.product(a, b, call.home).reshape(shape), batch)]
    if isinstance(values[0], Known):
        if call.op == "Div":
            raise NotFollowed
        a, b = b, a
    factors = b.astype(np.float64)
    if call.op == "Div":
        if not factors.all():
            raise NotFollowed
        factors = 1 / factors
    if not factors.any():
        return [Known(np.zeros(shape), batch)]
    return [Value(call.elements.total([(factors, a)], np.zeros(a.size), call.home).reshape(shape), batch)]


def _product(call: Call, value: Known | Value, weights: Array) -> Value:
    """Multiply the last axis by a matrix [n, m] that `Elements.matrix` gave."""
    ids = (
        value.ids
        if isinstance(value, Value)
        else call.elements.const(value.array, call.home).reshape(value.array.shape)
    )
    if ids.ndim == 0 or ids.shape[-1] != weights.shape[1] or value.batch == ids.ndim - 1:
        raise NotFollowed
    if ids.size // ids.shape[-1] * len(weights) > MOST_ELEMENTS:
        raise NotFollowed
    rows = [
        call.elements.matmul(weights, row, call.home) for row in np.ascontiguousarray(ids.reshape(-1, ids.shape[-1]))
    ]
    return Value(np.stack(rows).reshape(*ids.shape[:-1], len(weights)), value.batch)


def _matrix(call: Call, array: Array, transposed: bool) -> Array:
    """Return a matrix, which may have axes of size 1 before it."""
    if array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        raise NotFollowed
    return call.elements.matrix(array, transposed)


@rule("MatMul")
def matmul(call: Call) -> Sequence[Result]:
    """Multiply by a constant matrix, from the right or from the left."""
    a, b = call.operand(0), call.operand(1)
    if isinstance(b, Known):
        if isinstance(a, Known) and a.batch is None:
            if a.array.ndim != 2 or a.array.shape[0] not in (1, call.evaluation.batch_size):
                raise NotFollowed
            a = Known(one_row(a.array, 0, call.evaluation.batch_size), 0)
        return [_product(call, a, _matrix(call, b.array, transposed=True))]
    if not isinstance(a, Known) or b.ids.ndim < 2:
        raise NotFollowed
    batch = {b.ids.ndim - 1: b.ids.ndim - 2, b.ids.ndim - 2: b.ids.ndim - 1}.get(b.batch or 0, b.batch)
    made = _product(call, Value(b.ids.swapaxes(-1, -2), batch), _matrix(call, a.array, transposed=False))
    return [Value(np.ascontiguousarray(made.ids.swapaxes(-1, -2)), b.batch)]


@rule("Gemm")
def gemm(call: Call) -> Sequence[Result]:
    """Return alpha · A @ B + beta · C."""
    a, b = call.operand(0), call.numbers(1)
    if call.attributes.get("transA", 0) or b.ndim != 2:
        raise NotFollowed
    weights = call.elements.matrix(b, not call.attributes.get("transB", 0), float(call.attributes.get("alpha", 1.0)))
    if isinstance(a, Known) and a.batch is None:
        a = Known(one_row(a.array, 0, call.evaluation.batch_size), 0)
    made = _product(call, a, weights)
    if not call.given(2):
        return [made]
    return [_sum(call, [made, call.operand(2)], [1.0, float(call.attributes.get("beta", 1.0))])]


@rule(*FUNCTIONS)
def unary(call: Call) -> Sequence[Result]:
    """Apply an elementwise function."""
    alpha, beta = FUNCTIONS[call.op]
    alpha = None if alpha is None else float(call.attributes.get("alpha", alpha))
    beta = None if beta is None else float(call.attributes.get("beta", beta))
    return [_applied(call, Function(call.op, alpha, beta), _elements(call))]


def _elements(call: Call) -> Value:
    value = call.operand()
    if isinstance(value, Known):
        raise NotFollowed
    return value


def _applied(call: Call, function: Function, value: Value) -> Value:
    ids = call.elements.unary(function, value.ids.reshape(-1), call.home)
    return Value(ids.reshape(value.ids.shape), value.batch)


@rule("Clip")
def clip(call: Call) -> Sequence[Result]:
    """Read a range from 0 to m as m times HardSigmoid; a scale and an offset before it are its own."""
    value = _elements(call)
    bounds = [
        float(call.numbers(k).reshape(())) if call.given(k) else call.attributes.get(name)
        for k, name in ((1, "min"), (2, "max"))
    ]
    low, high = bounds
    if low != 0 or high is None or not 0 < high < 1e6:
        raise NotFollowed
    ids = value.ids.reshape(-1)
    offset, ids = _uniform(call, ids, scaled=False)
    scale, ids = _uniform(call, ids, scaled=True)
    made = call.elements.unary(Function("HardSigmoid", scale / high, offset / high), ids, call.home)
    made = call.elements.total([(np.full(made.size, high), made)], np.zeros(made.size), call.home)
    return [Value(made.reshape(value.ids.shape), value.batch)]


def _uniform(call: Call, ids: Array, scaled: bool) -> tuple[float, Array]:
    """Return the one factor of elements, or the one number that is added to them, and what it is a factor of or added to."""
    block = call.elements.block_of(ids)
    nothing = 1.0 if scaled else 0.0
    if block is None or block.kind != "sum" or len(block.operands) != 1 or block.values is None:
        return nothing, ids
    places = ids - block.start
    factors, numbers = block.coefficients[0][places], block.values[places]
    own, other = (factors, numbers) if scaled else (numbers, factors - 1)
    if other.any() or (own != own[0]).any():
        return nothing, ids
    return float(own[0]), block.operands[0][places]


@rule("LayerNormalization", "Softmax", "LogSoftmax")
def along_features(call: Call) -> Sequence[Result]:
    """Take an operator along the last axis as a layer of a step."""
    value = _elements(call)
    rank = value.ids.ndim
    first = 1 if call.op != "LayerNormalization" and call.evaluation.opset < 13 else -1
    if call.attributes.pop("axis", first) not in (-1, rank - 1) or rank == 0 or value.batch == rank - 1:
        raise NotFollowed
    numbers = tuple(sorted((name, v) for name, v in call.attributes.items() if isinstance(v, float | int)))
    if len(call.outputs) > 1 or len(numbers) < len(call.attributes):
        raise NotFollowed
    if not all(isinstance(v, Known) for v in call.inputs[1:]):
        raise NotFollowed
    layer = Layer(call.op, tuple(call.names[1:]), numbers)
    rows = np.ascontiguousarray(value.ids.reshape(-1, value.ids.shape[-1]))
    made = [call.elements.along(layer, row, call.home) for row in rows]
    return [Value(np.stack(made).reshape(value.ids.shape), value.batch)]
