"""Build a `FloatModel` from handles: collect the layers that the outputs depend on, order them and name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import place
from qrnn.layers.tensors import Network, Node, Recurrent, Tensor, Tokens, tensor_name
from qrnn.model.aligning import with_aligned
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput, TensorInfo


def model(name: str, outputs: Mapping[str, Tensor | tuple[Tensor, ...]]) -> FloatModel:
    """Return the model that computes ``outputs``, a mapping from graph output name to tensor.

    Several tensors under one name stand side by side, feature after feature. The model's graph inputs are those that the outputs depend on.
    Layers keep their names; those without one are called by their kind and numbered. Raises DataError when two things share a name, and
    UnsupportedError for a model without a recurrent layer.
    """
    where = place("model", name)
    if not isinstance(outputs, Mapping) or not outputs:
        raise DataError(f"{where}: outputs is {outputs!r}, expected a mapping from names to tensors")
    parts = {key: _parts(where, key, value) for key, value in outputs.items()}
    nodes, graph_inputs = _collect(t for tensors in parts.values() for t in tensors)
    names = _names(where, nodes, graph_inputs)

    def tensor(t: Tensor | Tokens) -> str:
        if isinstance(t, Tokens) or isinstance(t.source, GraphInput):
            return t.name
        return tensor_name(names[t.source], t.slot)

    layers = tuple(node.make(names[node], tuple(tensor(t) for t in node.inputs)) for node in nodes)
    if not any(layer.keeps_state for layer in layers):
        raise UnsupportedError(f"{where} has no layer with a state, such as lstm or gru, on the way to its outputs")
    shapes = {i.name: TensorInfo(i.features, i.has_time) for i in graph_inputs if i.kind == "features"}
    for node in nodes:
        for slot, info in node.writes.items():
            written = tensor_name(names[node], slot)
            if written in shapes:
                raise DataError(f"{where}: two tensors are called {written!r}; give their layers other names")
            shapes[written] = info
    graph_outputs = tuple(_output(key, [(tensor(t), t) for t in tensors]) for key, tensors in parts.items())
    made = FloatModel(name, tuple(graph_inputs), layers, graph_outputs, shapes)
    _check_lengths(where, made)
    return with_aligned(made)


def _check_lengths(where: str, made: FloatModel) -> None:
    """Raise DataError where a layer or an output joins tensors that have different numbers of steps."""
    joined = [(f"layer {layer.name!r}", names) for layer in made.layers for names in layer.joined]
    joined += [(f"output {o.name!r}", tuple(name for name, _, _ in o.parts)) for o in made.outputs]
    for what, names in joined:
        rules = {name: made.length_rules[name] for name in names if name in made.length_rules}
        if len(set(rules.values())) > 1:
            lengths = ", ".join(f"{name!r} has {rule} steps" for name, rule in rules.items())
            raise DataError(f"{where}: {what} joins tensors of different lengths: {lengths}; take both at one rate")


def _parts(where: str, key: Any, value: Any) -> tuple[Tensor, ...]:
    if not isinstance(key, str) or not key:
        raise DataError(f"{where}: output name {key!r}, expected a text that is not empty")
    tensors = value if isinstance(value, tuple) else (value,)
    for t in tensors:
        if isinstance(t, (Recurrent, Network)):
            raise DataError(f"{where}: output {key!r} is a whole layer; give one of its tensors, as .output")
        if not isinstance(t, Tensor):
            raise DataError(f"{where}: output {key!r} is {type(t).__name__}, expected a Tensor of qrnn.layers")
        if isinstance(t.source, GraphInput):
            raise UnsupportedError(f"{where}: output {key!r} passes the input {t.name!r} through; leave it out")
    if len({t.has_time for t in tensors}) != 1:
        raise UnsupportedError(f"{where}: output {key!r} joins tensors with and without a time axis, or none")
    return tensors


def _collect(tensors: Iterable[Tensor]) -> tuple[list[Node], list[GraphInput]]:
    """Return the layers and graph inputs that ``tensors`` depend on; each layer comes after those that it reads."""
    nodes: list[Node] = []
    graph_inputs: list[GraphInput] = []
    seen: set[int] = set()
    # A stack of its own: recursion would limit the number of layers.
    stack: list[Node | GraphInput] = [t.source for t in reversed(list(tensors))]
    while stack:
        source = stack[-1]
        needed = [t.source for t in (*source.inputs, *source.states)] if isinstance(source, Node) else []
        missing = [s for s in needed if id(s) not in seen]
        if missing:
            stack.append(missing[0])
            continue
        stack.pop()
        if id(source) in seen:
            continue
        seen.add(id(source))
        if isinstance(source, Node):
            nodes.append(source)
        else:
            graph_inputs.append(source)
    return nodes, graph_inputs


def _names(where: str, nodes: list[Node], graph_inputs: list[GraphInput]) -> dict[Node, str]:
    """Return a name for every layer, different from all others and from the graph inputs."""
    taken: set[str] = set()
    for given in (*(i.name for i in graph_inputs), *(node.name for node in nodes if node.name is not None)):
        if given in taken:
            raise DataError(f"{where}: two layers or inputs are called {given!r}; give each a name of its own")
        taken.add(given)
    names: dict[Node, str] = {}
    for node in nodes:
        own, number = node.name or node.kind, 1
        while node.name is None and own in taken:
            number += 1
            own = f"{node.kind}_{number}"
        taken.add(own)
        names[node] = own
    return names


def _output(name: str, tensors: list[tuple[str, Tensor]]) -> GraphOutput:
    parts, start = [], 0
    for tensor, t in tensors:
        parts.append((tensor, np.arange(t.features), np.arange(start, start + t.features)))
        start += t.features
    has_time = tensors[0][1].has_time
    return GraphOutput(name, (start,), has_time, tuple(parts), time_axis=1 if has_time else None)
