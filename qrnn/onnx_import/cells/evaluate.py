"""Evaluate the nodes of a graph on numbered elements: which elements each value holds, and by which equations.

A batch is one row: the axis of a value that counts sequences has size 1 here, and Shape gives `Evaluation.batch_size` for it. What an operator
of another kind computes is elements without an equation, and what it cannot even be given a shape is `Unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.errors import QrnnError
from qrnn.onnx_import.budget import NODE_WORK, BudgetError
from qrnn.onnx_import.cells.elements import WHAT, Block, Elements, Known, Value, name_of
from qrnn.onnx_import.cells.patterns import Pattern, patterns_of
from qrnn.onnx_import.constants import FOLDABLE, fold, to_numpy
from qrnn.onnx_import.node import DAMAGE
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.values import Array

DYNAMIC = 1_000_003
"""The size that stands for a batch of any size in the arithmetic of shapes: a prime that no model has as a size."""

MOST_ELEMENTS = 1 << 18
"""The most elements of a value that is followed."""


MOST_WEIGHTS = 1 << 24
"""The most numbers of a matrix that is followed."""


@dataclass(frozen=True)
class Unknown:
    """A value whose elements are not known, only what it is computed from."""

    depends: tuple[Array, ...] = ()


Result = Known | Value | Unknown


class NotFollowed(Exception):  # noqa: N818
    """An operator does something that is not followed here; its results are elements without an equation."""


@dataclass
class Call:
    """One node as its rule sees it."""

    evaluation: Evaluation
    op: str
    inputs: list[Result | None]
    attributes: dict[str, Any]
    outputs: list[str]
    names: list[str]
    """Those of the inputs."""

    @property
    def elements(self) -> Elements:
        """Return all elements of the graph."""
        return self.evaluation.elements

    @property
    def home(self) -> str:
        """Return the name of the first result."""
        return self.outputs[0]

    def operand(self, k: int = 0) -> Known | Value:
        """Return operand ``k``."""
        value = self.inputs[k] if k < len(self.inputs) else None
        if value is None or isinstance(value, Unknown):
            raise NotFollowed
        return value

    def given(self, k: int) -> bool:
        """Return whether operand ``k`` is given."""
        return k < len(self.inputs) and self.inputs[k] is not None

    def numbers(self, k: int) -> Array:
        """Return operand ``k``, which must be a constant."""
        value = self.operand(k)
        if isinstance(value, Value):
            raise NotFollowed
        return value.array

    def ints(self, k: int, attribute: str) -> list[int] | None:
        """Return the integers of operand ``k`` or of an attribute; None where neither is given."""
        if self.given(k):
            array = self.numbers(k)
            if array.dtype != np.int64 or array.size > 1 << 16:
                raise NotFollowed
            return [int(v) for v in array.reshape(-1)]
        listed = self.attributes.get(attribute)
        return None if listed is None else [int(v) for v in listed]


Rule = Callable[[Call], Sequence[Result]]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register the rule of some operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


@dataclass
class Evaluation:
    """The values of a graph by name, as far as its nodes have been evaluated."""

    elements: Elements
    opset: int
    batch_size: int = DYNAMIC
    shapes: Callable[[], Mapping[str, Sequence[int | None]]] = dict
    """Gives the inferred shapes of values, None for a size that is not known; asked only where there is no rule for an operator."""
    values: dict[str, Result] = field(default_factory=dict)
    _names: dict[bytes, str] = field(default_factory=dict)
    """The first value that holds elements in this order, by their short name."""
    stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """Constants of the file, which become values when they are first read."""
    writer: dict[str, int] = field(default_factory=dict)
    """The node that computes a value, by its place."""
    _patterns: dict[int, list[Pattern]] = field(default_factory=dict)

    def patterns(self, block: Block) -> list[Pattern]:
        """Return the cells of which a block may be the new hidden state (`patterns.patterns_of`)."""
        if block.start not in self._patterns:
            self._patterns[block.start] = patterns_of(self.elements, block)
        return self._patterns[block.start]

    def value(self, name: str) -> Result:
        """Return a value, `Unknown` for one that nothing computes; large tables are not followed."""
        if name in self.stored and name not in self.values:
            tensor = self.stored[name]
            self.values[name] = Unknown()
            if np.prod([1.0, *tensor.dims]) <= MOST_WEIGHTS:
                try:
                    self.values[name] = Known(to_numpy(tensor, f"initializer '{name}'", self.elements.budget))
                except BudgetError:
                    raise
                except QrnnError:  # who reads it as weights says what is wrong with it
                    pass
        return self.values.get(name, Unknown())

    def set(self, name: str, value: Result) -> None:
        """Give a value its name."""
        self.values[name] = value
        if isinstance(value, Value) and value.ids.size:
            self.elements.budget.value(WHAT, value.ids.size)
            self._names.setdefault(name_of(value.ids), name)

    def named(self, ids: Array) -> str | None:
        """Return the first value that holds just these elements, in this order."""
        return self._names.get(name_of(ids))

    def input(self, name: str, dims: Sequence[int | None], batch: int | None) -> None:
        """Make an input's elements; ``batch`` is the axis of its batch."""
        self.set(name, self.leaf(name, dims, batch, ()))

    def leaf(self, name: str, dims: Sequence[int | None], batch: int | None, depends: tuple[Array, ...]) -> Result:
        """Return new elements of that shape without an equation."""
        shape = [1 if k == batch else d for k, d in enumerate(dims)]
        sizes = [d for d in shape if d is not None]
        if len(sizes) < len(shape) or not 0 < np.prod([1.0, *sizes]) <= MOST_ELEMENTS:
            return Unknown(depends)
        ids = self.elements.leaf(int(np.prod(sizes, dtype=np.int64)), name, depends)
        return Value(ids.reshape(sizes), batch)

    def run(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Evaluate nodes in order; `BudgetError` where they cost too much."""
        for place, node in enumerate(nodes):
            self.elements.budget.spend(WHAT, NODE_WORK)
            inputs = [self.value(name) if name else None for name in node.input]
            results = self._followed(node, inputs)
            for k, name in enumerate(node.output):
                if name:
                    self.writer[name] = place
                    self.set(name, results[k] if k < len(results) else self._opaque(node, name, inputs))

    def _followed(self, node: onnx.NodeProto, inputs: list[Result | None]) -> Sequence[Result]:
        """Return the results of a node by the rule of its operator, none where there is none that fits."""
        if node.domain not in DEFAULT_DOMAINS:
            return ()
        try:
            found = RULES.get(node.op_type)
            if found is not None:
                attributes = {a.name: self._attribute(a) for a in node.attribute}
                return found(Call(self, node.op_type, inputs, attributes, list(node.output), list(node.input)))
            known = [i.array if isinstance(i, Known) else None for i in inputs]
            plain = all(i is None or (isinstance(i, Known) and i.batch is None) for i in inputs)
            if node.op_type in FOLDABLE and plain:
                return [Known(a) for a in fold(node, self.opset, known, self.elements.budget)]
        except BudgetError:
            raise
        except (NotFollowed, QrnnError, *DAMAGE):
            pass
        return ()

    def _attribute(self, attribute: onnx.AttributeProto) -> Any:
        if attribute.type == onnx.AttributeProto.TENSOR:
            return to_numpy(attribute.t, f"attribute {attribute.name}", self.elements.budget)
        if attribute.HasField("g") or attribute.graphs:
            raise NotFollowed
        value = helper.get_attribute_value(attribute)
        return value.decode() if isinstance(value, bytes) else value

    def _opaque(self, node: onnx.NodeProto, name: str, inputs: list[Result | None]) -> Result:
        """Return a result as elements without an equation."""
        if any(a.HasField("g") or a.graphs for a in node.attribute):  # its body may read any value
            return Unknown((np.arange(self.elements.count),))
        depends: list[Array] = []
        for value in inputs:
            if isinstance(value, Value):
                depends.append(value.ids.reshape(-1))
            elif isinstance(value, Unknown):
                depends += value.depends
        if not depends:
            return Unknown()
        shapes = self.shapes()
        dims = list(shapes.get(name, ()))
        if name not in shapes:
            return Unknown((np.unique(np.concatenate(depends)),))
        free = [k for k, d in enumerate(dims) if d is None]
        batch = free[0] if len(free) == 1 else None
        if not free and self.batch_size != DYNAMIC:
            batch = next((k for k, d in enumerate(dims) if d == self.batch_size), None)
        return self.leaf(name, dims, batch, tuple(depends))


def inferred(
    nodes: Sequence[onnx.NodeProto],
    opset: int,
    inputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> dict[str, list[int | None]]:
    """Return the shapes of values that ONNX infers; large constants take part by their shapes alone."""
    small, infos = [], list(inputs)
    kept = [n for n in nodes if not any(a.HasField("g") or a.graphs for a in n.attribute)]
    tables = {n.output[0]: a.t for n in kept for a in n.attribute if n.op_type == "Constant" and a.HasField("t")}
    large = {name: t for name, t in tables.items() if np.prod([1.0, *t.dims]) > 256}
    for name, tensor in large.items():
        infos.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    kept = [n for n in kept if n.output[0] not in large]
    for tensor in constants:
        if np.prod([1.0, *tensor.dims]) <= 256:
            small.append(tensor)
        else:
            infos.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    graph = helper.make_graph(kept, "shapes", infos, [], initializer=small)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    except DAMAGE:
        return {}
    return {
        info.name: [int(d.dim_value) if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
        for info in found
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")
    }
