"""Inputs and free sizes that the user fixes: ``--set sr=16000``, ``--set steps=20``, ``--set input[1]=576``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.values import MOST_AXES

MOST_ELEMENTS = 1 << 16
"""The most elements of an input that a value may be given for."""

FixedValue = bool | int | float | Sequence[bool | int | float]

_AXIS = re.compile(r"(?P<input>.+)\[(?P<axis>\d+)\]", re.DOTALL)


def fix(graph: onnx.GraphProto, values: Mapping[str, FixedValue], budget: Budget) -> None:
    """Turn inputs of ``graph`` into constants, and give its free sizes numbers, as ``values`` say by name.

    A name is that of an input, of a free size, or INPUT[AXIS]. Raises `UnsupportedError` for a name that the graph does not have, and a value
    that does not fit.
    """
    constants = {t.name for t in graph.initializer}
    inputs = {i.name: i for i in graph.input if i.name not in constants}
    for name, value in values.items():
        if name in inputs:
            tensor = _tensor(inputs[name], value, budget)
            graph.initializer.append(tensor)
            continue
        axes = _free_axes(inputs, name)
        if not axes:
            raise UnsupportedError(
                f"set {name}={value}: the graph has no input and no free size of that name; its inputs are {_listed(inputs.values())}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UnsupportedError(f"set {name}={value}: {name} is a size, expected a whole number of at least 1")
        for dim in axes:
            dim.dim_value = value
    kept = [i for i in graph.input if i.name not in values]
    del graph.input[:]
    graph.input.extend(kept)


def _free_axes(inputs: Mapping[str, onnx.ValueInfoProto], name: str) -> list[Any]:
    """Return the axes of inputs whose free size has that name, or that INPUT[AXIS] names."""
    found = [
        dim
        for info in inputs.values()
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param == name and not dim.HasField("dim_value")
    ]
    match = _AXIS.fullmatch(name)
    if found or match is None or match["input"] not in inputs or len(match["axis"]) > 2:
        return found
    dims = inputs[match["input"]].type.tensor_type.shape.dim
    axis = int(match["axis"])
    return [dims[axis]] if axis < len(dims) and dims[axis].dim_value <= 0 else []


def _listed(inputs: Any) -> str:
    shown = [f"'{i.name}' {_shape(i)}" for i in inputs]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def _shape(info: onnx.ValueInfoProto) -> str:
    dims = info.type.tensor_type.shape.dim[:MOST_AXES]
    return "[" + ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dims) + "]"


def _tensor(info: onnx.ValueInfoProto, value: FixedValue, budget: Budget) -> onnx.TensorProto:
    """Return the constant that takes an input's place; a free size of it is taken from the value, or else is 1."""
    kind = info.type.tensor_type
    what = f"set {info.name}={value}"
    try:
        given = np.asarray(value)
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except (KeyError, TypeError, ValueError):
        raise UnsupportedError(
            f"{what}: input '{info.name}' does not hold numbers; only inputs of numbers can be fixed"
        ) from None
    if given.dtype.kind not in "biuf" or not np.isfinite(given.astype(np.float64)).all():
        raise UnsupportedError(f"{what}: expected finite numbers, such as 16000, 0.5 or true")
    if dtype.kind in "OUSc" or len(kind.shape.dim) > MOST_AXES:
        raise UnsupportedError(f"{what}: input '{info.name}' does not hold real numbers; only such inputs can be fixed")
    if dtype.kind == "b":
        fits = bool(np.isin(given, (0, 1)).all())
    elif dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = bool((given == np.floor(given)).all() and (given >= bounds.min).all() and (given <= bounds.max).all())
    else:
        fits = True
    if not fits:
        raise UnsupportedError(
            f"{what}: input '{info.name}' has the type {dtype.name}, which does not hold this value; give one that it holds"
        )
    sizes = [int(d.dim_value) if d.dim_value > 0 else 1 for d in kind.shape.dim]
    if len(sizes) == given.ndim:
        sizes = [int(d.dim_value) if d.dim_value > 0 else g for d, g in zip(kind.shape.dim, given.shape, strict=True)]
    elements = int(np.prod(sizes, dtype=object))
    if elements > MOST_ELEMENTS:
        raise UnsupportedError(
            f"{what}: input '{info.name}' has {elements} elements; at most {MOST_ELEMENTS} can be fixed"
        )
    try:
        full = np.broadcast_to(given, sizes)
    except ValueError:
        raise UnsupportedError(
            f"{what}: input '{info.name}' has the shape {_shape(info)}, expected one number or as many as it has elements"
        ) from None
    budget.value(what, elements, scratch=elements)
    return numpy_helper.from_array(np.ascontiguousarray(full.astype(dtype)), info.name)


def sizes_of_data(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the free sizes of features that arrays have for a graph of one step per call, by INPUT[AXIS].

    Arrays are batch first and have their steps along an axis that such a graph's input lacks: [N, T, *features] for an input [N, *features].
    """
    found: dict[str, int] = {}
    constants = {t.name for t in graph.initializer}
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        shape = list(shapes.get(info.name, ()))
        if info.name in constants or len(shape) != len(dims) + 1 or len(dims) < 2:
            continue
        features = list(zip(range(1, len(dims)), shape[2:], strict=True))
        if all(dims[k].dim_value in (0, size) and size > 0 for k, size in features):
            found.update({f"{info.name}[{k}]": int(size) for k, size in features if dims[k].dim_value <= 0})
    return found
