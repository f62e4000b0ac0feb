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
        self._carried: set[str] = set()
        self._appended: dict[str, tuple[str, str, bool]] = {}
        self._parts: dict[str, tuple[str, int, bool]] = {}
        self._stacked: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Return whether a name is that of a known sequence."""
        return any(
            name in names for names in (self._tensors, self._carried, self._appended, self._stacked, self._parts)
        )

    def forget(self, name: str) -> None:
        """Drop what is known of a sequence."""
        for names in (self._tensors, self._appended, self._stacked, self._parts):
            names.pop(name, None)

    def begin(self, name: str) -> None:
        """Take a name as that of a sequence which a loop carries."""
        self._carried.add(name)

    def appended(self, before: str, after: str) -> tuple[str, bool] | None:
        """Return the value that makes the sequence ``after`` of ``before``, which a loop carries, when it is added, and whether in front."""
        sequence, value, front = self._appended.get(after, ("", "", False))
        return (value, front) if sequence == before else None

    def stack(self, name: str, steps: str) -> None:
        """Give a sequence the steps of a value [T, …]."""
        self._stacked[name] = steps

    def empty(self, name: str) -> bool:
        """Return whether a name is that of a sequence without tensors."""
        return self._tensors.get(name) == []

    def alias(self, name: str, other: str) -> None:
        """Give a sequence a second name."""
        if name in self._tensors:
            self._tensors[other] = self._tensors[name]
        if name in self._appended:
            self._appended[other] = self._appended[name]
        if name in self._parts:
            self._parts[other] = self._parts[name]
        if name in self._stacked:
            self._stacked[other] = self._stacked[name]
        if name in self._carried:
            self._carried.add(other)

    def write(self, flat: Writer, node: onnx.NodeProto) -> None:
        """Write out a node of sequences; what is not known is left as it is."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if not self._write(flat, node, attributes):
            follows = next((name for name in node.input if name in flat.left), "")
            flat.refuse(node, {}, "" if follows else _message(node), follows)

    def _write(self, flat: Writer, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        operands, output = list(node.input), node.output[0]
        if operands and operands[0] in self._carried:
            at = flat.facts.value(operands[2]) if len(operands) > 2 and operands[2] else None
            last = not [name for name in operands[2:] if name]
            first = at is not None and at.size == 1 and not at.any()
            if node.op_type != "SequenceInsert" or not (last or first):
                return False
            self._appended[output] = operands[0], operands[1], first
            return True
        if operands and operands[0] in self._parts:
            return _of_split(flat, node, *self._parts[operands[0]])
        if operands and operands[0] in self._stacked:
            return _of_steps(flat, node, self._stacked[operands[0]], attributes)
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
        elif size is not None and (lengths is None or int(lengths) == 1):
            self._parts[output] = source, axis % len(flat.facts.of(source).dims or ()), bool(given) or keep
            return True
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


def _of_split(flat: Writer, node: onnx.NodeProto, source: str, axis: int, kept: bool) -> bool:
    """Write out what reads the sequence of the elements of a value along an axis of free size."""
    output = node.output[0]
    if node.op_type == "SequenceLength":
        shape = flat.names.unique(f"{output}_shape")
        flat.node("Shape", [source], [shape], shape)
        flat.node(
            "Gather", [shape, flat.constant(f"{output}_axis", np.array(axis, np.int64))], [output], node.name, axis=0
        )
        return True
    if node.op_type != "SequenceAt":
        return False
    taken = flat.names.unique(f"{output}_taken") if kept else output
    flat.node("Gather", [source, node.input[1]], [taken], node.name, axis=axis)
    if kept:
        unsqueeze(flat, taken, output, axis)
    return True


def _of_steps(flat: Writer, node: onnx.NodeProto, steps: str, attributes: dict[str, Any]) -> bool:
    """Write out what reads the sequence of the steps [T, …] of a value."""
    dims, output = flat.facts.of(steps).dims, node.output[0]
    if dims is None:
        return False
    if node.op_type == "SequenceAt":
        index = flat.facts.value(node.input[1])
        if index is None or index.size != 1:
            return False
        place = flat.constant(f"{output}_index", np.array(int(index.reshape(-1)[0]), np.int64))
        flat.node("Gather", [steps, place], [output], node.name, axis=0)
        return True
    if node.op_type != "ConcatFromSequence":
        return False
    new = bool(attributes.get("new_axis", 0))
    rank = len(dims) if new else len(dims) - 1
    axis = int(attributes.get("axis", 0))
    if not -rank <= axis < rank:
        return False
    axis %= rank
    if not new:
        if dims[axis + 1] != 1:
            return False
        whole = flat.names.unique(f"{output}_steps")
        squeeze(flat, steps, whole, axis + 1)
        steps = whole
    perm = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
    flat.node("Transpose", [steps], [output], node.name, perm=perm)
    return True


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
