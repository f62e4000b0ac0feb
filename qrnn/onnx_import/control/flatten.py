"""Write a graph with control flow out as plain nodes: the branches that run, and loops that run a cell as recurrent nodes.

Names inside of branches and bodies are kept where they are free, and get a number where they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from qrnn.errors import ModelFileError
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.control.causes import cause
from qrnn.onnx_import.control.reversals import reversed_of, reverses
from qrnn.onnx_import.control.sequences import SEQUENCE_OPERATORS, Sequences, unsqueeze
from qrnn.onnx_import.control.writer import Scope, Writer, renamed
from qrnn.onnx_import.node import DAMAGE
from qrnn.onnx_import.problems import CONTROL_FLOW, DEFAULT_DOMAINS, Problems

LARGEST_END = (1 << 31) - 1
"""An end of a Slice that lies behind every axis."""

LoopWriter = Callable[["Flattener", onnx.NodeProto, Scope], None]


@dataclass
class Flattener(Writer):
    """A writer that goes into branches, and into loops by ``loops``, one function for each operator."""

    loops: Mapping[str, LoopWriter] = field(default_factory=dict)
    sequences: Sequences = field(default_factory=Sequences)
    ends: dict[str, str] = field(default_factory=dict)
    """The last element [N, …] of a value [T, N, …] whose steps run backward, by its name."""

    def write(self, nodes: Iterable[onnx.NodeProto], scope: Scope) -> None:
        """Write nodes out, in order."""
        for node in nodes:
            standard = node.domain in DEFAULT_DOMAINS
            if standard and node.op_type == "If":
                self._branch(node, scope)
            elif standard and node.op_type in self.loops:
                self.loops[node.op_type](self, node, scope)
            elif node.op_type == "Identity" and self.sequences.has(scope.get(node.input[0], node.input[0])):
                self.sequences.alias(*(scope.get(name, name) for name in (node.input[0], node.output[0])))
            elif standard and node.op_type in SEQUENCE_OPERATORS:
                self.sequences.write(self, renamed(node, scope))
            else:
                self._plain(renamed(node, scope))

    def _plain(self, node: onnx.NodeProto) -> None:
        """Add a node without control flow.

        One that takes the last element of a value takes it from `ends`, where that has it; one that reverses what was reversed gives that.
        """
        backward = node.op_type == "Slice" and len(node.input) == 5 and self.facts.number(node.input[4]) == -1
        axis = reverses(self, node) if backward or node.op_type == "ReverseSequence" else None
        source = reversed_of(self, node.input[0], axis) if axis is not None else None
        if source is not None:
            self.node("Identity", [source], node.output, node.name)
            return
        end = self.ends.get(node.input[0]) if node.input else None
        if end is not None and node.op_type == "Gather" and _is_last(self, node):
            self.node("Identity", [end], node.output, node.name)
        elif end is not None and node.op_type == "Slice" and _is_last(self, node):
            unsqueeze(self, end, node.output[0], 0)
        else:
            self.emit(node)

    def _branch(self, node: onnx.NodeProto, scope: Scope) -> None:
        condition = scope.get(node.input[0], node.input[0]) if node.input else ""
        chosen = self.facts.number(condition)
        branches = {a.name: a.g for a in node.attribute}
        where = f"node '{node.name or next(iter(node.output), '')}' (If)"
        if not {"then_branch", "else_branch"} <= branches.keys():
            raise ModelFileError(f"{where}: has no then_branch and else_branch; the file is damaged")
        if not isinstance(chosen, bool | np.bool_):
            why, follows = cause(self.facts, condition, self.graph, self.left)
            self.refuse(node, scope, f"{where}: {why}" if why else "", follows)
            return
        graph = branches["then_branch" if chosen else "else_branch"]
        if len(graph.output) != len(node.output):
            raise ModelFileError(
                f"{where}: its branch has {len(graph.output)} outputs and the node {len(node.output)}; the file is damaged"
            )
        inner = self.inner_scope(graph, scope)
        written = {output for n in graph.node for output in n.output if output}
        left = []
        for info, output in zip(graph.output, node.output, strict=True):
            outer = scope.get(output, output)
            if not output:
                continue
            if info.name in written:
                written.discard(info.name)
                inner[info.name] = outer
            else:
                left.append((inner.get(info.name, info.name), outer))
        self.write(graph.node, inner)
        for source, outer in left:
            self.move(source, outer)

    def move(self, source: str, output: str) -> None:
        """Give a value, or a sequence, a second name."""
        if self.sequences.has(source):
            self.sequences.alias(source, output)
        else:
            self.node("Identity", [source], [output], output)


def _is_last(flat: Writer, node: onnx.NodeProto) -> bool:
    """Return whether a Gather or a Slice takes the last element of axis 0, and nothing else."""
    values = [flat.facts.value(name) if name else None for name in node.input[1:]]
    numbers = [int(v.reshape(-1)[0]) if v is not None and v.size == 1 else None for v in values]
    if node.op_type == "Gather":
        shape = flat.facts.of(node.input[1]).dims
        return numbers == [-1] and shape == () and all(a.i == 0 for a in node.attribute if a.name == "axis")
    return (
        numbers[:1] == [-1]
        and len(numbers) > 1
        and (numbers[1] or 0) >= LARGEST_END
        and numbers[2:] in ([], [0], [0, 1])
    )


def holds_control_flow(graph: onnx.GraphProto) -> bool:
    """Return whether a graph has nodes of control flow, or of sequences."""
    return any(n.domain in DEFAULT_DOMAINS and n.op_type in CONTROL_FLOW | SEQUENCE_OPERATORS for n in graph.node)


def without_control_flow(
    graph: onnx.GraphProto, opset: int, budget: Budget, problems: Problems, loops: Mapping[str, LoopWriter]
) -> tuple[onnx.GraphProto, list[str]]:
    """Return the graph with its control flow written out, as far as it can be, and notes on what was decided.

    What cannot be written out is left, and said by ``problems`` if an output depends on it.
    """
    if not holds_control_flow(graph):
        return graph, []
    flat = Flattener(graph, opset, budget, problems, loops=loops)
    try:
        flat.write(graph.node, {})
    except DAMAGE as error:
        raise ModelFileError(
            f"graph '{graph.name}': its control flow cannot be read: {error}; the file is damaged"
        ) from error
    plain = onnx.GraphProto(name=graph.name)
    budget.hold("writing out control flow", sum(t.ByteSize() for t in graph.initializer))
    plain.input.extend(graph.input)
    plain.output.extend(graph.output)
    plain.initializer.extend(graph.initializer)
    plain.initializer.extend(flat.added)
    plain.node.extend(flat.nodes)
    return plain, flat.notes
