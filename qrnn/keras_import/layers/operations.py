"""Operations of ``keras.ops`` that stand between the layers of a functional model: arithmetic, slices, joins, means and functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qrnn.keras_import.activations import apply_activation
from qrnn.keras_import.config import snake_case
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.merging import broadcast, joined
from qrnn.keras_import.layers.reshaping import sliced
from qrnn.keras_import.registry import Call, operation
from qrnn.keras_import.tensors import Value

BINARY = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Maximum": "Max", "Minimum": "Min",
    "Power": "Pow",
}  # fmt: skip
UNARY = {
    "Absolute": "Abs",
    "Abs": "Abs",
    "Sqrt": "Sqrt",
    "Exp": "Exp",
    "Log": "Log",
    "Negative": "Neg",
    "Erf": "Erf",
    "Tanh": "Tanh",
}
FUNCTIONS = (
    "Relu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Silu",
    "Selu",
    "Relu6",
    "HardSigmoid",
    "HardSilu",
    "Mish",
    "LogSigmoid",
    "HardTanh",
)
REDUCED = {"Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin"}


@operation(*BINARY)
def binary(graph: Graph, call: Call) -> Sequence[Value]:
    """Write arithmetic of two values, or of a value and a number."""
    call.only("x1", "x2")
    given = [*call.extra, *(call.arguments[key] for key in ("x1", "x2") if key in call.arguments)]
    values = [v for v in given if isinstance(v, Value)]
    numbers = [v for v in given if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(given) != 2 or len(values) + len(numbers) != 2 or not values:
        call.settings.refuse("it joins something else than values and numbers")
    names = [v.name if isinstance(v, Value) else graph.number(float(v)) for v in given]
    op = BINARY[call.layer.kind]
    name = joined(graph, op, *names) if len(values) == 2 else graph.op(op, names)
    shape = broadcast(call, values[0], values[1]) if len(values) == 2 else values[0].shape
    sources = frozenset().union(*(v.sources for v in values))
    return [Value(name, shape, None, sources)]


@operation(*UNARY)
def unary(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a function of each element."""
    call.only()
    return [graph.apply(UNARY[call.layer.kind], call.x)]


@operation(*FUNCTIONS)
def function(graph: Graph, call: Call) -> Sequence[Value]:
    """Write an activation."""
    call.only()
    return [apply_activation(graph, call.x, snake_case(call.layer.kind).replace("relu_6", "relu6"), call.settings)]


@operation("Softmax", "LogSoftmax")
def softmax(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a softmax over an axis."""
    call.only()
    return [apply_activation(graph, call.x, snake_case(call.layer.kind), call.settings)]


@operation("Concatenate")
def concatenate(graph: Graph, call: Call) -> Sequence[Value]:
    """Write values side by side."""
    from qrnn.keras_import.layers.merging import concatenate as join

    return join(graph, call)


@operation(*REDUCED)
def reduced(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a mean, a sum or an extreme over axes behind the batch."""
    call.only()
    x, keep = call.x, call.settings.flag("keepdims", False)
    axes = call.settings.axes("axis", x.rank, list(range(x.rank)))
    if 0 in axes:
        call.settings.refuse("it reduces over the batch; take axes behind it")
    if 1 in axes and x.rank > 2:
        graph.mixes_steps(x)
    shape = tuple(1 if k in axes else size for k, size in enumerate(x.shape) if keep or k not in axes)
    op = REDUCED[call.layer.kind]
    if op == "ReduceSum":
        name = graph.op(op, [x.name, graph.ints(*axes)], keepdims=int(keep))
    else:
        name = graph.op(op, [x.name], axes=axes, keepdims=int(keep))
    return [Value(name, shape, None, frozenset() if 1 in axes else x.sources)]


@operation("GetItem")
def get_item(graph: Graph, call: Call) -> Sequence[Value]:
    """Write slices and single elements of axes, as ``x[:, -1]`` and ``x[:, 2:, :4]`` say them."""
    call.only()
    x, key = call.x, call.extra[1] if len(call.extra) == 2 else None
    parts = key if isinstance(key, list) else [key]
    if not parts or len(parts) > x.rank:
        call.settings.refuse(f"its key has {len(parts)} parts for {x.text()}")
    graph.mixes_steps(x)
    taken: list[int] = []
    for axis, part in enumerate(parts):
        if isinstance(part, int) and not isinstance(part, bool):
            if axis == 0:
                call.settings.refuse("it takes one sequence of the batch; take steps or features")
            x = sliced(graph, x, axis, part, part + 1 or None)
            taken.append(axis)
            continue
        start, stop, step = _slice(call, part)
        if axis == 0 and (start, stop, step) != (None, None, 1):
            call.settings.refuse("it slices the batch; take steps or features")
        x = sliced(graph, x, axis, start, stop, step)
    if not taken:
        return [x]
    shape = tuple(size for k, size in enumerate(x.shape) if k not in taken)
    name = graph.op("Squeeze", [x.name, graph.ints(*taken)])
    return [Value(name, shape, None, frozenset() if 1 in taken else x.sources)]


def _slice(call: Call, part: Any) -> tuple[int | None, int | None, int]:
    if isinstance(part, Mapping) and part.get("class_name") == "__slice__" and isinstance(part.get("config"), Mapping):
        found = [part["config"].get(name) for name in ("start", "stop", "step")]
        if all(v is None or type(v) is int for v in found) and found[2] != 0:
            return found[0], found[1], 1 if found[2] is None else found[2]
    raise call.settings.refusal(f"its key {part!r:.60} is not supported; expected numbers and slices")
