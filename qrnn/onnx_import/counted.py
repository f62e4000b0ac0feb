"""The number of a step that counts from the lengths of sequences: the index of each sequence's own last step is its length less 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.onnx_import.builder import Builder, NodeLengths
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import TIME, Features


def through(node: Node, build: Builder) -> Features | None:
    """Return lengths, or numbers of steps, plus or less a constant, as numbers of steps; None for other operands."""
    if node.op not in ("Add", "Sub") or len(node.inputs) != 2:
        return None
    a, b = node.inputs
    value, constant = (a, b) if isinstance(a, Features) else (b, a)
    if not isinstance(value, Features) or not isinstance(constant, np.ndarray) or constant.dtype != np.int64:
        return None
    found = counts_of(build, value)
    if found is None or constant.size != 1 or (node.op == "Sub" and value is b):
        return None
    name, offset = found
    offset += int(constant.item()) if node.op == "Add" else -int(constant.item())
    tensor = build.new_tensor(f"{name}{offset:+d}", True, value.ids.size, False, "index")
    build.counts[tensor.start] = name, offset
    return Features(tensor.ids.reshape(value.ids.shape), value.axes)


def counts_of(build: Builder, value: Any) -> tuple[str, int] | None:
    """Return the graph input of lengths that all elements of a value are, and what was added to it; None for another value."""
    if not isinstance(value, Features) or not value.ids.size:
        return None
    found = set()
    for part in build.book.parts(value.ids):
        tensor = part.tensor
        if tensor.kind not in ("lengths", "index"):
            return None
        found.add((tensor.name, 0) if tensor.kind == "lengths" else build.counts[tensor.start])
    return found.pop() if len(found) == 1 else None


def last_by_lengths(node: Node, build: Builder, value: Features, indices: Features) -> Features:
    """Return each sequence's own last step of ``value``, where ``indices`` are the lengths less 1; TIME becomes an axis of size 1."""
    found = counts_of(build, indices)
    if found is None or found[1] != -1 or TIME not in value.axes:
        text = "computed numbers" if found is None else f"'{found[0]}' {found[1]:+d}"
        raise node.refuse(
            f"takes steps of {value.describe()} by {text}; only the lengths of the sequences less 1 can be, which is the last step of each"
        )
    build.lengths_of.append(NodeLengths(node.where, found[0], False))
    last = build.last_step(node, value)
    build.own_last.update(part.tensor.name for part in build.book.parts(last.ids))
    return last
