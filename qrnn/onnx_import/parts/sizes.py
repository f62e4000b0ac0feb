"""Read sizes from another tensor: those of a tensor on the far side of a cut, from one on this side with sizes of the same names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.parts.whole import Whole

NOT_READ = 1
"""What stands for a size that no node reads."""


def without_tensor(whole: Whole, node: onnx.NodeProto, there: Iterable[str]) -> list[onnx.NodeProto] | None:
    """Return nodes that give what the Shape node ``node`` does, from sizes of the tensors that are ``there``; None where they do not have them.

    Two sizes are the same one where the file or ONNX's shape inference gives them one name.
    """
    shape = _dims(whole, node.input[0])
    if node.op_type != "Shape" or shape is None:
        return None
    at = {a.name: a.i for a in node.attribute}
    wanted = range(len(shape))[slice(at.get("start", 0), at.get("end", len(shape)))]
    used = _read_places(whole, node, len(wanted))
    homes: dict[str, tuple[str, int]] = {}
    for name in sorted(there):
        for axis, dim in enumerate(_dims(whole, name) or ()):
            if isinstance(dim, str) and dim:
                homes.setdefault(dim, (name, axis))
    prefix = f"{node.output[0]}/sizes"
    nodes: list[onnx.NodeProto] = []
    pieces: list[str] = []
    for place, axis in enumerate(wanted):
        dim = shape[axis] if place in used else NOT_READ
        piece = f"{prefix}/{place}"
        if isinstance(dim, int):
            nodes.append(_constant(piece, dim))
        elif dim in homes:
            name, home = homes[dim]
            nodes += [
                helper.make_node("Shape", [name], [f"{piece}/of"], name=f"{piece}/of"),
                _constant(f"{piece}/axis", home),
                helper.make_node("Gather", [f"{piece}/of", f"{piece}/axis"], [piece], name=piece, axis=0),
            ]
        else:
            return None
        pieces.append(piece)
    if not pieces:
        return None
    nodes.append(helper.make_node("Concat", pieces, [node.output[0]], name=prefix, axis=0))
    return nodes


def _constant(name: str, number: int) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array([number], np.int64), name)
    return helper.make_node("Constant", [], [name], name=name, value=value)


def _dims(whole: Whole, name: str) -> list[int | str] | None:
    """Return the sizes of a tensor: numbers, names of free ones, and an empty name for one of which nothing is known."""
    info = whole.types.get(name)
    if info is None or not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return None
    return [int(d.dim_value) if d.dim_value > 0 else d.dim_param for d in info.type.tensor_type.shape.dim]


def _read_places(whole: Whole, node: onnx.NodeProto, count: int) -> set[int]:
    """Return the places of a Shape's result that other nodes read."""
    flow = whole.flow
    used: set[int] = set()
    for k in flow.readers.get(node.output[0], ()):
        reader = flow.nodes[k]
        index = _value(whole, reader.input[1]) if reader.op_type == "Gather" and len(reader.input) > 1 else None
        if index is None or reader.input[0] != node.output[0]:
            return set(range(count))
        used.update(int(i) % count for i in index.reshape(-1) if -count <= int(i) < count)
    return used or set(range(count))


def _value(whole: Whole, name: str) -> np.ndarray | None:
    """Return a constant's value, where it is written in the file as it is."""
    flow = whole.flow
    tensor = whole.initializers.get(name)
    if tensor is None and name in flow.maker and flow.nodes[flow.maker[name]].op_type == "Constant":
        tensor = next((a.t for a in flow.nodes[flow.maker[name]].attribute if a.name == "value"), None)
    return None if tensor is None else numpy_helper.to_array(tensor)
