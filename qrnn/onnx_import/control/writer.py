"""What a graph with control flow is written out to: plain nodes, constants, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.budget import ITEM_WORK, Budget
from qrnn.onnx_import.control.facts import Facts
from qrnn.onnx_import.problems import Problems
from qrnn.onnx_import.tensor_maker import Names

Scope = Mapping[str, str]
"""Names inside of a graph → the names that they have where it is written out."""


@dataclass
class Writer:
    """The plain nodes that ``graph`` becomes, and what is known of their values."""

    graph: onnx.GraphProto
    opset: int
    budget: Budget
    problems: Problems
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    added: list[onnx.TensorProto] = field(default_factory=list)
    """Constants that were made."""
    notes: list[str] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    left: set[str] = field(default_factory=set)
    """The outputs of nodes that could not be written out."""

    def __post_init__(self) -> None:
        self.facts = Facts(self.opset, self.budget)
        for tensor in self.graph.initializer:
            self.names.unique(tensor.name)
            self.facts.constant(tensor.name, tensor)
        for info in self.graph.input:
            if self.facts.tensor(info.name) is None:
                self.names.unique(info.name)
                self.facts.declare(info)
        for node in self.graph.node:
            for output in filter(None, node.output):
                self.names.unique(output)

    def emit(self, node: onnx.NodeProto) -> None:
        """Add a plain node."""
        self.nodes.append(node)
        self.facts.wrote(node)

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: object) -> None:
        """Make a plain node, and add it."""
        self.budget.spend("writing out control flow", ITEM_WORK * (len(inputs) + len(outputs) + 4))
        self.emit(helper.make_node(op, inputs, outputs, name=name, **attributes))

    def constant(self, name: str, values: object) -> str:
        """Make a constant, and return its name."""
        array = np.asarray(values)
        self.budget.value(f"constant '{name}'", array.size, scratch=array.size)
        unique = self.names.unique(name)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), unique)
        self.added.append(tensor)
        self.facts.constant(unique, tensor)
        return unique

    def inner_scope(self, graph: onnx.GraphProto, scope: Scope) -> dict[str, str]:
        """Return the scope of a graph inside this one, whose constants become constants of the whole."""
        inner = dict(scope)
        self.budget.spend("writing out control flow", ITEM_WORK * (len(scope) + 1))
        if graph.sparse_initializer:
            raise UnsupportedError(
                f"graph '{graph.name}' has {len(graph.sparse_initializer)} sparse initializers; re-export with dense weights"
            )
        for tensor in graph.initializer:
            inner[tensor.name] = self.names.unique(tensor.name)
            kept = tensor
            if inner[tensor.name] != tensor.name:
                self.budget.hold(f"constant '{tensor.name}'", tensor.ByteSize())
                kept = onnx.TensorProto()
                kept.CopyFrom(tensor)
                kept.name = inner[tensor.name]
            self.added.append(kept)
            self.facts.constant(kept.name, kept)
        for node in graph.node:
            for output in node.output:
                if output:
                    inner[output] = self.names.unique(output)
        return inner

    def refuse(self, node: onnx.NodeProto, scope: Scope, message: str, follows: str = "") -> None:
        """Leave a node of control flow; ``message`` is said if an output of the model depends on it.

        The node reads nothing any more but the value that it ``follows``, the output of a node that was left too.
        """
        kept = renamed(node, scope)
        if kept is node:
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
        del kept.input[:]
        kept.input.extend(filter(None, [follows]))
        self.left.update(kept.output)
        self.problems.explain(kept, message)
        self.nodes.append(kept)


def renamed(node: onnx.NodeProto, scope: Scope) -> onnx.NodeProto:
    """Return a node with the names of a scope; the names inside of the graphs that it holds are left."""
    if not any(scope.get(name, name) != name for names in (node.input, node.output) for name in names):
        return node
    copy = onnx.NodeProto(name=node.name, op_type=node.op_type, domain=node.domain, overload=node.overload)
    copy.input.extend(scope.get(name, name) for name in node.input)
    copy.output.extend(scope.get(name, name) for name in node.output)
    copy.attribute.extend(node.attribute)
    return copy
