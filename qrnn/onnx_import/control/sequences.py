"""Sequences whose number of tensors is known: their tensors are named one by one, and no sequence is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.onnx_import.control.writer import Writer

SEQUENCE_OPERATORS = frozenset(
    [
        *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        *("SequenceLength", "SplitToSequence"),
    ]
)

MOST_TENSORS = 1024
"""The most tensors of a sequence."""


class Sequences:
    """The tensors of each sequence, by the sequence's name."""

    def __init__(self) -> None:
        self._tensors: dict[str, list[str]] = {}

    def has(self, name: str) -> bool:
        """Return whether a name is that of a known sequence."""
        return name in self._tensors

    def empty(self, name: str) -> bool:
        """Return whether a name is that of a sequence without tensors."""
        return self._tensors.get(name) == []

    def alias(self, name: str, other: str) -> None:
        """Give a sequence a second name."""
        self._tensors[other] = self._tensors[name]

    def write(self, flat: Writer, node: onnx.NodeProto) -> None:
        """Write out a node of sequences; what is not known is left as it is."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if not self._write(flat, node, attributes):
            flat.refuse(node, {}, _message(node))

    def _write(self, flat: Writer, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        operands, output = list(node.input), node.output[0]
        given = self._tensors.get(operands[0]) if operands else None
        match node.op_type:
            case "SequenceConstruct":
                made = operands
            case "SequenceEmpty":
                made = []
            case "SplitToSequence":
                return self._split(flat, node, attributes)
            case "SequenceLength" if given is not None:
                flat.node(
                    "Identity", [flat.constant(f"{output}_length", np.array(len(given), np.int64))], [output], node.name
                )
                return True
            case "ConcatFromSequence" if given:
                return _joined(flat, node, given, attributes)
            case "SequenceAt" | "SequenceInsert" | "SequenceErase" if given is not None:
                place = _place(flat, node, len(given))
                if place is None:
                    return False
                if node.op_type == "SequenceAt":
                    flat.node("Identity", [given[place]], [output], node.name)
                    return True
                new = [operands[1]] if node.op_type == "SequenceInsert" else []
                made = [*given[:place], *new, *given[place + (not new) :]]
            case _:
                return False
        if len(made) > MOST_TENSORS:
            return False
        flat.budget.spend(f"sequence '{output}'", 100 * len(made))
        self._tensors[output] = made
        return True

    def _split(self, flat: Writer, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        axis, keep = int(attributes.get("axis", 0)), bool(attributes.get("keepdims", 1))
        source, output = node.input[0], node.output[0]
        size = flat.facts.of(source).size(axis)
        given = node.input[1] if len(node.input) > 1 else ""
        lengths = flat.facts.value(given) if given else None
        if given and lengths is None:
            return False
        if lengths is not None and lengths.ndim == 1:
            sizes = [int(n) for n in lengths]
        elif isinstance(size, int):
            each = int(lengths) if lengths is not None else 1
            if each < 1 or size // each > MOST_TENSORS:
                return False
            sizes = [min(each, size - first) for first in range(0, size, each)]
        else:
            return False
        if not sizes or len(sizes) > MOST_TENSORS or min(sizes) < 0:
            return False
        parts = [flat.names.unique(f"{output}_{k}") for k in range(len(sizes))]
        if flat.opset >= 13:
            flat.node(
                "Split",
                [source, flat.constant(f"{output}_sizes", np.array(sizes, np.int64))],
                parts,
                node.name,
                axis=axis,
            )
        else:
            flat.node("Split", [source], parts, node.name, axis=axis, split=sizes)
        if not given and not keep:
            whole, parts = parts, [flat.names.unique(f"{output}_{k}_squeezed") for k in range(len(sizes))]
            for a, b in zip(whole, parts, strict=True):
                squeeze(flat, a, b, axis)
        self._tensors[output] = parts
        return True


def _place(flat: Writer, node: onnx.NodeProto, count: int) -> int | None:
    """Return which tensor of a sequence of ``count`` a node means, None where that is not known or is none of them."""
    inserts = node.op_type == "SequenceInsert"
    k = 2 if inserts else 1
    if len(node.input) <= k or not node.input[k]:
        return count if inserts else count - 1 if count and node.op_type == "SequenceErase" else None
    number = flat.facts.value(node.input[k])
    if number is None or number.size != 1:
        return None
    place, last = int(number.reshape(-1)[0]), count if inserts else count - 1
    place += count if place < 0 else 0
    return place if 0 <= place <= last else None


def _joined(flat: Writer, node: onnx.NodeProto, tensors: list[str], attributes: dict[str, Any]) -> bool:
    axis, output = int(attributes.get("axis", 0)), node.output[0]
    if attributes.get("new_axis", 0):
        parts = [flat.names.unique(f"{output}_{k}") for k in range(len(tensors))]
        for a, b in zip(tensors, parts, strict=True):
            unsqueeze(flat, a, b, axis)
        tensors = parts
    flat.node("Concat", tensors, [output], node.name, axis=axis)
    return True


def squeeze(flat: Writer, source: str, output: str, axis: int) -> None:
    """Drop an axis of size 1."""
    _moved(flat, "Squeeze", source, output, axis)


def unsqueeze(flat: Writer, source: str, output: str, axis: int) -> None:
    """Make an axis of size 1."""
    _moved(flat, "Unsqueeze", source, output, axis)


def _moved(flat: Writer, op: str, source: str, output: str, axis: int) -> None:
    if flat.opset >= 13:
        flat.node(op, [source, flat.constant(f"{output}_axes", np.array([axis], np.int64))], [output], output)
    else:
        flat.node(op, [source], [output], output, axes=[axis])


def _message(node: onnx.NodeProto) -> str:
    where = f"node '{node.name or node.output[0]}' ({node.op_type})"
    return f"{where}: how many tensors its sequence has, or which of them it takes, is not known before it runs; re-export with tensors"
