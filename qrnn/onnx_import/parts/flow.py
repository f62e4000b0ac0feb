"""Who makes and who reads each tensor of a graph's top level, with what the bodies of control flow read from outside."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import onnx

from qrnn.errors import UnsupportedError

OF_SIZES = frozenset(["Shape", "Size"])
"""The operators that read a tensor's sizes and none of its values."""

MOST_COMPARED = 4096
"""The most names that a misspelled one is compared with."""


def reads(node: onnx.NodeProto) -> list[str]:
    """Return the names that a node reads: its inputs, and what the graphs in its attributes read from outside."""
    names = [name for name in node.input if name]
    for graph in graphs_of(node):
        names += sorted(outer_names(graph))
    return list(dict.fromkeys(names))


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def outer_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names that the graph of a branch or a body reads and does not make. Its nesting is bounded by `check_structure`."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    own |= {t.values.name for t in graph.sparse_initializer}
    outer: set[str] = set()
    for node in graph.node:
        outer.update(name for name in reads(node) if name not in own)
        own.update(node.output)
    outer.update(o.name for o in graph.output if o.name not in own)
    return outer


def inner_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that the graphs in a node's attributes make."""
    for graph in graphs_of(node):
        for inner in graph.node:
            yield from filter(None, inner.output)
            yield from inner_names(inner)


class Flow:
    """The nodes of a graph's top level by what they make and read.

    Nodes that depend on no graph input, or on nothing but sizes of tensors, are `copied`: every part that needs one has its own.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes: Sequence[onnx.NodeProto] = graph.node
        self.constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
        self.inputs = [i.name for i in graph.input if i.name not in self.constants]
        self.outputs = [o.name for o in graph.output]
        self.reads = [reads(node) for node in self.nodes]
        self.maker = {name: k for k, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        for k, names in enumerate(self.reads):
            for name in names:
                self.readers.setdefault(name, []).append(k)
        self._given = frozenset(self.inputs)
        self._live = self._needed(self.outputs)
        self.copied = self._copied()
        self.live = sorted(self._live - self.copied)
        """The nodes that the outputs depend on and that are no copies, in order."""
        self._values = [[name for name in names if self.moves(name)] for names in self.reads]

    def _needed(self, names: Iterable[str]) -> set[int]:
        found: set[int] = set()
        left = [self.maker[name] for name in names if name in self.maker]
        while left:
            k = left.pop()
            if k not in found:
                found.add(k)
                left += [self.maker[name] for name in self.reads[k] if name in self.maker]
        return found

    def _copied(self) -> set[int]:
        found: set[int] = set()
        for k, node in enumerate(self.nodes):
            of_sizes = node.op_type in OF_SIZES and node.domain in ("", "ai.onnx")
            if of_sizes or all(
                n not in self._given and (n not in self.maker or self.maker[n] in found) for n in self.reads[k]
            ):
                found.add(k)
        return found

    def moves(self, name: str) -> bool:
        """Return whether a tensor holds values that come from graph inputs, so that it can lie between two parts."""
        return name in self._given or (name in self.maker and self.maker[name] not in self.copied)

    def values_read(self, k: int) -> list[str]:
        """Return the tensors that a node reads, constants and sizes left out."""
        return self._values[k]

    def behind(self, names: Iterable[str]) -> set[int]:
        """Return the nodes that depend on some of the tensors."""
        reached = set(names)
        found: set[int] = set()
        for k in self.live:
            if any(name in reached for name in self.reads[k]):
                found.add(k)
                reached.update(self.nodes[k].output)
        return found

    def before(self, names: Iterable[str], stop: Iterable[str] = ()) -> set[int]:
        """Return the nodes that some of the tensors depend on, without those behind which a tensor of ``stop`` stands."""
        ends = set(stop)
        found: set[int] = set()
        left = list(names)
        while left:
            k = self.maker.get(left.pop())
            if k is None or k in found or k in self.copied:
                continue
            found.add(k)
            left += [name for name in self.reads[k] if name not in ends]
        return found

    def inputs_of(self, nodes: Iterable[int]) -> set[str]:
        """Return the graph inputs that some of the nodes read themselves."""
        return {name for k in nodes for name in self.values_read(k) if name in self._given}

    def depending_on_others(self, inputs: Iterable[str]) -> set[int]:
        """Return the nodes that depend on an input of the graph beside ``inputs``."""
        return self.behind(self._given - set(inputs))

    def check_known(self, names: Sequence[str], option: str) -> None:
        """Raise UnsupportedError for a name that is no tensor of the top level that holds values, with close names and what stands there."""
        for name in names:
            if names.count(name) > 1:
                raise UnsupportedError(f"{option} names tensor '{name}' twice; name it once")
            if not self.moves(name):
                raise UnsupportedError(f"{option} '{name}': {self._why_unknown(name)}")
            if name in self.maker and self.maker[name] not in self._live:
                raise UnsupportedError(
                    f"{option} '{name}': no output of the graph depends on this tensor; name another"
                )

    def _why_unknown(self, name: str) -> str:
        if name in self.constants or name in self.maker:
            return "this tensor is a constant, or is made of sizes alone; name one that depends on values of the graph's inputs"
        for node in self.nodes:
            if name and name == node.name:
                made = ", ".join(f"'{output}'" for output in node.output if output)
                return f"this is the name of a node ({node.op_type}); name a tensor, it makes {made}"
            if name in set(inner_names(node)):
                return (
                    f"this tensor lies inside of node '{node.name or node.output[0]}' ({node.op_type}), in a branch or a body; a graph is cut "
                    "between the nodes of its top level, name an input or an output of that node"
                )
        return f"the graph has no tensor of that name{self._close(name)}"

    def _close(self, name: str) -> str:
        known = [n for n in (*self.inputs, *self.maker) if self.moves(n)]
        close = [n for n in known if name and name.lower() in n.lower()][:3]
        close = close or difflib.get_close_matches(name[:200], [n for n in known if len(n) <= 200][:MOST_COMPARED], 3)
        if close:
            return f"; close to it are {', '.join(repr(n) for n in close)}"
        return f"; its tensors begin with {', '.join(repr(n) for n in known[:5])}, and qrnn inspect lists its inputs and outputs"
