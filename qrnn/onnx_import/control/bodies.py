"""Read the bodies of Loop and Scan."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from qrnn.errors import ModelFileError
from qrnn.onnx_import.control.body import (
    Body,
    NotRecognised,
    Read,
    State,
    Write,
    give_step,
    settle,
    take_constants,
    take_counters,
    take_reads,
)
from qrnn.onnx_import.control.counting import Count, Counts, iterations
from qrnn.onnx_import.control.facts import Known
from qrnn.onnx_import.control.flatten import Flattener
from qrnn.onnx_import.control.writer import Scope
from qrnn.onnx_import.problems import CONTROL_FLOW

BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64

MOST_INPUTS = 1024
"""The most values that a loop carries and scans."""


def loop_body(flat: Flattener, node: onnx.NodeProto, scope: Scope, where: str) -> Body:
    """Return the body of a Loop."""
    graph, inner = _inner(flat, node, scope, where)
    count = len(graph.input) - 2
    if (
        count < 0
        or len(node.input) != count + 2
        or len(graph.output) != len(node.output) + 1
        or len(node.output) < count
    ):
        raise ModelFileError(
            f"{where}: has {len(node.input)} inputs and {len(node.output)} outputs, its body {len(graph.input)} and {len(graph.output)}; the "
            "file is damaged"
        )
    names = [inner[info.name] for info in graph.input]
    outer = [scope.get(o, o) for o in node.output]
    flat.facts.give(names[0], Known((), None, INT64))
    flat.facts.give(names[1], Known((), np.array(True), BOOL))
    firsts = [_carried(flat, node, scope, name, k + 2) for k, name in enumerate(names[2:])]
    nodes = _inside(flat, graph, inner)
    after = [inner.get(info.name, info.name) for info in graph.output]
    states, writes = [], []
    for k in range(count):
        if flat.sequences.has(firsts[k]):
            writes.append(_appended(flat, names[k + 2], after[k + 1], firsts[k], outer[k]))
        else:
            states.append(State(names[k + 2], after[k + 1], firsts[k], outer[k]))
    writes += [Write(name, output, 0) for name, output in zip(after[count + 1 :], outer[count:], strict=True) if output]
    body = Body(where, nodes, states, [], writes)
    settle(flat, body, [names[0], *(s.before for s in states)])
    take_constants(flat, body)
    counts = Counts(flat.facts, {names[0]: Count(steps=1)})
    take_counters(flat, body, counts)
    settle(flat, body, [*counts.given, *(s.before for s in body.states)])
    limit, first = (scope.get(name, name) for name in node.input[:2])
    steps = iterations(counts, limit, first, after[0])
    if isinstance(steps, str):
        raise NotRecognised(steps)
    body.steps = steps
    take_reads(flat, body, counts)
    body.counts = counts
    return body


def scan_body(flat: Flattener, node: onnx.NodeProto, scope: Scope, where: str) -> Body:
    """Return the body of a Scan."""
    if flat.opset < 9:
        raise NotRecognised("Scan before opset 9 has an axis of the batch of its own")
    graph, inner = _inner(flat, node, scope, where)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "body"}
    scanned = int(attributes.get("num_scan_inputs", 0))
    count = len(graph.input) - scanned
    given = len(node.output) - count
    if not 0 < scanned <= len(graph.input) == len(node.input) or given < 0 or len(graph.output) != len(node.output):
        raise ModelFileError(
            f"{where}: has {len(node.input)} inputs and {len(node.output)} outputs, its body {len(graph.input)} and {len(graph.output)}; the "
            "file is damaged"
        )

    def listed(name: str, size: int) -> list[int]:
        values = [int(v) for v in attributes.get(name, [0] * size)]
        if len(values) != size:
            raise ModelFileError(
                f"{where}: attribute {name} has {len(values)} values, expected {size}; the file is damaged"
            )
        return values

    names = [inner[info.name] for info in graph.input]
    outer = [scope.get(o, o) for o in node.output]
    firsts = [_carried(flat, node, scope, name, k) for k, name in enumerate(names[:count])]
    reads = []
    axes, directions = listed("scan_input_axes", scanned), listed("scan_input_directions", scanned)
    for name, source, axis, reverse_ in zip(names[count:], node.input[count:], axes, directions, strict=True):
        source = scope.get(source, source)
        dims = flat.facts.of(source).dims
        if dims is None or not -len(dims) <= axis < len(dims):
            raise NotRecognised(f"the shape of its input '{source}' is not known")
        reads.append(Read(name, source, axis % len(dims), bool(reverse_)))
        give_step(flat.facts, reads[-1])
    nodes = _inside(flat, graph, inner)
    after = [inner.get(info.name, info.name) for info in graph.output]
    if any(flat.sequences.has(first) for first in firsts):
        raise NotRecognised("it carries a sequence")
    states = [State(*names_) for names_ in zip(names[:count], after[:count], firsts, outer[:count], strict=True)]
    axes, directions = listed("scan_output_axes", given), listed("scan_output_directions", given)
    writes = [
        Write(name, output, axis, bool(reverse_))
        for name, output, axis, reverse_ in zip(after[count:], outer[count:], axes, directions, strict=True)
        if output
    ]
    body = Body(where, nodes, states, reads, writes)
    changing = [*(s.before for s in states), *(r.name for r in reads)]
    settle(flat, body, changing)
    take_constants(flat, body)
    settle(flat, body, [*(s.before for s in body.states), *(r.name for r in reads)])
    return body


def _inner(flat: Flattener, node: onnx.NodeProto, scope: Scope, where: str) -> tuple[onnx.GraphProto, dict[str, str]]:
    """Return the body's graph and its scope, in which its inputs have names of their own."""
    graph = next((a.g for a in node.attribute if a.name == "body"), None)
    if graph is None:
        raise ModelFileError(f"{where}: has no body; the file is damaged")
    if len(graph.input) + len(graph.output) + len(node.input) > MOST_INPUTS:
        raise NotRecognised(f"it carries and scans more than {MOST_INPUTS} values")
    inner = flat.inner_scope(graph, scope)
    for info in graph.input:
        inner[info.name] = flat.names.unique(info.name)
    return graph, inner


def _inside(flat: Flattener, graph: onnx.GraphProto, inner: Scope) -> list[onnx.NodeProto]:
    """Return the nodes of a body, written out."""
    outside, flat.nodes = flat.nodes, []
    try:
        flat.write(graph.node, inner)
        nodes = flat.nodes
    finally:
        flat.nodes = outside
    for node in nodes:
        if node.op_type in CONTROL_FLOW:
            raise NotRecognised(flat.problems.explanation(node) or f"its body holds the {node.op_type} '{node.name}'")
    return nodes


def _carried(flat: Flattener, node: onnx.NodeProto, scope: Scope, name: str, k: int) -> str:
    """Record what is known of a carried value inside, that its shape is the one it begins with, and return where it begins."""
    first = node.input[k] if k < len(node.input) else ""
    if not first:
        raise NotRecognised(f"its input {k} is missing")
    first = scope.get(first, first)
    known = flat.facts.of(first)
    if flat.sequences.has(first):
        flat.sequences.begin(name)
    else:
        flat.facts.give(name, Known(known.dims, None, known.element_type))
    return first


def _appended(flat: Flattener, before: str, after: str, first: str, output: str) -> Write:
    added = flat.sequences.appended(before, after)
    if added is None or not flat.sequences.empty(first):
        raise NotRecognised(
            "what it does with a sequence that it carries is more than to add one value in each step, first or last"
        )
    return Write(added[0], output, 0, added[1], sequence=True)
