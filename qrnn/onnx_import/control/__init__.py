"""Control flow: graphs with If, Loop, Scan and sequences are written out as plain nodes before they are imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.control.fixed import FixedValue, fix, sizes_of_data
from qrnn.onnx_import.control.flatten import without_control_flow
from qrnn.onnx_import.control.loops import LOOPS
from qrnn.onnx_import.problems import Problems
from qrnn.onnx_import.token_ids import with_plain_tokens

__all__ = ["FixedValue", "PlainGraph", "plain_graph"]


@dataclass(frozen=True)
class PlainGraph:
    """A graph without control flow, as far as it could be written out; ``values`` are the inputs and sizes that were fixed."""

    graph: onnx.GraphProto
    notes: list[str]
    values: dict[str, FixedValue]


def plain_graph(
    graph: onnx.GraphProto,
    opset: int,
    budget: Budget,
    problems: Problems,
    values: Mapping[str, FixedValue],
    shapes: Mapping[str, Sequence[int]],
) -> PlainGraph:
    """Return ``graph`` with inputs and free sizes fixed, without its control flow, and with tokens that are not computed.

    ``values`` and ``shapes`` are as for `load_onnx`.

    The graph that is given is left as it is. What cannot be written out stays in the graph, and ``problems`` knows what to say of it.
    """
    fixed = dict(values)
    if fixed or sizes_of_data(graph, shapes):
        budget.hold("fixing inputs", graph.ByteSize())
        graph, given = onnx.GraphProto(), graph
        graph.CopyFrom(given)
        fix(graph, fixed, budget)
        sizes = sizes_of_data(graph, shapes)
        fix(graph, sizes, budget)
        fixed.update(sizes)
    plain, notes = without_control_flow(graph, opset, budget, problems, LOOPS)
    return PlainGraph(with_plain_tokens(plain, opset, budget), notes, fixed)
