"""Make a model of some nodes of a graph: with the constants that they need, and declared inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.parts.flow import OF_SIZES, graphs_of
from qrnn.onnx_import.parts.sizes import without_tensor
from qrnn.onnx_import.parts.whole import Whole
from qrnn.onnx_import.problems import DEFAULT_DOMAINS

INITIALIZERS_ARE_INPUTS = 4
"""The first version of the file format whose initializers need not be listed among the graph's inputs."""


@dataclass(frozen=True)
class PartGraph:
    """A part of a graph as a model of its own: the tensors that it reads and gives, under the names that they have in the whole."""

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def extract(whole: Whole, nodes: Iterable[int], outputs: Sequence[str], name: str) -> PartGraph:
    """Return the part of these nodes that gives ``outputs``.

    Its inputs are what the nodes read and do not make: inputs of the whole first, in their order, then tensors in the order in which they
    are made. Copies of constants and of sizes come along. Sizes of a tensor that the part does not have are taken from an input with a
    size of the same name, as far as there is one.
    """
    flow = whole.flow
    kept = set(nodes)
    made = {output for k in kept for output in flow.nodes[k].output}
    order = {n: k for k, n in enumerate(flow.inputs)}
    read = {n for k in kept for n in flow.values_read(k)} | {n for n in outputs if n in order}
    inputs = {n for n in read if n not in made}
    own = frozenset(inputs)
    pieces: dict[int, list[onnx.NodeProto]] = {}
    left = [n for k in kept for n in flow.reads[k]] + list(outputs)
    constants: set[str] = set()
    while left:
        at = left.pop()
        if at in flow.constants:
            constants.add(at)
        k = flow.maker.get(at)
        if k is None or k in kept or k in pieces or k not in flow.copied:
            continue
        node = flow.nodes[k]
        foreign = [n for n in flow.values_read(k) if n not in made and n not in inputs]
        if foreign and node.op_type in OF_SIZES:
            instead = without_tensor(whole, node, own)
            if instead is not None:
                pieces[k] = instead
                continue
        inputs.update(foreign)
        pieces[k] = [node]
        left += flow.reads[k]
    pieces.update({k: [flow.nodes[k]] for k in kept})
    listed = sorted(inputs, key=lambda n: (n not in order, order.get(n, flow.maker.get(n, 0)), n))
    made_of = [node for k in sorted(pieces) for node in pieces[k]]
    model = _model(whole, made_of, listed, outputs, constants, name)
    return PartGraph(model, tuple(listed), tuple(outputs))


def _model(
    whole: Whole,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    constants: set[str],
    name: str,
) -> onnx.ModelProto:
    source = whole.model
    graph = onnx.GraphProto(name=name)
    graph.node.extend(nodes)
    graph.input.extend(_declared(whole, n) for n in inputs)
    graph.output.extend(_declared(whole, n, rank=False) for n in outputs)
    graph.initializer.extend(t for t in source.graph.initializer if t.name in constants)
    graph.sparse_initializer.extend(t for t in source.graph.sparse_initializer if t.values.name in constants)
    if source.ir_version < INITIALIZERS_ARE_INPUTS:
        graph.input.extend(i for i in source.graph.input if i.name in constants)
    there = {n for node in nodes for n in node.output} | set(inputs) | constants
    graph.quantization_annotation.extend(q for q in source.graph.quantization_annotation if q.tensor_name in there)
    part = onnx.ModelProto(
        ir_version=source.ir_version,
        producer_name=source.producer_name,
        producer_version=source.producer_version,
        domain=source.domain,
        model_version=source.model_version,
        doc_string=source.doc_string,
        opset_import=source.opset_import,
        metadata_props=source.metadata_props,
    )
    part.graph.CopyFrom(graph)
    part.functions.extend(_functions(source, nodes))
    return part


def _declared(whole: Whole, name: str, rank: bool = True) -> onnx.ValueInfoProto:
    """Return the type and shape of an input or an output; without ``rank`` its shape may be unknown."""
    info = whole.type_of(name)
    kind = None if info is None else info.type
    shapeless = kind is not None and kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape")
    if info is None or (shapeless and rank and name in whole.flow.maker):
        raise UnsupportedError(
            f"tensor '{name}': neither the file nor shape inference says its type and its shape, which a graph that begins or ends "
            "there has to declare; cut at another tensor, or export the model again with shapes (value_info) for all tensors"
        )
    found = onnx.ValueInfoProto(name=name)
    found.type.CopyFrom(info.type)
    return found


def _functions(source: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[onnx.FunctionProto]:
    """Return the functions of the model that the nodes call, and those that these call, in the file's order."""
    known = {(_domain(f.domain), f.name, f.overload): f for f in source.functions}
    wanted: set[tuple[str, str, str]] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        key = (_domain(node.domain), node.op_type, node.overload)
        if key in known and key not in wanted:
            wanted.add(key)
            left.extend(known[key].node)
        left.extend(inner for graph in graphs_of(node) for inner in graph.node)
    return [f for key, f in known.items() if key in wanted]


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain
