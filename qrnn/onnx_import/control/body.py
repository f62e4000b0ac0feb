"""The body of a Loop or a Scan: what it carries, what it reads of each step and what it gives for each step, with plain nodes between.

A body here computes one time step. What does not change from step to step is computed outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.budget import ITEM_WORK
from qrnn.onnx_import.control.counting import Count, Counts
from qrnn.onnx_import.control.facts import Facts, Known
from qrnn.onnx_import.control.flatten import Flattener
from qrnn.onnx_import.values import Array, Dim, Symbol


class NotRecognised(Exception):  # noqa: N818
    """A loop is not one that runs a cell over time; the text says why."""


@dataclass
class State:
    """A value that is carried from step to step: ``before`` and ``after`` are its names inside, ``first`` and ``last`` outside."""

    before: str
    after: str
    first: str
    last: str


@dataclass
class Read:
    """A value ``name`` inside that is a step of ``source``, along ``axis``: from the last one to the first where it is ``reverse``.

    The axis is kept with size 1 where ``kept``.
    """

    name: str
    source: str
    axis: int
    reverse: bool = False
    kept: bool = False
    offset: int = 0
    """The first step that is read, counted from the end where ``reverse``."""


@dataclass
class Write:
    """A value inside, of which every step becomes one of ``output`` along ``axis``; the first one comes last where it is ``reverse``."""

    name: str
    output: str
    axis: int
    reverse: bool = False
    sequence: bool = False
    """``output`` is a sequence of tensors, and no tensor."""


@dataclass
class Body:
    """One step of a loop."""

    where: str
    nodes: list[onnx.NodeProto]
    states: list[State]
    reads: list[Read]
    writes: list[Write]
    steps: Dim | None = None
    """The number of iterations; None where the reads say it."""
    inner: set[str] = field(default_factory=set)
    """The values that change from step to step."""
    counts: Counts | None = None
    """What counts iterations, in a Loop."""


def writers(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """Return the node that writes each value."""
    return {output: node for node in nodes for output in node.output if output}


def root(name: str, written: dict[str, onnx.NodeProto]) -> str:
    """Return the value of which ``name`` is a copy."""
    for _ in range(len(written)):
        node = written.get(name)
        if node is None or node.op_type != "Identity":
            break
        name = node.input[0]
    return name


def settle(flat: Flattener, body: Body, changing: Iterable[str]) -> None:
    """Move the nodes outside that compute the same in every step; ``changing`` are the values that the step begins with."""
    body.inner = set(changing)
    inside = []
    for node in body.nodes:
        flat.budget.spend("writing out control flow", ITEM_WORK * (len(node.input) + 1))
        if body.inner.isdisjoint(node.input):
            flat.nodes.append(node)
        elif (numbers := _numbers(flat.facts, node)) is not None:
            # sizes of what changes, which do not
            tensor = numpy_helper.from_array(numbers, node.output[0])
            constant = helper.make_node("Constant", [], node.output[:1], name=node.name, value=tensor)
            flat.nodes.append(constant)
            flat.facts.wrote(constant)
        else:
            inside.append(node)
            body.inner.update(filter(None, node.output))
    body.nodes = inside


def _numbers(facts: Facts, node: onnx.NodeProto) -> Array | None:
    """Return the whole numbers that a node computes, None where they are not known or other ones."""
    if len(node.output) != 1 or facts.of(node.output[0]).element_type != onnx.TensorProto.INT64:
        return None
    return facts.value(node.output[0])


def take_reads(flat: Flattener, body: Body, counts: Counts) -> None:
    """Replace the nodes that take the step of this iteration from a value outside by reads."""
    left = []
    for node in body.nodes:
        read = None
        if node.op_type in ("Gather", "Slice") and node.input[0] not in body.inner:
            read = (
                _gathered(flat.facts, node, counts) if node.op_type == "Gather" else _sliced(flat.facts, node, counts)
            )
        if read is None:
            left.append(node)
        else:
            body.reads.append(read)
    body.nodes = left
    for output in (o for node in left for o in node.output):
        flat.facts.renew(output)
    for read in body.reads:
        give_step(flat.facts, read)


def give_step(facts: Facts, read: Read) -> None:
    """Record what is known of the step that is read."""
    known = facts.of(read.source)
    facts.give(read.name, Known(dims_without(known, read.axis, read.kept), None, known.element_type))


def _gathered(facts: Facts, node: onnx.NodeProto, counts: Counts) -> Read | None:
    index, dims = facts.of(node.input[1]).dims, facts.of(node.input[0]).dims
    count = counts.of(node.input[1])
    axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
    if count is None or dims is None or index is None or len(index) > 1 or not -len(dims) <= axis < len(dims):
        return None
    return _read(node.output[0], node.input[0], axis % len(dims), count, dims, bool(index))


def _sliced(facts: Facts, node: onnx.NodeProto, counts: Counts) -> Read | None:
    dims = facts.of(node.input[0]).dims
    if len(node.input) < 3 or dims is None:
        return None
    start, end = counts.of(node.input[1]), counts.of(node.input[2])
    axes = facts.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    step = facts.value(node.input[4]) if len(node.input) > 4 and node.input[4] else None
    axis = 0 if axes is None else int(axes.reshape(-1)[0]) if axes.size == 1 else None
    if start is None or end is None or axis is None or (step is not None and (step != 1).any()):
        return None
    if end.plus(start, -1) != Count(offset=1) or not start.steps or not -len(dims) <= axis < len(dims):
        return None
    if start.size is None and start.offset < 0:  # [-1:0] is nothing
        return None
    return _read(node.output[0], node.input[0], axis % len(dims), start, dims, True)


def _read(name: str, source: str, axis: int, count: Count, dims: tuple[Dim | None, ...], kept: bool) -> Read | None:
    size = dims[axis]
    if count.steps == 1 and count.size is None and count.offset >= 0:
        return Read(name, source, axis, False, kept, count.offset)
    if count.steps != -1:
        return None
    end = Count(size=size) if isinstance(size, Symbol) else Count(offset=size or 0)
    begin = Count(0, count.size, count.offset, count.times)
    if begin.size is None and begin.offset < 0:  # counted from the end: -1 is the last step
        first = -1 - begin.offset
    else:
        distance = end.plus(begin, -1)
        if distance is None or distance.size is not None:
            return None
        first = distance.offset - 1
    return Read(name, source, axis, True, kept, first) if first >= 0 else None


def take_constants(flat: Flattener, body: Body) -> None:
    """Give what is carried and never changes its value from outside."""
    written = writers(body.nodes)
    left = []
    for state in body.states:
        if root(state.after, written) == state.before:
            flat.facts.renew(state.before)
            flat.move(state.first, state.before)
            if state.last:
                flat.move(state.first, state.last)
        else:
            left.append(state)
    if len(left) < len(body.states):
        for output in (o for node in body.nodes for o in node.output):
            flat.facts.renew(output)
    body.states = left


def take_counters(flat: Flattener, body: Body, counts: Counts) -> None:
    """Find what counts iterations among what is carried."""
    left = []
    for state in body.states:
        known = flat.facts.of(state.before)
        begin = counts.of(state.first) if known.dims is not None and len(known.dims) <= 1 else None
        if begin is None or begin.steps or known.element_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            left.append(state)
            continue
        itself = Symbol(state.before)
        counts.given[state.before] = Count(size=itself)
        change = counts.of(state.after)
        del counts.given[state.before]
        if change is None or change.size is not itself or change.times != 1 or change.steps:
            left.append(state)
            continue
        counts.given[state.before] = Count(change.offset, begin.size, begin.offset, begin.times)
        if state.last:
            flat.refuse(
                onnx.NodeProto(op_type="Loop", output=[state.last]),
                {},
                f"{body.where}: its counter '{state.last}' is used behind it, which is not supported",
            )
    body.states = left


def dims_without(known: Known, axis: int, kept: bool) -> tuple[Dim | None, ...] | None:
    """Return the dims of a step of a value."""
    if known.dims is None or not -len(known.dims) <= axis < len(known.dims):
        return None
    dims = list(known.dims)
    dims[axis : axis + 1] = [1] if kept else []
    return tuple(dims)
