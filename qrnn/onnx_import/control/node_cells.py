"""Recurrent nodes of one step inside of a body, as scripted LSTMCell and GRUCell modules are exported."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper

from qrnn.onnx_import.budget import ITEM_WORK
from qrnn.onnx_import.control.body import Body, NotRecognised, State, writers
from qrnn.onnx_import.control.lifting import Lifting
from qrnn.onnx_import.control.sequences import squeeze, unsqueeze
from qrnn.onnx_import.control.writer import Writer
from qrnn.onnx_import.values import Dim

RECURRENT = frozenset(["LSTM", "GRU", "RNN"])

SHAPES = frozenset(["Cast", "Dropout", "Identity", "Reshape", "Squeeze", "Unsqueeze"])
"""The operators between a state and the node, which add and drop axes of size 1."""


@dataclass
class NodeCell:
    """A recurrent node of one step, and the states of the loop that are its own."""

    node: onnx.NodeProto
    h: State
    c: State | None


def node_cells(flat: Writer, body: Body) -> list[NodeCell]:
    """Return the recurrent nodes of a body whose states the loop carries."""
    written = writers(body.nodes)
    found = []
    for node in body.nodes:
        if node.op_type not in RECURRENT or node.domain:
            continue
        flat.budget.spend("writing out control flow", ITEM_WORK * len(body.states))
        name = node.name or node.output[0]
        inputs = [*node.input, *[""] * 8]
        if inputs[4] or not inputs[5] or any(i in body.inner for i in (*inputs[1:4], inputs[7])):
            raise NotRecognised(
                f"its body holds node '{name}' ({node.op_type}) with more than one step, or without its state"
            )
        before = [_origin(inputs[k], written) for k in (5, 6)]
        h = next((s for s in body.states if s.before == before[0] and _origin(s.after, written) in _hidden(node)), None)
        c = next(
            (s for s in body.states if s.before == before[1] and _origin(s.after, written) in node.output[2:3]), None
        )
        if h is None or (node.op_type == "LSTM" and c is None):
            raise NotRecognised(
                f"its body holds node '{name}' ({node.op_type}), whose states it does not carry from step to step"
            )
        found.append(NodeCell(node, h, c))
    return found


def _hidden(node: onnx.NodeProto) -> list[str]:
    """Return the outputs of a node of one step that are its new hidden state."""
    return [o for o in node.output[:2] if o]


def _origin(name: str, written: dict[str, onnx.NodeProto]) -> str:
    """Return the value that only gets other axes of size 1."""
    for _ in range(len(written)):
        node = written.get(name)
        if node is None or node.op_type not in SHAPES:
            break
        name = node.input[0]
    return name


def write_node_cell(flat: Writer, cell: NodeCell, lifting: Lifting, backward: bool, lengths: str) -> None:
    """Write a node for all steps of sequences of these lengths, all steps without, and give its hidden states of all of them."""
    node = cell.node
    stem = node.name or node.output[0]
    x_dims = flat.facts.of(node.input[0]).dims
    if x_dims is None or len(x_dims) != 3 or x_dims[0] != 1:
        raise NotRecognised(f"its body holds node '{stem}' ({node.op_type}) with more than one step")
    x = flat.names.unique(f"{stem}_x")
    squeeze(flat, lifting.of(node.input[0]), x, 1)
    inputs = [x, *node.input[1:]]
    inputs[4] = lengths
    for k, state in ((5, cell.h), (6, cell.c)):
        if state is not None:
            inputs[k] = _initial(flat, state)
    outputs = [flat.names.unique(f"{stem}_over_time_{k}") for k in range(3 if node.op_type == "LSTM" else 2)]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if attributes.pop("layout", 0) or attributes.pop("direction", b"forward") == b"bidirectional":
        raise NotRecognised(f"its body holds node '{stem}' ({node.op_type}) with layout 1 or two directions")
    flat.node(node.op_type, inputs, outputs, stem, direction="reverse" if backward else "forward", **attributes)
    if node.output[0]:
        whole = flat.names.unique(f"{stem}_of_one_step")
        unsqueeze(flat, outputs[0], whole, 1)
        lifting.give(node.output[0], whole)
    if len(node.output) > 1 and node.output[1]:
        lifting.give(node.output[1], outputs[0])
    if len(node.output) > 2 and node.output[2]:
        lifting.forbid(node.output[2], "what it gives reads the cell state of every step, which an LSTM does not give")
    for state, last in ((cell.h, outputs[1]), (cell.c, outputs[-1])):
        if state is not None and state.last:
            _final(flat, last, state)


def _dims(flat: Writer, name: str) -> tuple[Dim | None, ...]:
    dims = flat.facts.of(name).dims
    if dims is None or len(dims) not in (2, 3) or (len(dims) == 3 and dims[0] != 1):
        raise NotRecognised(f"its state '{name}' is not of the shape [N, H] or [1, N, H]")
    return dims


def _initial(flat: Writer, state: State) -> str:
    if len(_dims(flat, state.before)) == 3:
        return state.first
    made = flat.names.unique(f"{state.first}_initial")
    unsqueeze(flat, state.first, made, 0)
    return made


def _final(flat: Writer, last: str, state: State) -> None:
    if len(_dims(flat, state.before)) == 3:
        flat.node("Identity", [last], [state.last], state.last)
    else:
        squeeze(flat, last, state.last, 0)
