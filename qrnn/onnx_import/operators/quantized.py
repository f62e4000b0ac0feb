"""Graphs that are quantized already are taken as float models: what their integers stand for, and where they round.

Weights are read as (q - zero_point) · scale, without a rounding, so that a conversion finds their grid again (`qrnn.quantization.grid`). What
a graph rounds as it runs is not rounded here: a conversion chooses its own formats. A note of the model says where the graph does. The range of
such a rounding matters where it begins at 0, since exporters leave out a Relu before it; that one is put back.

Between QuantizeLinear and DequantizeLinear a value is a tensor of kind ``integers``, which says which features it stands for. Operators that
move values move its ids as they move any; an operator that computes finds an operand of integers, and is refused, unless it is one of these
two modules (`quantized_layers` has the operators that compute with integers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx

from qrnn.model.activation import Activation
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import MICROSOFT, axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import MERGED, TIME, Features, Integers, Symbol, Tensor, Value
from qrnn.quantization.grid import LARGEST_INTEGER

_T = onnx.TensorProto


class Range(NamedTuple):
    """The integers that an element type holds."""

    low: int
    high: int


RANGES = {
    int(getattr(_T, f"{sign}INT{bits}")): Range(0, 2**bits - 1)
    if sign
    else Range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (2, 4, 8, 16)
    if hasattr(_T, f"{sign}INT{bits}")
}
"""The element types that QuantizeLinear may give."""

LOOK_UP_WORK = 100
"""Nominal nanoseconds to look at one layer for what it writes."""

NEVER_NEGATIVE = frozenset(["relu", "sigmoid", "hard_sigmoid", "softplus"])


@dataclass(frozen=True, eq=False)
class Quantized(Integers):
    """Integers q of the real features ``ids``, which are (q - zero_point) · scale; ``scale`` is None where it is computed at each run."""

    ids: IndexArray
    scale: float | None = None
    zero_point: float = 0.0

    @property
    def code(self) -> object:
        """Return what an operator that reads the integers has to name with them: scale and zero point, or those of this very tensor."""
        return self if self.scale is None else (self.scale, self.zero_point)


@dataclass(frozen=True, eq=False)
class ScaleOf(Integers):
    """The scale of ``of``, which is computed at each run, times constants ``factor``."""

    of: Quantized
    factor: FloatArray


@dataclass(frozen=True, eq=False)
class ZeroPointOf(Integers):
    """The zero point of ``of``, which is computed at each run."""

    of: Quantized


def integers(node: Node, build: Builder, output: int, shape: Any, axes: Any, stand_for: Integers) -> Features:
    """Return a new tensor of integers as the node's output ``output``."""
    has_time = any(axis is TIME or axis in MERGED for axis in axes)
    tensor = build.book.add(node.output_names[output], int(np.prod(shape, dtype=np.int64)), has_time, "integers")
    tensor.integers = stand_for
    return Features(tensor.ids.reshape(shape), tuple(axes))


def whole(build: Builder, value: Value | None) -> Tensor | None:
    """Return the tensor of integers of which ``value`` holds all in their order, or None for any other value."""
    if not isinstance(value, Features) or not value.ids.size:
        return None
    tensor = build.book.parts(value.ids.reshape(-1)[:1])[0].tensor
    return tensor if tensor.integers is not None and np.array_equal(value.ids.reshape(-1), tensor.ids) else None


def scalar(node: Node, k: int, what: str) -> float:
    """Return constant input ``k``, of one element; a scale for each channel of computed features is refused."""
    array = node.weights(k, what)
    if array.size != 1:
        raise node.refuse(
            f"{what} '{node.input_names[k]}' has {array.size} values for computed features, only one is supported; re-export with "
            "activations quantized per tensor"
        )
    return float(array.reshape(-1)[0])


def code_of(node: Node, build: Builder, scale: int, zero_point: int) -> object:
    """Return how the node reads integers, by inputs ``scale`` and ``zero_point``; compare it with `Quantized.code`."""
    by_run = whole(build, node.input(scale))
    if by_run is not None and isinstance(by_run.integers, ScaleOf) and (by_run.integers.factor == 1).all():
        zero = whole(build, node.input(zero_point))
        if zero is not None and isinstance(zero.integers, ZeroPointOf) and zero.integers.of is by_run.integers.of:
            return by_run.integers.of
    zero_value = scalar(node, zero_point, "the zero point") if node.has_input(zero_point) else 0.0
    return scalar(node, scale, "the scale"), zero_value


