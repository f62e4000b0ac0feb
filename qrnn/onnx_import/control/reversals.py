"""Reversals of whole axes: those that a loop needs, and those that undo one another."""

from __future__ import annotations

import numpy as np
import onnx

from qrnn.onnx_import.control.writer import Writer

FARTHEST = 1 << 31
"""A bound that lies before the first element of any axis, counted from the end."""


def reverse(flat: Writer, name: str, axis: int) -> str:
    """Return a value with one axis reversed: what was reversed before, where the value is a reversal along this axis."""
    source = reversed_of(flat, name, axis)
    if source is not None:
        return source
    made = flat.names.unique(f"{name}_reversed")
    ends = {"from": -1, "to": -FARTHEST, "axis": axis, "step": -1}
    bounds = [flat.constant(f"{made}_{what}", np.array([n], np.int64)) for what, n in ends.items()]
    flat.node("Slice", [name, *bounds], [made], made)
    return made


def reversed_of(flat: Writer, name: str, axis: int) -> str | None:
    """Return the value of which ``name`` is the reversal along an axis, None where it is none; axes may have changed places since."""
    node = flat.facts.writer.get(name)
    if node is None:
        return None
    if node.op_type == "Identity":
        return reversed_of(flat, node.input[0], axis)
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        if perm is None or not 0 <= axis < len(perm):
            return None
        source = reversed_of(flat, node.input[0], perm[axis])
        if source is None:
            return None
        made = flat.names.unique(f"{source}_transposed")
        flat.node("Transpose", [source], [made], made, perm=perm)
        return made
    return node.input[0] if reverses(flat, node) == axis else None


def reverses(flat: Writer, node: onnx.NodeProto) -> int | None:
    """Return the axis that a node reverses as a whole, None for any other node."""
    dims = flat.facts.of(node.input[0]).dims if node.input else None
    if dims is None:
        return None
    if node.op_type == "Slice" and len(node.input) == 5:
        values = [flat.facts.value(i) for i in node.input[1:]]
        if any(v is None or v.size != 1 for v in values):
            return None
        start, end, axis, step = (int(v.reshape(-1)[0]) for v in values if v is not None)
        size = dims[axis] if -len(dims) <= axis < len(dims) else None
        begins = start == -1 or start >= FARTHEST - 1 or (isinstance(size, int) and start >= size - 1)
        ends = end <= -FARTHEST + 1 or (isinstance(size, int) and end < -size)
        return axis % len(dims) if step == -1 and begins and ends and size is not None else None
    if node.op_type == "ReverseSequence" and len(node.input) == 2:
        attributes = {a.name: int(a.i) for a in node.attribute}
        batch, axis = attributes.get("batch_axis", 1), attributes.get("time_axis", 0)
        return (
            axis if {batch, axis} == {0, 1} and len(dims) > 1 and _all_steps(flat, node.input[1], dims[axis]) else None
        )
    return None


def _all_steps(flat: Writer, lengths: str, steps: object) -> bool:
    """Return whether lengths of sequences all are the number of steps."""
    known = flat.facts.of(lengths).value
    if known is not None:
        return bool(known.size) and all(n is steps or n == steps for n in known.reshape(-1))
    node = flat.facts.writer.get(lengths)
    for _ in range(8):
        if node is None or node.op_type not in ("Expand", "Tile", "Cast", "Identity", "Unsqueeze", "Reshape"):
            return False
        number = flat.facts.number(node.input[0])
        if number is not None:
            return number is steps or bool(number == steps)
        node = flat.facts.writer.get(node.input[0])
    return False
