"""Find the shapes of tensors that no shape inference knows, such as those that a loop or a transform gives, by running the graph on data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.hybrid.places import declared_dims
from qrnn.hybrid.runtime import TYPES, open_runtime
from qrnn.onnx_import.parts.extract import extract
from qrnn.onnx_import.parts.whole import Whole

MOST_LEARNED = 64
"""The most tensors whose shapes are found by running the graph."""


def learn_types(whole: Whole, tensors: Iterable[str], given: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Add the types of tensors to those that ``whole`` knows.

    The nodes before them are run on ``given`` arrays, and again with each free size of the inputs changed: a size that changes with it has
    its name where it is the same number. What ONNX Runtime does not run stays unknown.
    """
    unknown = [name for name in tensors if declared_dims(whole.type_of(name)) is None]
    for name in unknown[:MOST_LEARNED]:
        graph = extract(whole, whole.flow.before([name]), [], "shapes").model
        graph.graph.output.append(onnx.ValueInfoProto(name=name))
        session = open_runtime(graph.SerializeToString(), f"the graph before tensor {name!r}")
        inputs = {i.name: i for i in session.get_inputs()}
        if any(i not in given and i not in fixed for i in inputs):
            continue
        free: dict[str, int] = {}
        for i, info in inputs.items():
            for key, size in zip(_keys(i, info.shape), _sizes(info.shape, np.shape(given.get(i, 0))), strict=True):
                if key:
                    free.setdefault(key, size)
        base = _run(session, inputs, given, fixed, free)
        if base is None:
            continue
        dims: list[int | str] = list(base.shape)
        for key, size in free.items():
            changed = next(
                (
                    found
                    for other in (size + 1, size - 1, 2 * size, size // 2)
                    if other > 0
                    and (found := _run(session, inputs, given, fixed, {**free, key: other})) is not None
                    and found.shape != base.shape
                ),
                None,
            )
            if changed is not None and changed.ndim == base.ndim:
                for axis, (a, b) in enumerate(zip(base.shape, changed.shape, strict=True)):
                    if a != b:
                        dims[axis] = key if a == size else f"{name}[{axis}]"
        kind = helper.np_dtype_to_tensor_dtype(base.dtype)
        whole.types[name] = helper.make_tensor_value_info(name, kind, dims)


def _keys(name: str, shape: list[Any]) -> list[str]:
    """Return a name for each size that an input leaves free, and an empty one for others."""
    return [
        "" if isinstance(size, int) else size if isinstance(size, str) and size else f"{name}[{axis}]"
        for axis, size in enumerate(shape)
    ]


def _sizes(shape: list[Any], given: tuple[int, ...]) -> list[int]:
    """Return sizes for an input: those that it declares, and those of data for the others; data of a step per call have one axis more."""
    if len(given) == len(shape) + 1:
        given = (given[0], *given[2:])
    own = given if len(given) == len(shape) else (1,) * len(shape)
    return [size if isinstance(size, int) else number for size, number in zip(shape, own, strict=True)]


def _run(
    session: Any, inputs: Mapping[str, Any], given: Mapping[str, Any], fixed: Mapping[str, Any], free: Mapping[str, int]
) -> np.ndarray[Any, Any] | None:
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for name, info in inputs.items():
        values = np.asarray(given.get(name, fixed.get(name)))
        keys, sizes = _keys(name, info.shape), _sizes(info.shape, np.shape(values))
        shape = [free[key] if key else size for key, size in zip(keys, sizes, strict=True)]
        feeds[name] = np.resize(values, shape).astype(TYPES.get(info.type, np.float32))
    try:
        (result,) = session.run(None, feeds)
    except Exception:  # noqa: BLE001  # its errors have no common base but Exception; another size is tried
        return None
    return np.asarray(result)
