"""Divide a graph into parts in float and in integers: which nodes the importer refuses, and which a user names, decides it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qrnn.errors import UnsupportedError
from qrnn.hybrid.model import RANDOM_OPERATORS
from qrnn.hybrid.probed_types import learn_types
from qrnn.model.float_model import FloatModel
from qrnn.model.states import state_pairs
from qrnn.onnx_import.budget import Budget, BudgetError
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.graph import import_checked
from qrnn.onnx_import.parts.extract import PartGraph, extract
from qrnn.onnx_import.parts.flow import Flow, graphs_of
from qrnn.onnx_import.parts.levels import between, divided, within
from qrnn.onnx_import.parts.whole import Whole
from qrnn.onnx_import.problems import SEPARATOR
from qrnn.onnx_import.roles import InputRole
from qrnn.onnx_import.source import read_onnx

MOST_TRIES = 64
"""The most divisions that are tried; each leaves more nodes in float than the one before."""

MOST_REASONS = 8
"""The most reasons that are kept for a float part; the others are counted."""

NO_RECURRENCE = "no recurrent layer is among these nodes"


@dataclass(frozen=True)
class DividedPart:
    """A part of a graph: ``model`` is what it is imported as, None for a part in float, of which ``why`` says why it is."""

    graph: PartGraph
    model: FloatModel | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Division:
    """A graph in parts; or as one ``whole_model``, where nothing is left in float."""

    whole: Whole
    parts: tuple[DividedPart, ...]
    roles: Mapping[str, InputRole]
    whole_model: FloatModel | None = None


@dataclass(frozen=True)
class _Options:
    """How the integer parts are imported; see `qrnn.load_onnx`."""

    stream: bool
    state: Mapping[str, str]
    values: Mapping[str, FixedValue]
    arrays: Mapping[str, Any]
    window: int | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays."""
        return {name: np.shape(value) for name, value in self.arrays.items()}


def divide(
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    auto: bool,
    stream: bool,
    state: Mapping[str, str],
    values: Mapping[str, FixedValue],
    arrays: Mapping[str, Any],
    window: int | None,
) -> Division:
    """Read an .onnx file and divide it; see `qrnn.convert_with_float_parts`."""
    whole = Whole(read_onnx(path))
    flow, source = whole.flow, whole.source
    options = _Options(stream, state, values, arrays, window)
    flow.check_known(names, "--float-parts")
    why = dict.fromkeys(between(flow, names), "left in float on purpose, by --float-parts " + ", ".join(names))
    roles: Mapping[str, InputRole] = {}
    carried = dict(state)
    refused: UnsupportedError | None = None
    try:
        model = import_checked(
            source.model, source.name, source.sha256, source.budget, stream, state, values, options.shapes, window
        )
        carried |= {**state_pairs(model), **{c.input: c.output for c in model.caches}}
    except BudgetError:
        raise
    except UnsupportedError as error:
        refused, roles = error, error.roles
        if auto:
            why.update((k, message) for k, message in _of_nodes(flow, error) if k not in why)
    if not why and refused is None:
        return Division(whole, (), roles, model)
    if not why and refused is not None:
        raise refused
    for _ in range(MOST_TRIES):
        found = _tried(whole, why, auto, options, carried)
        if isinstance(found, tuple):
            return Division(whole, found, roles)
        why.update(found)
    raise UnsupportedError(
        f"model '{source.name}' was not divided in {MOST_TRIES} tries; name tensors by --float-parts"
    )


def _of_nodes(flow: Flow, error: UnsupportedError) -> Iterator[tuple[int, str]]:
    """Yield the nodes that an error is about, each with its message."""
    for name, message in error.nodes.items():
        for k in within(flow, [name]):
            yield k, message


def _tried(
    whole: Whole, why: Mapping[int, str], auto: bool, options: _Options, carried: Mapping[str, str]
) -> tuple[DividedPart, ...] | dict[int, str]:
    """Return the parts where ``why`` names the nodes in float; or further nodes to leave in float, as parts in integers are refused."""
    flow, source = whole.flow, whole.source
    sets = divided(flow, set(why))
    if all(in_float for in_float, _ in sets):
        reasons = _reasons(flow, why, range(len(flow.nodes)))
        raise UnsupportedError(
            f"model '{source.name}': nothing of it can be in integers with these float parts ({SEPARATOR.join(reasons)})"
        )
    crossing = {n for k in flow.live for n in flow.values_read(k) if n in flow.maker and _apart(sets, k, flow.maker[n])}
    learn_types(whole, sorted(crossing), options.arrays, options.values)
    graphs: list[PartGraph] = []
    needed = set(flow.outputs)
    for number, (_, nodes) in reversed(list(enumerate(sets, 1))):
        made = [o for k in sorted(nodes) for o in flow.nodes[k].output if o in needed]
        graphs.insert(0, extract(whole, nodes, made, f"{whole.model.graph.name} part {number}"))
        needed.update(graphs[0].inputs)
    lost = needed - {o for g in graphs for o in g.outputs} - set(flow.inputs)
    lost |= {o for o in flow.outputs if not any(o in g.outputs for g in graphs)}
    if lost:
        raise UnsupportedError(f"output '{min(lost)}' is a constant or an input of the graph; re-export without it")
    parts = []
    for (in_float, nodes), graph in zip(sets, graphs, strict=True):
        if in_float:
            _check_float(graph, carried, flow)
            parts.append(DividedPart(graph, None, _reasons(flow, why, nodes)))
            continue
        try:
            model = _imported(whole, graph, options)
        except BudgetError:
            raise
        except UnsupportedError as error:
            if not error.recurs:
                return dict.fromkeys(nodes, NO_RECURRENCE)
            more = {k: message for k, message in _of_nodes(flow, error) if k in nodes}
            if auto and more:
                return more
            hint = "" if auto else "; --float-parts auto leaves what is refused in float too"
            raise UnsupportedError(f"{error}{hint}", error.problems, error.roles) from None
        if not any(layer.keeps_state for layer in model.layers):
            return dict.fromkeys(nodes, NO_RECURRENCE)
        parts.append(DividedPart(graph, model, ()))
    _check_alike([part.model for part in parts if part.model is not None])
    return tuple(parts)


