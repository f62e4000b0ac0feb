"""Operators that move values and compute nothing: they act on ids as they act on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import Array, Features, Value, is_shape


def keep_axes(node: Node, roles: Roles) -> AxisTensor:
    """Return the axes of the first input, unchanged; this is also the rule of every elementwise operator."""
    value = node.input(0)
    assert isinstance(value, AxisTensor)
    return value


axis_rule("Identity", "Cast", "Dropout")(keep_axes)


@operator("Identity")
def identity(node: Node, build: Builder) -> Value:
    """Import Identity: the value passes."""
    value: Value = node.input(0)
    return value


@operator("Dropout")
def dropout(node: Node, build: Builder) -> Value:
    """Import Dropout: the value passes, as at inference, and the mask output does not exist."""
    node.take("ratio")
    node.take("seed")
    if node.has_input(2) and node.constant(2, "training_mode").any():
        raise node.refuse("training_mode=1 is not supported; re-export in evaluation mode (model.eval())")
    value: Value = node.input(0)
    return value


_TYPES = onnx.TensorProto
REAL = frozenset([_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16])
"""Types that hold computed features but for their rounding, which is that of floating point."""

WIDE = frozenset([_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.INT32, _TYPES.INT64, _TYPES.UINT32, _TYPES.UINT64])
"""Types that hold tokens, lengths and sizes, whatever they are."""


def _as_held(node: Node, to: int) -> Value:
    """Return input 0, with constants rounded as the type ``to`` rounds them.

    Refuse it where the type cannot hold it, or where that is not known before a run.
    """
    value: Value = node.input(0)
    name = _TYPES.DataType.Name(to)
    if is_shape(value) and to not in WIDE:
        raise node.refuse(f"casts sizes to {name}, which may not hold them; re-export without this cast")
    if not isinstance(value, np.ndarray) or is_shape(value) or to == _TYPES.BOOL:
        return value
    whole = name.startswith(("INT", "UINT"))
    node.reserve(value.size, scratch=2 * value.size)
    with np.errstate(all="ignore"):
        held = value.astype(onnx.helper.tensor_dtype_to_np_dtype(to)).astype(np.float64)
        fits = held == np.trunc(value) if whole else np.isfinite(held)
    if not fits.all():
        first = value[~fits].reshape(-1)[0]
        raise node.refuse(
            f"casts the constant {first} to {name}, which cannot hold it; re-export with constants folded"
        )
    return value if whole and value.dtype.kind != "f" else held  # large integers are exact only as they are


@operator("Cast")
def cast(node: Node, build: Builder) -> Value:
    """Import Cast: features keep float64 values, tokens and shapes pass, and constants are converted."""
    to = int(node.take("to", onnx.TensorProto.FLOAT))
    node.take("saturate")
    node.take("round_mode")
    kind = onnx.helper.tensor_dtype_to_np_dtype(to).kind if to != onnx.TensorProto.BFLOAT16 else "f"
    if kind not in "fiubV":
        raise node.refuse(
            f"cast to {onnx.TensorProto.DataType.Name(to)} is not supported; run this part outside the model"
        )
    value = _as_held(node, to)
    if isinstance(value, Features):
        kinds = {part.tensor.kind for part in build.book.parts(value.ids)}
        if to not in REAL and kinds - {"tokens", "lengths"}:
            raise node.refuse(
                f"casts computed features to {onnx.TensorProto.DataType.Name(to)}, which rounds them; run this part outside the model"
            )
        if to not in WIDE and kinds & {"tokens", "lengths"}:
            raise node.refuse(
                f"casts tokens or lengths to {onnx.TensorProto.DataType.Name(to)}, which may not hold them; re-export without this cast"
            )
        return value
    if is_shape(value):
        return value
    assert isinstance(value, np.ndarray)
    target = np.dtype({"f": np.float64, "V": np.float64, "b": np.bool_}.get(kind, np.int64))
    if value.dtype != target:
        node.reserve(value.size)
    return value.astype(target, copy=False)


def permutation(node: Node, rank: int) -> list[int]:
    """Return the axis order of a Transpose, checked."""
    perm = [int(p) for p in node.take("perm", list(range(rank))[::-1])]
    if sorted(perm) != list(range(rank)):
        raise node.damaged(f"perm={perm} does not order the {rank} axes of its input")
    return perm


@operator("Transpose")
def transpose(node: Node, build: Builder) -> Value:
    """Import Transpose."""
    value = node.input(0)
    if isinstance(value, Features):
        perm = permutation(node, value.ids.ndim)
        return Features(value.ids.transpose(perm), tuple(value.axes[p] for p in perm))
    array: Array = value
    return array.transpose(permutation(node, array.ndim))


@axis_rule("Transpose")
def transpose_axes(node: Node, roles: Roles) -> AxisTensor:
    """Permute the axes."""
    value = keep_axes(node, roles)
    return AxisTensor(tuple(value.axes[p] for p in permutation(node, value.rank)), value.sources)


def _axes(node: Node) -> list[int] | None:
    """Return the axes of Squeeze and Unsqueeze: an attribute before opset 13, an input since."""
    if node.has_input(1):
        return node.ints(1, "axes")
    axes: Sequence[int] | None = node.take("axes")
    return None if axes is None else [int(a) for a in axes]


@operator("Squeeze")
def squeeze(node: Node, build: Builder) -> Value:
    """Import Squeeze; without axes, it drops every axis of size 1, baked batch and time included."""
    value = node.input(0)
    given = _axes(node)
    if not isinstance(value, Features):
        array: Array = value
        return np.squeeze(array, None if given is None else tuple(given))
    rank = value.ids.ndim
    if given is None:  # what has size 1 in the graph itself: baked batch and time too
        axes = [
            k
            for k, size in enumerate(value.ids.shape)
            if (1 in build.baked.get(symbol, set()) if (symbol := value.axes[k]) is not None else size == 1)
        ]
    else:
        axes = [node.axis(a, rank) for a in given]
    for axis in axes:
        build.hide_axis(node, value, axis)
    return Features(np.squeeze(value.ids, tuple(axes)), tuple(s for k, s in enumerate(value.axes) if k not in axes))


@axis_rule("Squeeze")
def squeeze_axes(node: Node, roles: Roles) -> AxisTensor:
    """Drop the squeezed axes."""
    value = keep_axes(node, roles)
    given = _axes(node)
    drop = (
        [k for k, a in enumerate(value.axes) if a.size == 1]
        if given is None
        else [node.axis(a, value.rank) for a in given]
    )
    return AxisTensor(tuple(a for k, a in enumerate(value.axes) if k not in drop), value.sources)


def _inserted(node: Node, rank: int) -> list[int]:
    """Return the positions of the new axes in the output of Unsqueeze."""
    given = _axes(node)
    if given is None:
        raise node.damaged("has no axes")
    return sorted(node.axis(a, rank + len(given)) for a in given)


@operator("Unsqueeze")
def unsqueeze(node: Node, build: Builder) -> Value:
    """Import Unsqueeze; the new axes are feature axes."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    positions = _inserted(node, ids.ndim)
    expanded = np.expand_dims(ids, tuple(positions))
    if not isinstance(value, Features):
        return expanded
    axes = list(value.axes)
    for position in positions:
        axes.insert(position, None)
    return Features(expanded, tuple(axes))


@axis_rule("Unsqueeze")
def unsqueeze_axes(node: Node, roles: Roles) -> AxisTensor:
    """Insert new axes of size 1."""
    value = keep_axes(node, roles)
    axes = list(value.axes)
    for position in _inserted(node, value.rank):
        axes.insert(position, roles.made(1, node.name))
    return AxisTensor(tuple(axes), value.sources)
