"""Replace the cells that a graph writes out by hand by ONNX's recurrent nodes, before the graph is imported."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx

from qrnn.onnx_import.budget import Budget, BudgetError
from qrnn.onnx_import.cells.evaluate import DYNAMIC, Evaluation, inferred
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.cells.match import Cell
from qrnn.onnx_import.cells.one_step import States, one_step_cells, rewritten
from qrnn.onnx_import.cells.step import evaluate
from qrnn.onnx_import.cells.unrolled import unrolled
from qrnn.onnx_import.cells.writing import Writer
from qrnn.onnx_import.inputs import DeclaredInput

RECURRENT = frozenset(["LSTM", "GRU", "RNN"])

NONLINEAR = frozenset(["Sigmoid", "Tanh", "Relu", "HardSigmoid", "Clip", "LeakyRelu", "Elu", "Softsign", "Softplus"])
"""The functions without which no cell is written."""


@dataclass
class WithCells:
    """A graph whose cells are recurrent nodes."""

    graph: onnx.GraphProto
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What looks like a cell and is none, with the reason."""


def with_cells(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    opset: int,
    inputs: dict[str, DeclaredInput],
    budget: Budget,
) -> WithCells:
    """Return a graph with its cells as recurrent nodes, or the graph itself where it has none that is written out.

    ``nodes`` are those of the graph that its outputs depend on. A graph with control flow is left as it is.
    """
    if not any(n.op_type in NONLINEAR for n in nodes):
        return WithCells(graph)
    if any(
        a.HasField("g") or a.graphs for n in nodes for a in n.attribute
    ):  # their graphs may read any value of this one
        return WithCells(graph)
    try:
        return _searched(graph, nodes, opset, inputs, _share(budget))
    except BudgetError as error:
        return WithCells(graph, refused=[f"cells that are written out are not looked for: {error}"])


def _share(budget: Budget) -> Budget:
    """Return a budget of its own for the search: as much work as an import's, and the memory that is left, which it gives back."""
    share = Budget(0)
    share.memory_limit = budget.memory_limit - budget.memory
    share.work_limit = budget.work_limit
    return share


def _searched(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    opset: int,
    inputs: dict[str, DeclaredInput],
    budget: Budget,
) -> WithCells:
    refused: dict[str, None] = {}

    @functools.cache
    def shapes() -> dict[str, list[int | None]]:
        return inferred(nodes, opset, list(graph.input), list(graph.initializer))

    for batch_size, places in _batches(inputs):
        given = {name: (declared.dims, places[name]) for name, declared in inputs.items()}
        constants = {t.name: t for t in graph.initializer}
        evaluation = evaluate(nodes, opset, given, constants, budget, batch_size, shapes)
        result = _over_time(graph, nodes, evaluation)
        if result.graph is graph:
            one = _of_one_step(graph, nodes, evaluation, inputs)
            result = WithCells(one.graph, one.notes, [*result.refused, *one.refused])
        if result.graph is not graph:
            return result
        refused.update(dict.fromkeys(result.refused))
    return WithCells(graph, refused=list(refused))


def _batches(inputs: dict[str, DeclaredInput]) -> list[tuple[int, dict[str, int | None]]]:
    """Return what the axes of the batch may be: its size and its axis of each input."""
    free = {name: [k for k, d in enumerate(i.dims) if d is None] for name, i in inputs.items()}
    if any(free.values()):
        return [(DYNAMIC, {name: axes[0] if len(axes) == 1 else None for name, axes in free.items()})]
    found = []
    first = next(iter(inputs.values())).dims if inputs else []
    for size in dict.fromkeys(first[:2]):
        assert size is not None
        places = {name: i.dims.index(size) if size in i.dims[:3] else None for name, i in inputs.items()}
        found.append((size, places))
    return found


def _over_time(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], evaluation: Evaluation) -> WithCells:
    made = unrolled(nodes, evaluation, [o.name for o in graph.output])
    if isinstance(made, list):
        return WithCells(graph, refused=made)
    nodes, constants, layers = made
    notes = [_note(chain.cell, chain.steps) for chain in layers]
    return WithCells(replaced(graph, nodes, constants, evaluation.elements.budget), notes)


def _of_one_step(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, inputs: dict[str, DeclaredInput]
) -> WithCells:
    simple = not any(n.op_type in RECURRENT for n in nodes)
    states = States(evaluation, list(inputs), [o.name for o in graph.output], simple)
    found = one_step_cells(nodes, states)
    refused = [f"value '{name}' looks like the state of a cell, but {why}" for name, why in found.refused.items()]
    if not found.cells:
        return WithCells(graph, refused=refused)
    writer = Writer(evaluation)
    try:
        made = rewritten(nodes, found, writer)
    except NotACell as error:
        return WithCells(graph, refused=[*refused, f"a cell is recognised, but {error}"])
    notes = [_note(cell) for cell in found.cells] + states.notes + refused
    return WithCells(replaced(graph, made, writer.constants, evaluation.elements.budget), notes, refused)


def _note(cell: Cell, steps: int = 0) -> str:
    """Return what a model says about a cell that was recognised."""
    over = f" over {steps} steps" if steps else ""
    return f"value '{cell.home}' is a state of {cell.op}, {cell.hidden} units, which the graph writes out by hand{over}"


def replaced(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto], budget: Budget
) -> onnx.GraphProto:
    """Return a copy of a graph with other nodes, of which only those that the outputs depend on are kept, and with more constants."""
    wanted = {o.name for o in graph.output}
    live = []
    for node in reversed(nodes):
        if any(o in wanted for o in node.output if o):
            live.append(node)
            wanted.update(i for i in node.input if i)
    own = [t for t in graph.initializer if t.name in wanted]
    budget.hold("a graph with its cells as nodes", sum(t.ByteSize() for t in own))
    made = onnx.GraphProto(name=graph.name)
    made.node.extend(live[::-1])
    made.initializer.extend([*own, *constants])
    unused = {t.name for t in graph.initializer} - wanted
    made.input.extend(i for i in graph.input if i.name not in unused)  # old files list their initializers as inputs too
    made.output.extend(graph.output)
    made.sparse_initializer.extend(graph.sparse_initializer)
    return made
