"""Constants, and arithmetic on shapes: the sizes of batch and time stay symbols."""

from __future__ import annotations

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.constants import canonical
from qrnn.onnx_import.lengths import as_axes, rule_of, size_of
from qrnn.onnx_import.merging import is_size, merged_size, product_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.affine import affine, constant_of
from qrnn.onnx_import.operators.attention import weighted_values
from qrnn.onnx_import.operators.quantized_layers import scaled_sums
from qrnn.onnx_import.operators.two_tensors import two
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.steps import repeated
from qrnn.onnx_import.values import (
    BATCH,
    MERGED,
    MOST_AXES,
    TIME,
    Array,
    Dim,
    Features,
    Product,
    Symbol,
    Value,
    as_shape,
    is_shape,
)


@operator("Constant")
def constant(node: Node, build: Builder) -> Value:
    """Import Constant."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.take(name)
        if value is not None:
            return canonical(np.asarray(value), f"{name} of {node.where}")
    raise node.refuse(
        f"a constant given by {', '.join(node.leftovers()) or 'nothing'} is not supported; use a dense tensor"
    )


def sizes_of(build: Builder, value: Features) -> list[Dim]:
    """Return the sizes of a value: those of its time axis, and of one that batch and time are merged to, by how many steps it has."""
    dims: list[Dim] = list(value.shape)
    if not any(d is TIME or d in MERGED for d in value.axes):
        return dims
    rule = build.length_rule(value)
    sizes = {TIME: size_of(rule), **dict.fromkeys(MERGED, merged_size(rule))}
    return [sizes.get(d, d) if isinstance(d, Symbol) else d for d in dims]


@operator("Shape")
def shape(node: Node, build: Builder) -> Value:
    """Import Shape: batch and time are symbols even where the file declares a number, because any number runs."""
    value = node.input(0)
    dims: list[Dim] = list(value.shape)
    if isinstance(value, Features):
        dims = sizes_of(build, value)
    start = int(node.take("start", 0))
    end = node.take("end")
    return as_shape(dims[start : None if end is None else int(end)])


@axis_rule("Shape")
def shape_of_axes(node: Node, roles: Roles) -> Array:
    """Return a shape with axis identities for symbols; an axis that a node made with a known size is a number."""
    value = node.input(0)
    dims: list[Dim] = [a.size if a.source is None and a.size is not None else a for a in value.axes]
    start = int(node.take("start", 0))
    end = node.take("end")
    return as_shape(dims[start : None if end is None else int(end)])


def _sizes(node: Node, dims: Array) -> tuple[list[int], tuple[Symbol | None, ...]]:
    """Return sizes with 1 for batch and time, and which axis is which."""
    if dims.ndim != 1 or dims.size > MOST_AXES:
        raise node.damaged(
            f"its shape operand has the shape {list(dims.shape)}, expected [axes] of at most {MOST_AXES}"
        )
    axes = tuple(TIME if rule_of(d) is not None else d if isinstance(d, Symbol) else None for d in dims)
    unknown = [str(a) for a in axes if a not in (None, BATCH, TIME) and not isinstance(a, Product)]
    if unknown or len({id(a) for a in axes if a is not None}) < sum(a is not None for a in axes):
        raise node.refuse(f"shape {list(dims)} is not supported; batch and time may appear once each")
    sizes = [1 if isinstance(d, Symbol) else int(d) for d in dims]
    if min(sizes, default=0) < 0:
        raise node.damaged(f"shape {sizes} holds a negative size")
    return sizes, axes


@operator("ConstantOfShape")
def constant_of_shape(node: Node, build: Builder) -> Value:
    """Import ConstantOfShape; a batch or time size gives features that only initial states may read."""
    value = np.asarray(node.take("value", np.zeros(1)))
    sizes, axes = _sizes(node, np.asarray(node.input(0)))
    node.reserve(count(sizes))
    filled = np.full(sizes, value.reshape(-1)[0])
    if any(axes):
        return build.constant(_floats(node, filled), axes)
    return filled


@operator("Expand")
def expand(node: Node, build: Builder) -> Value:
    """Import Expand.

    Constants that are broadcast to the batch become features with a batch axis; features only repeat feature axes.
    """
    value = node.input(0)
    target = np.asarray(node.input(1))
    if isinstance(value, Features):
        return _expand_features(node, build, value, target)
    array: Array = value
    if for_each_sequence(array, list(target.reshape(-1))):
        return array
    sizes, axes = _sizes(node, target)
    result = np.broadcast_shapes(value.shape, tuple(sizes))
    node.reserve(count(result))
    axes = (None,) * (len(result) - len(axes)) + axes
    broadcast = np.broadcast_to(value, result)
    if not any(axes):
        return broadcast
    for k, axis in enumerate(axes):
        if axis is not None and result[k] != 1:
            first = broadcast.take([0], axis=k)
            if not (broadcast == first).all():
                raise node.refuse(
                    f"expands a constant of shape {list(value.shape)} to {list(target)}; constants must not differ along the batch"
                )
            broadcast = first
    return build.constant(_floats(node, broadcast), axes)


def for_each_sequence(value: Array, sizes: list[Dim]) -> bool:
    """Return whether one size, such as the number of steps, is repeated for each sequence; it then stays one."""
    return is_shape(value) and value.size == 1 and sizes == [BATCH]


def _floats(node: Node, values: Array) -> FloatArray:
    """Return a copy as float64."""
    node.reserve(values.size)
    return values.astype(np.float64)


def _expand_features(node: Node, build: Builder, value: Features, target: Array) -> Features:
    sizes = []
    if target.shape != (value.ids.ndim,):
        raise node.refuse(
            f"expands {value.describe()} to {target[:MOST_AXES].tolist()}, another number of axes; run this part outside the model"
        )
    for k, wanted in enumerate(target):
        if value.axes[k] is None and value.ids.shape[k] == 1 and (rule := rule_of(wanted)) is not None:
            value = repeated(node, build, value, k, rule)
    known = build.sizes(value)
    for size, axis, wanted in zip(
        value.ids.shape, value.axes, as_axes(list(target), build.length_rule(value)), strict=True
    ):
        if axis is None and not isinstance(wanted, Symbol):
            sizes.append(max(size, int(wanted)))
        elif (axis is None and size == 1 and build.one_step and rule_of(wanted) is not None) or (
            axis is not None and (wanted == 1 or is_size(wanted, axis, known))
        ):
            sizes.append(1)
        else:
            raise node.refuse(f"expands {value.describe()} to {list(target)}; run this part outside the model")
    node.reserve_features(count(sizes))
    return Features(np.broadcast_to(value.ids, sizes), value.axes)


def _times(node: Node, a: Dim, b: Dim) -> Dim:
    """Return the product of two sizes."""
    if isinstance(a, Symbol) and a.size is not None and b != 1:
        a = a.size
    if isinstance(b, Symbol) and b.size is not None and a != 1:
        b = b.size
    if isinstance(a, int | np.integer) and isinstance(b, int | np.integer):
        return int(a) * int(b)
    if a == 1:
        return b
    if b == 1:
        return a
    return product_of(node, a, b)


@operator("Mul")
def mul(node: Node, build: Builder) -> Value:
    """Import Mul of constants and of sizes; features may be multiplied by features of the same shape and by constants."""
    a, b = node.input(0), node.input(1)
    if isinstance(a, Features) or isinstance(b, Features):
        for pair in ((a, b), (b, a)):
            if (scaled := scaled_sums(node, build, *pair)) is not None:
                return scaled
        if isinstance(a, Features) and isinstance(b, Features):
            if (weighted := weighted_values(node, build, a, b)) is not None:
                return weighted
            return two(node, build, "mul", a, b)
        value: Features = a if isinstance(a, Features) else b
        return affine(node, build, value, constant_of(node, 1 if value is a else 0), np.zeros(1))
    result_shape = np.broadcast_shapes(a.shape, b.shape)
    node.reserve(count(result_shape), scratch=count(result_shape))
    if not is_shape(a) and not is_shape(b):
        return canonical(np.asarray(a * b), f"the result of {node.where}")
    pairs = np.broadcast(a.astype(object), b.astype(object))
    result = np.empty(result_shape, dtype=object)
    result.reshape(-1)[:] = [_times(node, x, y) for x, y in pairs]
    return as_shape(result)


@operator("ReduceProd")
def product_of_sizes(node: Node, build: Builder) -> Value:
    """Import ReduceProd of a list of sizes, by which TensorFlow merges the axes in front of a matrix product."""
    sizes = node.input(0)
    if isinstance(sizes, Features) or not is_shape(sizes) or sizes.ndim != 1:
        raise node.refuse(
            "multiplies features of a step with each other; only sizes can be multiplied, run this part outside the model"
        )
    noop, keep = bool(node.take("noop_with_empty_axes", 0)), bool(node.take("keepdims", 1))
    attribute = node.take("axes")
    axes = node.ints(1, "axes") if node.has_input(1) else [int(axis) for axis in attribute or ()]
    if len(axes) > 1 or any(axis not in (0, -1) for axis in axes):
        raise node.damaged(f"axes={axes} of a list of sizes, expected [0]")
    if noop and not axes:
        return as_shape(sizes)
    product: Dim = 1
    for size in sizes:
        product = _times(node, size, product)
    return as_shape(np.array([product] if keep else product, dtype=object))


@axis_rule("Expand")
def expand_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes of Expand's input, but for those of size 1 that become another axis."""
    value: AxisTensor = node.input(0)
    target = node.input(1)
    if not isinstance(target, np.ndarray) or target.shape != (value.rank,):
        return value
    axes = [
        wanted if isinstance(wanted, Axis) and a.size == 1 else a for a, wanted in zip(value.axes, target, strict=True)
    ]
    return AxisTensor(tuple(axes), value.sources)


def known_sizes(axes: tuple[Axis, ...]) -> list[Dim]:
    """Return the sizes of axes as far as known, else the axes themselves."""
    return [a if a.size is None else a.size for a in axes]
