"""Look-ups whose index is computed from tokens and is the token itself: Keras writes one that counts from the end where it is negative.

What an index is is found by its values: the elementwise nodes between the tokens and the look-up are run on every row of the table.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.budget import ITEM_WORK, Budget
from qrnn.onnx_import.constants import EVALUATOR_WORK, FOLD_WORK
from qrnn.onnx_import.node import DAMAGE
from qrnn.onnx_import.problems import DEFAULT_DOMAINS

ELEMENTWISE = frozenset(
    [
        *("Abs", "Add", "And", "Cast", "Clip", "Equal", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min"),
        *("Mod", "Mul", "Neg", "Not", "Or", "Sub", "Sum", "Where"),
    ]
)  # fmt: skip

MOST_NODES = 64
"""The most nodes between tokens and a look-up."""

MOST_ROWS = 1 << 20
"""The most rows of a table that are tried; single precision, in which some exporters compare, has all of these numbers."""


def with_plain_tokens(graph: onnx.GraphProto, opset: int, budget: Budget) -> onnx.GraphProto:
    """Return the graph with look-ups that read tokens themselves where their computed index is the token; the graph is not changed."""
    constants = {t.name: t for t in graph.initializer}
    inputs = {i.name: i.type.tensor_type.elem_type for i in graph.input if i.name not in constants}
    writer = {output: node for node in graph.node for output in node.output if output}
    found: dict[int, str] = {}
    for place, node in enumerate(graph.node):
        table = constants.get(node.input[0]) if node.op_type == "Gather" and node.input else None
        if table is None or len(node.input) != 2 or len(table.dims) < 2 or node.input[1] not in writer:
            continue
        if any(a.i for a in node.attribute if a.name == "axis") or not 0 < table.dims[0] <= MOST_ROWS:
            continue
        tokens = _tokens(node.input[1], int(table.dims[0]), writer, constants, inputs, opset, budget)
        if tokens is not None:
            found[place] = tokens
    if not found:
        return graph
    budget.hold("reading tokens", graph.ByteSize())
    changed = onnx.GraphProto()
    changed.CopyFrom(graph)
    for place, tokens in found.items():
        changed.node[place].input[1] = tokens
    return changed


def _tokens(
    index: str,
    rows: int,
    writer: dict[str, onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
    inputs: dict[str, int],
    opset: int,
    budget: Budget,
) -> str | None:
    """Return the graph input of integers that an index equals for every row of a table, None where there is none."""
    nodes: dict[int, onnx.NodeProto] = {}
    leaves: set[str] = set()
    left = [index]
    while left:
        name = left.pop()
        budget.spend("reading tokens", ITEM_WORK)
        node = writer.get(name)
        if not name or name in constants or (node is not None and node.op_type == "Constant"):
            continue
        if node is None:
            leaves.add(name)
        elif node.op_type not in ELEMENTWISE or node.domain not in DEFAULT_DOMAINS:
            return None
        elif id(node) not in nodes:
            nodes[id(node)] = node
            left += node.input
        if len(nodes) > MOST_NODES or len(leaves) > 1:
            return None
    tokens = leaves.pop() if leaves else ""
    dtype = {onnx.TensorProto.INT32: np.int32, onnx.TensorProto.INT64: np.int64}.get(inputs.get(tokens, 0))
    if dtype is None:
        return None
    read = dict.fromkeys(i for n in nodes.values() for i in n.input if i and i != tokens)
    scalars = [name for name in read if name in constants or (name in writer and writer[name].op_type == "Constant")]
    tensors = [constants.get(name) or _value(writer[name]) for name in scalars]
    if any(t is None or np.prod([1, *t.dims], dtype=object) != 1 for t in tensors):
        return None
    budget.spend("reading tokens", EVALUATOR_WORK * (len(nodes) + 1) + FOLD_WORK * rows * len(nodes))
    budget.value("reading tokens", 0, scratch=rows * (len(nodes) + 2))
    numbers = np.arange(rows, dtype=dtype)
    result = _run(list(nodes.values()), index, tokens, numbers, dict(zip(scalars, tensors, strict=True)), opset)
    return tokens if result is not None and result.shape == numbers.shape and (result == numbers).all() else None


def _value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the tensor that a Constant holds."""
    return next((a.t for a in node.attribute if a.name == "value"), None)


def _run(
    nodes: list[onnx.NodeProto],
    index: str,
    tokens: str,
    numbers: np.ndarray[tuple[int], np.dtype[np.signedinteger]],
    tensors: dict[str, onnx.TensorProto | None],
    opset: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """Return what the nodes compute of tokens; None where they cannot be run."""
    from onnx.reference import ReferenceEvaluator  # slow to import, and few models need it

    order, done = [], {tokens, *tensors, ""}
    while nodes:
        ready = [n for n in nodes if done.issuperset(n.input)]
        if not ready:
            return None
        order += ready
        nodes = [n for n in nodes if n not in ready]
        done.update(o for n in ready for o in n.output)
    given = [tokens, *tensors]
    infos = [helper.make_value_info(name, onnx.TypeProto()) for name in given]
    graph = helper.make_graph(order, "index", infos, [helper.make_value_info(index, onnx.TypeProto())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        feeds = {name: numpy_helper.to_array(t) for name, t in tensors.items() if t is not None}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(ReferenceEvaluator(model).run(None, {tokens: numbers, **feeds})[0])
    except DAMAGE:
        return None