def _apart(sets: Sequence[tuple[bool, set[int]]], a: int, b: int) -> bool:
    """Return whether two nodes are in different parts."""
    return not any(a in nodes and b in nodes for _, nodes in sets)


def _reasons(flow: Flow, why: Mapping[int, str], nodes: Sequence[int] | set[int]) -> tuple[str, ...]:
    """Return the reasons why nodes are in float; what stands beside these is in float with them."""
    found = list(dict.fromkeys(why[k] for k in sorted(nodes) if k in why and why[k] != NO_RECURRENCE))
    found = found or list(dict.fromkeys(why[k] for k in sorted(nodes) if k in why))
    more = len(found) - MOST_REASONS
    return (*found[:MOST_REASONS], *([f"and {more} more"] if more > 0 else []))


def _imported(whole: Whole, graph: PartGraph, options: _Options) -> FloatModel:
    source = whole.source
    state = {i: o for i, o in options.state.items() if i in graph.inputs and o in graph.outputs}
    values = {
        name: value
        for name, value in options.values.items()
        if name in graph.inputs or name.split("[")[0] in graph.inputs or name in _free_sizes(graph.model)
    }
    budget = Budget(graph.model.ByteSize())
    window = options.window
    model = import_checked(
        graph.model, source.name, source.sha256, budget, options.stream, state, values, options.shapes, window
    )
    if model.one_step and not options.stream:
        carried = state_pairs(model)
        for given in model.inputs:
            if given.kind == "state" and given.name not in carried and given.name in whole.flow.inputs:
                raise UnsupportedError(
                    f"state '{given.name}': no output of the same part of the graph gives it on to the next call; name other tensors by "
                    "--float-parts, or carry every state by --stream"
                )
    return model


def _free_sizes(model: onnx.ModelProto) -> set[str]:
    return {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim if d.dim_param}


def _check_float(graph: PartGraph, state: Mapping[str, str], flow: Flow) -> None:
    """Refuse what a float part cannot do: draw random numbers, and keep a state from one step to the next."""
    for node in _all_nodes(graph.model.graph):
        if node.op_type in RANDOM_OPERATORS:
            raise UnsupportedError(
                f"node '{node.name or node.output[0]}' ({node.op_type}) draws random numbers, so that no run of a float part would be like "
                "another; export the model for inference"
            )
    for given, output in state.items():
        if given in graph.inputs:
            raise UnsupportedError(
                f"state '{given}={output}' is one of a float part, and float parts keep nothing from step to step; leave this part to "
                "integers, or cut the graph by --from and --to and carry the state outside"
            )
    sizes = {i.name: [(d.dim_value, d.dim_param) for d in i.type.tensor_type.shape.dim] for i in _infos(flow)}
    for given in graph.inputs:
        for made in graph.outputs:
            if (
                given in flow.inputs
                and made in flow.outputs
                and sizes[given] == sizes[made]
                and _called_states(given, made)
            ):
                raise UnsupportedError(
                    f"input '{given}' and output '{made}' are a state of a float part, and float parts keep nothing from step to step; leave "
                    "this part to integers, or cut the graph by --from and --to and carry the state outside"
                )


def _infos(flow: Flow) -> Iterator[onnx.ValueInfoProto]:
    yield from flow.graph.input
    yield from flow.graph.output


def _called_states(*names: str) -> bool:
    """Return whether all names are those that exporters give to states."""
    words = ("state", "cache", "buf", "hidden", "hist", "memory")
    return all(any(word in name.lower() for word in words) for name in names)


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from _all_nodes(inner)


def _check_alike(models: Sequence[FloatModel]) -> None:
    """Refuse parts of which one runs a step per call and another one sequences."""
    if len({model.one_step for model in models}) > 1:
        raise UnsupportedError(
            "of the parts in integers one runs one time step per call and another one whole sequences; name other tensors by --float-parts"
        )