def _along(node: Node, values: FloatArray, shape: tuple[int, ...], axis: int, block: int, what: str) -> FloatArray:
    """Return scales or zero points so that they broadcast with an array of that shape: one, one for each channel, or one for each block."""
    if values.size == 1:
        return values.reshape(())
    axis = node.axis(axis, len(shape))
    size = shape[axis]
    if block > 0 and values.ndim == len(shape):
        if values.shape == (*shape[:axis], -(-size // block), *shape[axis + 1 :]):
            node.reserve(int(np.prod(shape, dtype=np.int64)))
            return np.take(values, np.arange(size) // block, axis=axis)
    elif block == 0 and values.shape == (size,):
        return values.reshape([size if k == axis else 1 for k in range(len(shape))])
    raise node.damaged(
        f"{what} has shape {list(values.shape)} for an array of shape {list(shape)}; expected one value, or one for each place of axis {axis}"
        + (f" in blocks of {block}" if block else "")
    )


def dequantized(
    node: Node, build: Builder, k: int, scale: int, zero_point: int, axis: int = 1, block: int = 0
) -> FloatArray:
    """Return constant integers, input ``k``, as the real numbers (q - zero_point) · scale."""
    q, scales = node.weights(k, "the integers"), node.weights(scale, "the scale")
    zeros = node.weights(zero_point, "the zero point") if node.has_input(zero_point) else np.zeros(())
    return rescaled(node, build, node.input_names[k], q, scales, zeros, axis, block)


def rescaled(
    node: Node,
    build: Builder,
    name: str,
    q: FloatArray,
    scale: FloatArray,
    zero_point: FloatArray,
    axis: int = 1,
    block: int = 0,
) -> FloatArray:
    """Return (q - zero_point) · scale, and leave a note where these integers are not within ±127, the grid that eight bits hold."""
    if block < 0:
        raise node.damaged(f"block_size={block}, expected at least 0")
    shape = q.shape
    node.reserve(q.size, scratch=q.size)
    steps = q - _along(node, zero_point, shape, axis, block, "the zero point")
    if q.ndim > 1 and (largest := int(np.abs(steps).max(initial=0.0))) > LARGEST_INTEGER:
        build.notes.append(
            f"{node.where}: weights '{name}' are up to {largest} steps from their zero point; rows with more than {LARGEST_INTEGER} are "
            "rounded anew"
        )
    result: FloatArray = steps * _along(node, scale, shape, axis, block, "the scale")
    return result


def real_value(node: Node, build: Builder, k: int, scale: int, zero_point: int, axis: int = 1, block: int = 0) -> Value:
    """Return what integers stand for: constants, or features that were quantized with the scale and zero point that the node names."""
    value = node.input(k)
    if not isinstance(value, Features):
        return dequantized(node, build, k, scale, zero_point, axis, block)
    code = code_of(node, build, scale, zero_point)
    node.reserve(value.ids.size)
    ids = np.empty(value.ids.size, dtype=np.int64)
    for part in build.book.parts(value.ids):
        held = part.tensor.integers
        if not isinstance(held, Quantized):
            raise node.refuse(
                f"reads '{node.input_names[k]}' as integers, which no QuantizeLinear of this graph made; re-export with real inputs and "
                "QuantizeLinear in the graph"
            )
        if held.code != code:
            raise node.refuse(
                f"reads '{node.input_names[k]}' with another scale or zero point than it was quantized with; re-export with the same in both"
            )
        ids[part.positions] = held.ids[part.indices]
    return Features(ids.reshape(value.ids.shape), value.axes)


def quantized(node: Node, build: Builder, value: Features, scale: int, zero_point: int, kind: int | None) -> Features:
    """Return the integers of ``value`` as the node's output; input ``scale`` and ``zero_point`` say their code, ``kind`` their type."""
    step = scalar(node, scale, "the scale")
    zero = scalar(node, zero_point, "the zero point") if node.has_input(zero_point) else 0.0
    if kind not in RANGES:
        named = "an unknown type" if kind is None else _T.DataType.Name(kind)
        raise node.refuse(f"quantizes features to {named}; only integers of 2 to 16 bits are supported")
    if step <= 0.0:
        raise node.damaged(f"its scale is {step}, expected a positive number")
    low, high = (end - zero for end in RANGES[kind])
    build.notes.append(
        f"{node.where}: the graph rounds its result to steps of {step:.4g} within {low * step:.4g} to {high * step:.4g}; the model "
        "does not"
    )
    flat = build.computable(node, value.ids)
    if high <= 0:
        raise node.refuse(f"keeps only values within {low * step:.4g} to {high * step:.4g}, which cuts off all above 0")
    node.budget.spend(node.where, len(build.layers) * LOOK_UP_WORK)
    if low >= 0 and _may_be_negative(build, flat):
        build.notes.append(f"{node.where}: its range begins at 0, so that it is a Relu, too, which the model has")
        value = build.map_tensors(node, Features(flat.reshape(value.ids.shape), value.axes), _relu)
        flat = value.ids.reshape(-1)
    return integers(node, build, 0, value.ids.shape, value.axes, Quantized(flat, step, zero))


def _relu(name: str, output: str, tensor: Tensor) -> Pointwise:
    return Pointwise(name, tensor.name, output, Activation("relu"))


def _may_be_negative(build: Builder, flat: IndexArray) -> bool:
    """Return whether a layer writes these features that may give numbers below 0; of graph inputs it is not asked."""
    for part in build.book.parts(flat):
        if part.tensor.kind == "features":
            continue
        writes = next((layer for layer in build.layers if part.tensor.name in layer.outputs), None)
        of_function = isinstance(writes, Pointwise) and writes.activation.kind in NEVER_NEGATIVE
        if not of_function and not isinstance(writes, Softmax):
            return True
    return False


def _output_type(node: Node) -> int | None:
    """Return the element type that QuantizeLinear gives: its zero point's, or else that of the attribute, or else UINT8."""
    declared = int(node.take("output_dtype", 0))
    if node.has_input(2):
        return node.element_type(2)
    return declared or int(_T.UINT8)


@operator("QuantizeLinear", f"{MICROSOFT}.QuantizeLinear")
def quantize_linear(node: Node, build: Builder) -> Value:
    """Import QuantizeLinear: constants become integers, and features are remembered by what their integers stand for."""
    axis, block, kind = int(node.take("axis", 1)), int(node.take("block_size", 0)), _output_type(node)
    node.take("saturate")  # of eight-bit floats, which are refused
    if int(node.take("precision", 0)) not in (0, int(_T.FLOAT)):
        raise node.refuse("precision is not float32; re-export without it")
    value = node.input(0)
    if isinstance(value, Features):
        return quantized(node, build, value, 1, 2, kind)
    if kind not in RANGES:
        raise node.refuse(
            "quantizes constants to a type that is not an integer of 2 to 16 bits; start from the float model, quantization is done here"
        )
    array, scale = node.weights(0, "its input"), node.weights(1, "the scale")
    zero = node.weights(2, "the zero point") if node.has_input(2) else np.zeros(())
    node.reserve(array.size, scratch=array.size)
    by = _along(node, scale, array.shape, axis, block, "the scale")
    if not (by > 0.0).all():
        raise node.damaged("its scale is not positive everywhere")
    # the operator divides in float32, and rounds halves to even
    q = np.rint(array.astype(np.float32) / by.astype(np.float32)).astype(np.float64)
    q += _along(node, zero, array.shape, axis, block, "the zero point")
    return np.clip(q, *RANGES[kind]).astype(np.int64)


@operator("DequantizeLinear", f"{MICROSOFT}.DequantizeLinear")
def dequantize_linear(node: Node, build: Builder) -> Value:
    """Import DequantizeLinear of constants, or of what QuantizeLinear made with the same scale and zero point."""
    axis, block = int(node.take("axis", 1)), int(node.take("block_size", 0))
    node.take("output_dtype")
    return real_value(node, build, 0, 1, 2, axis, block)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, build: Builder) -> tuple[Value, ...]:
    """Import DynamicQuantizeLinear: integers, their scale and their zero point, which operators behind it put together again."""
    value = node.features(0, "its input")
    build.notes.append(
        f"{node.where}: the graph rounds its result to eight bits by each call's own range; the model does not"
    )
    made = Quantized(build.computable(node, value.ids))
    nothing: tuple[Symbol | None, ...] = ()
    return (
        integers(node, build, 0, value.ids.shape, value.axes, made),
        integers(node, build, 1, (), nothing, ScaleOf(made, np.ones(()))),
        integers(node, build, 2, (), nothing, ZeroPointOf(made)),
    )


@axis_rule("QuantizeLinear", "DequantizeLinear", f"{MICROSOFT}.QuantizeLinear", f"{MICROSOFT}.DequantizeLinear")
def same_values(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; a rounding does not change what a graph input is for."""
    value = node.input(0)
    assert isinstance(value, AxisTensor)
    return value


@axis_rule("DynamicQuantizeLinear")
def dynamic_axes(node: Node, roles: Roles) -> tuple[AxisTensor, ...]:
    """Carry the axes to the integers; their scale and zero point have none."""
    return same_values(node, roles), AxisTensor(()), AxisTensor(())
