"""Join what a graph computes from each step by itself: the same windows over x[0], x[1], … become one computation over all steps.

Keras writes ``TimeDistributed`` layers so, and PyTorch ``torch.stack([f(x[:, t]) for t in range(T)], 1)``: a node takes one step, a copy of the
same nodes computes with it, and a stack brings the results of all steps together. Here the copy of the first step alone is left: it reads
batch and time as one axis, and its result is reshaped to both. Whether each sequence of the batch is computed by itself is seen where that
graph is imported, which refuses what mixes them. Graphs of layers that `qrnn.onnx_import.cells` follows by itself stay as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.budget import ELEMENT_WORK, ITEM_WORK, Budget
from qrnn.onnx_import.constants import stored_bytes, to_numpy

WINDOWS = frozenset(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"])
"""Operators of which a graph must have one; without them, `qrnn.onnx_import.cells` joins the steps, with the cells that read them."""

LEAST_OPSET = 10
"""The opset from which on Slice takes its bounds as inputs."""

HOP_WORK = 300
"""Nominal nanoseconds to look behind one Identity."""

MOST_STEPS = 4096
"""The most steps that are joined."""

Column = tuple[str, ...]
"""What the same value is called in each step."""


@dataclass
class _Steps:
    """The columns of a graph's nodes."""

    nodes: Sequence[onnx.NodeProto]
    tensors: dict[str, onnx.TensorProto]
    budget: Budget
    axis: int = 0
    found: dict[Column, bool | None] = field(default_factory=dict)
    """By column: whether it is computed alike from each step, false for constants that are the same in all, and None for all else."""
    operands: dict[Column, list[Column] | None] = field(default_factory=dict)
    """The columns that the nodes of a column read, None where it has none."""
    sources: dict[Column, str] = field(default_factory=dict)
    """The value whose steps a column takes, along `axis`."""

    def __post_init__(self) -> None:
        self.writer = {o: node for node in self.nodes for o in node.output if o}

    def plain(self, name: str) -> str:
        """Return what Identity nodes give on."""
        for _ in range(len(self.nodes)):
            node = self.writer.get(name)
            if node is None or node.op_type != "Identity" or len(node.input) != 1:
                break
            self.budget.spend("following constants", HOP_WORK)
            name = node.input[0]
        return name

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """Return a constant of the graph, None for a computed value."""
        name = self.plain(name)
        node = self.writer.get(name)
        if (
            node is not None
            and node.op_type == "Constant"
            and len(node.attribute) == 1
            and node.attribute[0].HasField("t")
        ):
            return node.attribute[0].t
        return self.tensors.get(name)

    def numbers(self, name: str) -> list[int] | None:
        """Return a short constant of integers."""
        tensor = self.tensor(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.INT64 or stored_bytes(tensor, name) > 8 * 16:
            return None
        return [int(v) for v in to_numpy(tensor, f"constant '{name}'", self.budget).reshape(-1)]

    def same(self, names: Column) -> bool:
        """Return whether all names are those of one constant, or of equal ones."""
        if len({self.plain(name) for name in names}) == 1:
            return self.tensor(names[0]) is not None
        first, *others = (self.tensor(name) for name in names)
        if first is None:
            return False
        self.budget.spend(
            "comparing constants", len(names) * (ITEM_WORK + ELEMENT_WORK * stored_bytes(first, names[0]))
        )
        return all(other is not None and _value(other) == _value(first) for other in others)

    def column(self, names: Column) -> bool | None:
        """Return what a column is, None where its steps are not alike."""
        left = [names]
        while left:
            now = left[-1]
            if now in self.found:
                left.pop()
                continue
            self.budget.spend("comparing steps", len(now) * ITEM_WORK)
            if now not in self.operands:
                self.operands[now] = self._operands(now)
            operands = self.operands[now]
            if operands is None or (missing := [o for o in operands if o not in self.found]) == []:
                self.found[now] = self._known(now) if operands is None else self._joined(operands)
                left.pop()
            else:
                left += missing
        return self.found[names]

    def _known(self, names: Column) -> bool | None:
        """Return what a column without operands is: constants, or the steps of a value in order."""
        if not any(names) or self.same(names):
            return False
        return True if names in self.sources else None

    def _operands(self, names: Column) -> list[Column] | None:
        """Return the columns that the nodes of a column read, None where it has none."""
        if not any(names) or self.same(names):
            return None
        source = self._source(names)
        if source is not None:
            self.sources[names] = source
            return None
        nodes = [self.writer.get(name) for name in names]
        first = nodes[0]
        if first is None or first.domain not in ("", "ai.onnx") or not first.input:
            return None
        if any(a.HasField("g") or a.graphs for a in first.attribute) or first.op_type.startswith("Random"):
            return None
        attributes, place = _attributes(first), list(first.output).index(names[0])
        for node, name in zip(nodes, names, strict=True):
            if node is None or (node.op_type, node.domain, len(node.input)) != (
                first.op_type,
                first.domain,
                len(first.input),
            ):
                return None
            if list(node.output).index(name) != place or _attributes(node) != attributes:
                return None
        return [tuple(node.input[k] for node in nodes if node is not None) for k in range(len(first.input))]

    def _joined(self, operands: Sequence[Column]) -> bool | None:
        kinds = [self.found[operand] for operand in operands]
        return None if None in kinds else any(kinds)

    def _source(self, names: Column) -> str | None:
        """Return the value of which a column is element 0, 1, … along `axis`, without that axis."""
        taken = [self._element(name) for name in names]
        values = {each[0] for each in taken if each is not None}
        in_order = [each[1] for each in taken if each is not None] == list(range(len(names)))
        return values.pop() if len(values) == 1 and in_order and None not in taken else None

    def _element(self, name: str) -> tuple[str, int] | None:
        """Return the value and the place along `axis` that a Gather takes, or a Slice or Split and a Squeeze behind it."""
        node = self.writer.get(name)
        if node is None:
            return None
        given = {a.name: a for a in node.attribute}
        if node.op_type == "Gather" and len(node.input) == 2:
            place, tensor = self.numbers(node.input[1]), self.tensor(node.input[1])
            scalar = tensor is not None and not tensor.dims and place is not None
            here = (given["axis"].i if "axis" in given else 0) == self.axis
            return (node.input[0], place[0]) if scalar and here and place else None
        if node.op_type != "Squeeze" or not node.input:
            return None
        axes = (
            self.numbers(node.input[1])
            if len(node.input) > 1
            else list(given["axes"].ints)
            if "axes" in given
            else None
        )
        before = self.writer.get(node.input[0])
        if axes != [self.axis] or before is None:
            return None
        return self._part(before, node.input[0])

    def _part(self, node: onnx.NodeProto, name: str) -> tuple[str, int] | None:
        """Return the value and the place of its one element along `axis` that a Slice or a Split cuts out."""
        if node.op_type == "Split" and node.input:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            sizes = self.numbers(node.input[1]) if len(node.input) > 1 else [1]
            alone = axis == self.axis and sizes is not None and set(sizes) == {1}
            return (node.input[0], list(node.output).index(name)) if alone else None
        if node.op_type != "Slice" or len(node.input) < 3:
            return None
        starts, ends = self.numbers(node.input[1]), self.numbers(node.input[2])
        axes = self.numbers(node.input[3]) if len(node.input) > 3 and node.input[3] else list(range(len(starts or ())))
        steps = self.numbers(node.input[4]) if len(node.input) > 4 else [1]
        if (
            starts is None
            or ends is None
            or axes is None
            or steps is None
            or set(steps) != {1}
            or self.axis not in axes
        ):
            return None
        bounds = dict(zip(axes, zip(starts, ends, strict=True), strict=True))
        start, end = bounds.pop(self.axis)
        rest = all(a == 0 and b >= np.iinfo(np.int32).max for a, b in bounds.values())
        return (node.input[0], start) if rest and start >= 0 and end == start + 1 else None


def _attributes(node: onnx.NodeProto) -> list[bytes]:
    return sorted(a.SerializeToString(deterministic=True) for a in node.attribute)


def _value(tensor: onnx.TensorProto) -> tuple[object, ...]:
    """Return what makes tensors equal, whatever they are called, as the file stores them."""
    listed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    return tensor.data_type, tuple(tensor.dims), tensor.raw_data, *map(tuple, listed)


def with_joined_steps(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], opset: int, budget: Budget
) -> list[onnx.NodeProto]:
    """Return the nodes of a graph, in order, with what is computed from each step by itself joined; more nodes, where anything is."""
    if opset < LEAST_OPSET or not any(node.op_type in WINDOWS for node in nodes):
        return list(nodes)
    tensors = {t.name: t for t in graph.initializer}
    used = {*tensors, *(o for node in nodes for o in node.output), *(i.name for i in graph.input)}
    made: list[onnx.NodeProto] = []
    every = [_Steps(nodes, tensors, budget, axis) for axis in (0, 1)]
    for node in nodes:
        joined = None
        if node.op_type == "Concat" and 2 <= len(node.input) <= MOST_STEPS:
            axis = next((a.i for a in node.attribute if a.name == "axis"), None)
            joined = _stack(every, node, axis, used) if axis in (0, 1) else None
        made += joined or [node]
    return made


def _stack(every: Sequence[_Steps], node: onnx.NodeProto, axis: int, used: set[str]) -> list[onnx.NodeProto] | None:
    """Return nodes that compute all steps of a stack along ``axis`` at once, in its place; None where it is none of steps alike.

    ``every`` has what takes steps along axis 0, and along axis 1.
    """
    rows, steps = [], every[axis]
    for name in node.input:
        before = steps.writer.get(name)
        if before is None or before.op_type != "Unsqueeze" or not before.input:
            return None
        listed = next((list(a.ints) for a in before.attribute if a.name == "axes"), None)
        axes = steps.numbers(before.input[1]) if len(before.input) > 1 else listed
        if axes != [axis]:
            return None
        rows.append(before.input[0])
    column = tuple(rows)
    for steps in (every[axis], every[1 - axis]):
        if steps.column(column) and column not in steps.sources:
            return _Joined(steps, node.output[0], used).nodes_of(column, axis)
    return None


class _Joined:
    """The nodes of the first step, which read all steps as one axis with the batch."""

    def __init__(self, steps: _Steps, name: str, used: set[str]) -> None:
        self.steps, self.name, self.used = steps, name, used
        self.made: list[onnx.NodeProto] = []
        self.renamed: dict[str, str] = {}
        self._numbers = itertools.count()

    def nodes_of(self, column: Column, axis: int) -> list[onnx.NodeProto]:
        """Return all nodes; the last one gives the stack's value, whose steps lie along ``axis``."""
        order: dict[Column, None] = {}
        left = [(column, False)]
        while left:
            now, done = left.pop()
            if done:
                order[now] = None
            elif now not in order and self.steps.found[now]:
                left.append((now, True))
                left += [(operand, False) for operand in self.steps.operands[now] or ()]
        source = ""
        for now in order:
            if now in self.steps.sources:
                source = self.steps.sources[now]
                self._merge(now[0], source)
            else:
                self._copy(self.steps.writer[now[0]])
        result = self.renamed[column[0]]
        sizes = [self._sizes(source, 0, 1), self._sizes(source, 1, 2)]
        rest = self._sizes(result, 1, None)
        if axis != self.steps.axis:
            flat = self._node("Reshape", [result, self._node("Concat", [*sizes, self._numbers_of(-1)], axis=0)])
            result, sizes = self._node("Transpose", [flat], perm=[1, 0, 2]), sizes[::-1]
        self._node("Reshape", [result, self._node("Concat", [*sizes, rest], axis=0)], self.name)
        return self.made

    def _merge(self, name: str, source: str) -> None:
        if name not in self.renamed:
            shape = self._node("Concat", [self._numbers_of(-1), self._sizes(source, 2, None)], axis=0)
            self.renamed[name] = self._node("Reshape", [source, shape])

    def _copy(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self.renamed:
            return
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.input[:], copied.output[:]
        copied.input.extend(self.renamed.get(name, name) for name in node.input)
        for output in node.output:
            self.renamed[output] = self._new() if output else ""
        copied.output.extend(self.renamed[output] for output in node.output)
        self.made.append(copied)

    def _sizes(self, value: str, start: int, end: int | None) -> str:
        bounds = [self._numbers_of(start), self._numbers_of(np.iinfo(np.int64).max if end is None else end)]
        return self._node("Slice", [self._node("Shape", [value]), *bounds])

    def _numbers_of(self, *values: int) -> str:
        return self._node("Constant", [], value=numpy_helper.from_array(np.array(values, np.int64)))

    def _node(self, op: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or self._new()
        self.made.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def _new(self) -> str:
        while (made := f"{self.name[:200]}/steps/{next(self._numbers)}") in self.used:
            pass
        self.used.add(made)
        return made
