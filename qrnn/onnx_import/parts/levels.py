"""Divide a graph into parts that run one after the other, in float and in integers by turns, as few as possible.

Parts of an even number are in float, those of an odd number in integers. A node that has to be of one kind is in the last part of its kind
that is not behind those that read it; how many parts there have to be follows from what each node reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.parts.flow import Flow, graphs_of, inner_names

MOST_PARTS = 64
"""The most parts of a graph."""

RECURRENT = frozenset(["LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"])


def recurs(node: onnx.NodeProto) -> bool:
    """Return whether a node is a recurrent one, or holds one in a branch or a body."""
    if node.op_type in RECURRENT:
        return True
    return any(recurs(inner) for graph in graphs_of(node) for inner in graph.node)


def divided(flow: Flow, floats: set[int]) -> list[tuple[bool, set[int]]]:
    """Return the parts in order, each with whether it is in float; nodes ``floats`` are in float ones.

    Recurrent nodes are in integers, and the other nodes wherever there are no more parts for it: in integers if they can be. In a graph without
    recurrent nodes, whose cells may be written out, all other nodes are in integers.
    """
    integers = {k for k in flow.live if k not in floats and recurs(flow.nodes[k])}
    integers = integers or {k for k in flow.live if k not in floats}
    levels = _levels(flow, floats, integers)
    if (count := len(set(levels.values()))) > MOST_PARTS:
        raise UnsupportedError(
            f"the graph has to be divided in {count} parts, in float and in integers by turns, and at most {MOST_PARTS} are supported"
        )
    parts: list[tuple[bool, set[int]]] = []
    for level in sorted(set(levels.values())):
        own = {k for k, at in levels.items() if at == level}
        in_float = level % 2 == 0
        if parts and parts[-1][0] == in_float:
            parts[-1][1].update(own)
        else:
            parts.append((in_float, own))
    return parts


def _levels(flow: Flow, floats: set[int], integers: set[int]) -> dict[int, int]:
    first: dict[int, int] = {}
    fed: set[int] = set()  # nodes with one of integers before them
    for k in flow.live:
        sources = [flow.maker[n] for n in flow.values_read(k) if n in flow.maker]
        least = max((first[s] for s in sources), default=0)
        if k in floats:
            least += least % 2
        elif k in integers:
            least += 1 - least % 2
        first[k] = least
        if k in integers or any(s in fed for s in sources):
            fed.add(k)
    last = max(first.values(), default=0)
    if last > 2 * MOST_PARTS:
        return first
    levels: dict[int, int] = {}
    for k in reversed(flow.live):
        readers = [levels[r] for o in flow.nodes[k].output for r in flow.readers.get(o, ()) if r in levels]
        most = min(readers, default=last)
        least = first[k]
        if k in floats:
            levels[k] = most - most % 2
        elif k in integers:
            levels[k] = most - 1 + most % 2
        else:
            levels[k] = _odd(least, most, early=k in fed)
    return levels


def _odd(least: int, most: int, early: bool) -> int:
    """Return the first or the last odd number of a range, or ``least`` where it has none."""
    odd = [level for level in range(least, most + 1) if level % 2]
    return (odd[0] if early else odd[-1]) if odd else least


def between(flow: Flow, names: Sequence[str]) -> set[int]:
    """Return the nodes that named tensors leave in float.

    These are all nodes before a tensor; and of tensors that depend on each other, the nodes between them.
    """
    behind = {name: flow.behind([name]) for name in names}
    found: set[int] = set()
    for end in names:
        starts = [s for s in names if s != end and flow.maker.get(end) in behind[s]]
        if any(flow.maker.get(other) in behind[end] for other in names if other != end) and not starts:
            continue  # what begins here
        nodes = flow.before([end], starts)
        found |= {k for k in nodes if not starts or any(k in behind[s] for s in starts)}
    return found


def within(flow: Flow, names: Iterable[str]) -> Iterator[int]:
    """Yield the nodes of the top level that make tensors, or hold the nodes that make them."""
    inner: dict[str, int] | None = None
    for name in names:
        if name in flow.maker:
            yield flow.maker[name]
            continue
        if inner is None:
            inner = {n: k for k, node in enumerate(flow.nodes) for n in inner_names(node)}
        if name in inner:
            yield inner[name]
