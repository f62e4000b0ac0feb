"""Find the caches of a graph: inputs that hold past steps, and the outputs that give them on to the next call (`caches.py`)."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.budget import ITEM_WORK, Budget
from qrnn.onnx_import.inputs import DeclaredInput, shape_text
from qrnn.onnx_import.problems import DEFAULT_DOMAINS

MOVES = frozenset(
    ["Cast", "Concat", "Dropout", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"]
)  # fmt: skip
"""Operators that move what their first input, or all of Concat's, hold."""

MOST_CACHES = 256
"""The most inputs that may be caches of one graph."""


def _moved(node: onnx.NodeProto) -> Sequence[str]:
    """Return the inputs whose elements a node moves to its outputs; none for a node that computes."""
    if node.op_type not in MOVES or node.domain not in DEFAULT_DOMAINS:
        return ()
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])


@dataclass(frozen=True)
class _Leaf:
    """A value that moves to an output: whether a Concat joined it with others, and whether it came first in the nearest one."""

    name: str
    joined: bool
    first: bool


class _Graph:
    """Who writes and who reads each value of a list of nodes."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], budget: Budget) -> None:
        self.writer = {output: node for node in nodes for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in nodes:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        self._budget = budget

    def leaves(self, name: str) -> set[_Leaf]:
        """Return the values from which ``name`` is moved together."""
        found: set[_Leaf] = set()
        seen: set[_Leaf] = set()
        left = [_Leaf(name, False, False)]
        while left:
            at = left.pop()
            self._budget.spend("looking for caches", ITEM_WORK)
            if at in seen:
                continue
            seen.add(at)
            node = self.writer.get(at.name)
            sources = () if node is None else _moved(node)
            if node is None or not sources:
                found.add(at)
            elif node.op_type == "Concat" and len(sources) > 1:
                left += [_Leaf(source, True, k == 0) for k, source in enumerate(sources)]
            else:
                left += [_Leaf(source, at.joined, at.first) for source in sources]
        return found

    def joins(self, name: str) -> list[onnx.NodeProto] | None:
        """Return the Concat nodes at which an input is first joined to others; None where a node that computes reads it alone."""
        found: dict[int, onnx.NodeProto] = {}
        seen = {name}
        left = [name]
        while left:
            at = left.pop()
            for node in self.readers[at]:
                self._budget.spend("looking for caches", ITEM_WORK)
                if at not in _moved(node):
                    return None
                if node.op_type == "Concat" and len(node.input) > 1:
                    found[id(node)] = node
                    continue
                new = [output for output in node.output if output and output not in seen]
                seen.update(new)
                left += new
        return list(found.values())


def cache_pairs(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, DeclaredInput],
    named: Mapping[str, str],
    budget: Budget,
) -> dict[str, str]:
    """Return the output that gives each cache on, by the input that holds it.

    A cache is an input of whose elements and newer values an output of the same shape is moved together, and that no node
    computes with but joined to others. Pairs that are ``named`` are taken as they are.
    """
    outputs = {o.name: _dims(o) for o in graph.output}
    given = _checked(named, inputs, outputs)
    found = _Graph(nodes, budget)
    free = {name: joins for name in inputs if name not in given and (joins := found.joins(name))}
    if len(free) > MOST_CACHES:
        return given
    pairs = dict(given)
    left = [name for name in outputs if name not in given.values()]
    leaves = {output: found.leaves(output) for output in left} if free else {}
    for output in left:
        alike = {
            leaf for leaf in leaves.get(output, ()) if leaf.joined and leaf.name in free and _fits(inputs[leaf.name], outputs[output])
        }  # fmt: skip
        for choice in (alike, {leaf for leaf in alike if leaf.first}):
            names = {leaf.name for leaf in choice} - pairs.keys()
            if len(names) == 1:
                pairs[names.pop()] = output
                break
    return pairs


def _dims(info: onnx.ValueInfoProto) -> list[int | None] | None:
    """Return the sizes that an output declares, None for an unknown one; None for an output without a shape."""
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return None
    dims = info.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]


def _fits(declared: DeclaredInput, dims: list[int | None] | None) -> bool:
    """Return whether an input and an output may have the same shape."""
    if dims is None:
        return True
    return len(dims) == len(declared.dims) and all(
        None in (a, b) or a == b for a, b in zip(declared.dims, dims, strict=True)
    )


def _checked(
    named: Mapping[str, str], inputs: Mapping[str, DeclaredInput], outputs: Mapping[str, list[int | None] | None]
) -> dict[str, str]:
    """Return the pairs that the user names; UnsupportedError for names that the graph does not have, or that cannot be a pair."""
    for name, output in named.items():
        if name not in inputs:
            raise UnsupportedError(
                f"state '{name}={output}': the graph has no input '{name}'; its inputs are {_listed(inputs)}"
            )
        if output not in outputs:
            raise UnsupportedError(
                f"state '{name}={output}': the graph has no output '{output}'; its outputs are {_listed(outputs)}"
            )
        if not _fits(inputs[name], outputs[output]):
            raise UnsupportedError(
                f"state '{name}={output}': {inputs[name].describe()} and output '{output}' "
                f"{shape_text(outputs[output] or [])} have different shapes; a state's output is its input of the next call"
            )
    if len(set(named.values())) < len(named):
        twice = next(o for o in named.values() if list(named.values()).count(o) > 1)
        raise UnsupportedError(f"output '{twice}' is named for two states; give each its own output")
    return dict(named)


def _listed(names: Iterable[str]) -> str:
    shown = [f"'{name}'" for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def ordered(nodes: Sequence[onnx.NodeProto], pairs: Mapping[str, str], budget: Budget) -> list[onnx.NodeProto]:
    """Return ``nodes`` in an order in which what a cache is given on comes before every node that computes with that cache, where it can.

    Nodes that move values come as early as they can, so that a part of what is given on is known where all of it is not.
    """
    writer = {output: k for k, node in enumerate(nodes) for output in node.output if output}
    bits = {name: 1 << k for k, name in enumerate(pairs)}
    given = {output: bits[name] for name, output in pairs.items()}
    held = dict(bits)  # by value: which caches it holds elements of
    reads, left = [0] * len(nodes), [0] * len(nodes)
    followers: list[list[int]] = [[] for _ in nodes]
    for k, node in enumerate(nodes):
        budget.spend("ordering nodes by their caches", ITEM_WORK * (len(node.input) + len(pairs) // 32 + 1))
        moves = set(_moved(node))
        for name in node.input:
            if name in moves:
                for output in node.output:
                    held[output] = held.get(output, 0) | held.get(name, 0)
            else:
                reads[k] |= held.get(name, 0)
        for before in {writer[name] for name in node.input if name in writer}:
            followers[before].append(k)
            left[k] += 1
    early: list[int] = []  # heaps: nodes that move values; those that compute; those that wait for a cache
    usual: list[int] = []
    late: list[int] = []
    order: list[int] = []
    missing = sum(given.values())

    def ready(k: int) -> None:
        waits = reads[k] & missing
        heapq.heappush(early if not reads[k] and _moved(nodes[k]) else late if waits else usual, k)

    for k, count in enumerate(left):
        if not count:
            ready(k)
    while early or usual or late:
        known = next((k for k in late if not reads[k] & missing), None) if not (early or usual) else None
        if known is not None:
            late.remove(known)
            heapq.heapify(late)
        k = known if known is not None else heapq.heappop(early or usual or late)
        budget.spend("ordering nodes by their caches", ITEM_WORK * (len(late) + 1))
        order.append(k)
        for output in nodes[k].output:
            missing &= ~given.get(output, 0)
        for follower in followers[k]:
            left[follower] -= 1
            if not left[follower]:
                ready(follower)
    return [nodes[k] for k in order]
