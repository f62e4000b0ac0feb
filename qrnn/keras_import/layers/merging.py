"""Layers that join several values: sums, products, extremes, means, concatenation and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.keras_import.graph import Graph, joined_mask
from qrnn.keras_import.registry import Call, layer, refuse_lost_mask
from qrnn.keras_import.tensors import Mask, Shape, Value

ELEMENTWISE = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add", "Maximum": "Max", "Minimum": "Min"}
"""Keras's layers, and the operators that they stand for."""


def joined(graph: Graph, op: str, a: str, b: str) -> str:
    """Return two values joined by an operator; a maximum is a + relu(b - a), and a minimum a - relu(a - b)."""
    if op == "Max":
        return graph.op("Add", [a, graph.op("Relu", [graph.op("Sub", [b, a])])])
    if op == "Min":
        return graph.op("Sub", [a, graph.op("Relu", [graph.op("Sub", [a, b])])])
    return graph.op(op, [a, b])


def common_mask(call: Call, values: Sequence[Value]) -> Mask | None:
    """Return the mask of values that are joined; where they differ, Keras loses it or joins them, which lengths cannot say."""
    mask, agree = joined_mask(values)
    if not agree:
        refuse_lost_mask(call, next(x for x in values if x.mask is not None))
    return mask


def broadcast(call: Call, a: Value, b: Value) -> Shape:
    """Return the shape of two values of equally many axes that are joined element by element."""
    if a.rank != b.rank:
        call.settings.refuse(
            f"it joins {a.text()} and {b.text()}, of different numbers of axes; reshape them to the same"
        )
    sizes: list[int | None] = []
    for p, q in zip(a.shape, b.shape, strict=True):
        if p is not None and q is not None and p != q and 1 not in (p, q):
            call.settings.damaged(f"it joins {a.text()} and {b.text()}, which do not fit")
        sizes.append(q if p == 1 else p if q == 1 or q is None else q if p is None else p)
    return tuple(sizes)


@layer(*ELEMENTWISE, keeps_mask=True)
def merge(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the values joined element by element, from the first to the last."""
    call.only()
    values = list(call.inputs)
    if len(values) < 2:
        call.settings.refuse(f"it joins {len(values)} value(s), expected at least 2")
    mask = common_mask(call, values)
    made = values[0]
    for value in values[1:]:
        made = Value(
            joined(graph, ELEMENTWISE[call.layer.kind], made.name, value.name),
            broadcast(call, made, value),
            mask,
            made.sources | value.sources,
        )
    if call.layer.kind == "Average":
        made = graph.apply("Mul", made, graph.number(1 / len(values)))
    return [made]


@layer("Concatenate", keeps_mask=True)
def concatenate(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the values side by side along an axis."""
    call.only()
    values = list(call.inputs)
    if len({x.rank for x in values}) != 1:
        call.settings.refuse(f"it joins {', '.join(x.text() for x in values)}; expected equally many axes")
    (axis,) = call.settings.axes("axis", values[0].rank)
    mask = common_mask(call, values)
    if mask is not None and axis == 1:
        refuse_lost_mask(call, values[0])
    along = [x.shape[axis] for x in values]
    total = None if any(size is None for size in along) else sum(size for size in along if size is not None)
    known = [
        next((size for size in sizes if size is not None), None)
        for sizes in zip(*(x.shape for x in values), strict=True)
    ]
    shape = [total if k == axis else size for k, size in enumerate(known)]
    name = graph.op("Concat", [x.name for x in values], axis=axis)
    return [Value(name, tuple(shape), mask, frozenset().union(*(x.sources for x in values)))]


@layer("Dot", keeps_mask=True)
def dot(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the products of two values over an axis of each, as attention over an encoder's steps is written by hand."""
    call.only()
    if len(call.inputs) != 2:
        call.settings.refuse(f"it joins {len(call.inputs)} values, expected 2")
    a, b = call.inputs
    if a.mask is not None or b.mask is not None:
        refuse_lost_mask(call, a if a.mask is not None else b)
    if call.settings.flag("normalize", False):
        call.settings.refuse("normalize=True is not supported; put UnitNormalization before it")
    axes = call.settings.take("axes")
    pair = list(axes) if isinstance(axes, (list, tuple)) else [axes, axes]
    if len(pair) != 2 or any(not isinstance(k, int) or isinstance(k, bool) for k in pair) or {a.rank, b.rank} - {2, 3}:
        call.settings.refuse(
            f"axes={axes!r} of {a.text()} and {b.text()} is not supported; expected values of 2 or 3 axes"
        )
    p, q = pair[0] % a.rank, pair[1] % b.rank
    if 0 in (p, q):
        call.settings.refuse("it multiplies over the batch; take other axes")
    if a.rank == 2 and b.rank == 2:
        made = graph.op("ReduceSum", [graph.op("Mul", [a.name, b.name]), graph.ints(1)], keepdims=1)
        return [Value(made, (None, 1))]
    left = graph.reshape(a, [0, 1, -1], (None, 1, a.shape[1])) if a.rank == 2 else a
    right = graph.reshape(b, [0, -1, 1], (None, b.shape[1], 1)) if b.rank == 2 else b
    if a.rank == 3 and p == 1:
        graph.mixes_steps(a)
        left = graph.transpose(a, [0, 2, 1])
    if b.rank == 3 and q == 2:
        right = graph.transpose(b, [0, 2, 1])
    elif b.rank == 3:
        graph.mixes_steps(b)
    shape = (None, left.shape[1], right.shape[2])
    made = graph.op("MatMul", [left.name, right.name])
    sources = (a.sources if a.rank == 3 and p == 2 else frozenset()) | (
        b.sources if b.rank == 3 and q == 2 else frozenset()
    )
    value = Value(made, shape, None, sources)
    if a.rank == 2:
        return [Value(graph.op("Squeeze", [made, graph.ints(1)]), (None, shape[2]), None, sources)]
    if b.rank == 2:
        return [Value(graph.op("Squeeze", [made, graph.ints(2)]), (None, shape[1]), None, sources)]
    return [value]
