"""Write a Loop or a Scan that runs cells over time as recurrent nodes, with what its body computes beside them for all steps at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from qrnn.errors import ModelFileError, QrnnError
from qrnn.onnx_import.budget import BudgetError
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.control.bodies import BOOL, loop_body, scan_body
from qrnn.onnx_import.control.body import Body, NotRecognised, Read, Write
from qrnn.onnx_import.control.facts import UNNAMED
from qrnn.onnx_import.control.flatten import Flattener
from qrnn.onnx_import.control.lifting import Lifting
from qrnn.onnx_import.control.masks import take_lengths
from qrnn.onnx_import.control.node_cells import node_cells, write_node_cell
from qrnn.onnx_import.control.recurrent import write_cell
from qrnn.onnx_import.control.reversals import reverse, reversed_of
from qrnn.onnx_import.control.sequences import unsqueeze
from qrnn.onnx_import.control.step import cells_of
from qrnn.onnx_import.control.writer import Scope
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.values import Dim, Symbol

MakeBody = Callable[[Flattener, onnx.NodeProto, Scope, str], Body]


def write_loop(flat: Flattener, node: onnx.NodeProto, scope: Scope) -> None:
    """Write out a Loop."""
    _write(flat, node, scope, loop_body)


def write_scan(flat: Flattener, node: onnx.NodeProto, scope: Scope) -> None:
    """Write out a Scan."""
    _write(flat, node, scope, scan_body)


def _write(flat: Flattener, node: onnx.NodeProto, scope: Scope, make: MakeBody) -> None:
    where = f"node '{node.name or next(iter(node.output), '')}' ({node.op_type})"
    before = len(flat.nodes)
    try:
        body = make(flat, node, scope, where)
        _replace(flat, body)
    except (BudgetError, ModelFileError):
        raise
    except (NotRecognised, NotACell) as error:
        reason = str(error)
    except (QrnnError, *DAMAGE) as error:
        reason = f"its body cannot be followed ({first_line(error)})"
    else:
        return
    outputs = {scope.get(o, o) for o in node.output if o}
    del flat.nodes[before:]
    flat.refuse(node, scope, f"{where}: is not recognised as a recurrent layer: {reason}; {flat.problems.remedy(node)}")
    for output in outputs:
        flat.facts.forget(output)
        flat.sequences.forget(output)
        flat.ends.pop(output, None)


def _replace(flat: Flattener, body: Body) -> None:
    """Write the nodes that a loop is replaced by; `NotRecognised` where it runs no cell."""
    for read in body.reads:
        whole = body.steps is None or body.steps == flat.facts.of(read.source).size(read.axis)
        source = reversed_of(flat, read.source, read.axis) if whole and read.offset == 0 else None
        if source is not None:
            read.source, read.reverse = source, not read.reverse
    reads = {read.name for read in body.reads}
    states = {state.before for state in body.states}
    body.inner = {*reads, *states, *(o for n in body.nodes for o in n.output if o)}
    if not body.states:
        raise NotRecognised("it carries no state")
    for name in reads:
        if flat.facts.of(name).element_type == BOOL and _reaches(body, name):
            raise NotRecognised(
                "it keeps its state where a mask says so (Keras: Masking, mask_zero), and only the lengths of sequences are supported; leave "
                "the mask out and give each sequence its own length"
            )
    lengths = take_lengths(flat, body)
    nodes = node_cells(flat, body)
    own = [state for cell in nodes for state in (cell.h, cell.c) if state is not None]
    evaluation, cells = cells_of(flat, body, [state for state in body.states if state not in own])
    backward = all(read.reverse for read in body.reads) and bool(body.reads)
    lifting = Lifting(flat, body.nodes, body.where, body.inner)
    for state in body.states:
        lifting.forbid(
            state.before, f"what it gives reads the state '{state.before}' of the step before, beside its cell"
        )
    for read in body.reads:
        lifting.give(read.name, _steps(flat, body, read, backward))
    ends: dict[str, str] = {}
    for node_cell in nodes:
        write_node_cell(flat, node_cell, lifting, backward, lengths)
    for cell in cells:
        ends.update(write_cell(flat, cell, evaluation, lifting, backward, lengths))
    for write in body.writes:
        _write_steps(flat, write, lifting, backward)
        if backward and write.name in ends and not (write.reverse or write.sequence or write.axis):
            flat.ends[write.output] = ends[write.name]
    flat.notes.append(
        f"{body.where} is imported as {' and '.join([*(c.cell.op for c in cells), *(c.node.op_type for c in nodes)])} over time"
    )


def _reaches(body: Body, name: str) -> bool:
    """Return whether a state depends on a value."""
    depends = {name}
    for node in body.nodes:
        if not depends.isdisjoint(node.input):
            depends.update(node.output)
    return any(state.after in depends for state in body.states)


def _steps(flat: Flattener, body: Body, read: Read, backward: bool) -> str:
    """Return all steps of what a loop reads, [T, …]: in the order of time for a loop that runs ``backward`` through all, else in its own."""
    known = flat.facts.of(read.source)
    size = known.size(read.axis)
    steps = body.steps if body.steps is not None else size
    whole = read.offset == 0 and size is not None and (steps is size or steps == size)
    source = read.source
    if not whole:
        if not isinstance(steps, int) or not isinstance(size, int) or read.offset + steps > size:
            raise NotRecognised(f"it is not known that it reads every step of '{source}' once{_fixed(steps, size)}")
        first = size - read.offset - steps if read.reverse else read.offset
        cut = flat.names.unique(f"{source}_steps")
        ends = {"from": first, "to": first + steps, "axis": read.axis}
        bounds = [flat.constant(f"{cut}_{what}", np.array([n], np.int64)) for what, n in ends.items()]
        flat.node("Slice", [source, *bounds], [cut], cut)
        source = cut
    if read.reverse and not backward:
        source = reverse(flat, source, read.axis)
    rank = len(known.dims or ())
    if read.axis:
        moved = flat.names.unique(f"{source}_by_step")
        flat.node("Transpose", [source], [moved], moved, perm=[read.axis, *(k for k in range(rank) if k != read.axis)])
        source = moved
    if read.kept:
        kept = flat.names.unique(f"{source}_kept")
        unsqueeze(flat, source, kept, read.axis + 1)
        source = kept
    return source


def _fixed(steps: Dim | None, size: Dim | None) -> str:
    """Return how to fix a free size, where only that keeps a number of iterations from being that of a sequence's steps."""
    for number, free in ((steps, size), (size, steps)):
        if isinstance(number, int) and isinstance(free, Symbol) and not free.name.startswith(UNNAMED):
            return f" (fix the size {free.name}, which the file leaves free, by --set {free.name}={number})"
    return ""


def _write_steps(flat: Flattener, write: Write, lifting: Lifting, backward: bool) -> None:
    """Give what the loop collects of every step."""
    try:
        steps = lifting.of(write.name)
    except NotRecognised as error:
        left = onnx.NodeProto(op_type="Loop", output=[write.output])
        flat.refuse(left, {}, f"{lifting.where}: {error}; {flat.problems.remedy(left)}")
        return
    if write.reverse != backward:
        steps = reverse(flat, steps, 0)
    if write.sequence:
        flat.sequences.stack(write.output, steps)
        return
    rank = lifting.rank(write.name) + 1
    axis = write.axis % rank if -rank <= write.axis < rank else None
    if axis is None:
        raise NotRecognised(f"it collects along axis {write.axis} of {rank} axes")
    if axis:
        perm = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
        flat.node("Transpose", [steps], [write.output], write.output, perm=perm)
    else:
        flat.node("Identity", [steps], [write.output], write.output)


LOOPS = {"Loop": write_loop, "Scan": write_scan}
