"""Describe an ONNX file, refused or not: what its inputs and outputs were taken for, its layers, what is refused, what calibration needs."""

from __future__ import annotations

import keyword
import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput
from qrnn.model.given_lengths import lengths_names
from qrnn.model.lateness import stream_facts
from qrnn.model.layer_sizes import kind_text, multiply_adds, parameters
from qrnn.model.states import initial_states, state_pairs
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.parts.cut import Cut, cut_model, import_cut
from qrnn.onnx_import.parts.whole import Whole
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.roles import InputRole
from qrnn.onnx_import.source import Source, operators_of, read_onnx

CALIBRATION_FILE = "calibration.npz"

WINDOWED = frozenset(["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
"""The operators whose second axis are channels."""

UNKNOWN = "?"

HELD = "past steps or features"
"""What an axis of a cache other than the batch stands for."""


def inspect_onnx(
    path: str | os.PathLike[str],
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    cut_from: Sequence[str] = (),
    cut_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what there is to know of an .onnx file before it is converted; see `inspect_source`."""
    return inspect_source(read_onnx(path), stream, state, values, cut_from, cut_to)


def inspect_source(
    source: Source,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    cut_from: Sequence[str] = (),
    cut_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what there is to know of the file of a trained model before it is converted, as plain values for JSON.

    Options are as for `load_onnx`; with cuts it is the part between them that is described. A file that is refused is described as far as
    it was understood, with all problems under ``refused``. Raises `ModelFileError` for a file that is missing or damaged.
    """
    cut = cut_model(Whole(source), cut_from, cut_to) if cut_from or cut_to else None
    graph = (source.model if cut is None else cut.model.model).graph
    model: FloatModel | None = None
    refused: tuple[str, ...] = ()
    roles: Mapping[str, InputRole] = {}
    try:
        if cut is None:
            model = source.imported(stream, state, values)
        else:
            model = import_cut(cut, stream, state, values)
    except UnsupportedError as error:
        refused, roles = error.problems, error.roles
    found = {
        "name": source.name,
        "source_sha256": source.sha256,
        "producer": f"{source.model.producer_name} {source.model.producer_version}".strip(),
        "opset": next((int(o.version) for o in source.model.opset_import if o.domain in DEFAULT_DOMAINS), None),
        "supported": model is not None,
        "refused": list(refused),
        "operators": source.operators if cut is None else operators_of(graph),
        **({} if cut is None else {"cut": _cut(cut, model)}),
    }
    given = _graph_inputs(graph)
    if model is None:
        calibration = _calibration(_roughly(given, roles))
        return {
            **found,
            "inputs": [_refused_input(graph, info, roles.get(info.name)) for info in given],
            "outputs": [{"name": info.name, "declared": _declared(info)} for info in graph.output],
            "calibration": calibration,
        }
    return {
        **found,
        "one_step": model.one_step,
        "inputs": [_input(graph, info, model) for info in given],
        "outputs": [_output(info, model) for info in graph.output],
        **_layers(model),
        "notes": list(model.notes),
        "stream": stream_facts(model),
        "calibration": _calibration(model.inputs),
    }


def _cut(cut: Cut, model: FloatModel | None) -> dict[str, Any]:
    """Return where a graph is cut, with both layouts of the tensors there, and what the files before and behind the cut take and give."""
    places: dict[str, GraphInput | GraphOutput] = {}
    if model is not None:
        named = (*cut.cut_from, *cut.cut_to)
        places.update({i.name: i for i in model.inputs if i.name in named})
        places.update({o.name: o for o in model.outputs if o.name in named})
    return {
        "from": list(cut.cut_from),
        "to": list(cut.cut_to),
        "data": {name: _data_shape(place) for name, place in places.items()},
        "others": {
            word: {
                "inputs": [{"name": i.name, "declared": _declared(i)} for i in _graph_inputs(part.graph)],
                "outputs": [{"name": o.name, "declared": _declared(o)} for o in part.graph.output],
            }
            for word, part in cut.others.items()
        },
    }


def _data_shape(place: GraphInput | GraphOutput) -> list[int | str]:
    """Return the axes of an array of data, which are batch first."""
    rows = isinstance(place, GraphInput) and place.rows
    return ["N", *(["T"] if place.has_time and not rows else []), *place.shape]


# The graph's own inputs and outputs


def _graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that are no initializers."""
    constants = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in constants]


def _declared(info: onnx.ValueInfoProto) -> list[int | str] | None:
    """Return the shape that the file declares: numbers, and names of sizes that it leaves open; None where it declares none."""
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return [
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else (dim.dim_param or UNKNOWN)
        for dim in kind.shape.dim
    ]


def _type(info: onnx.ValueInfoProto) -> str:
    try:
        return str(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
    except (KeyError, TypeError, ValueError):  # no type, or one that NumPy has not
        return UNKNOWN


def _axes(rank: int, batch: int | None, time: int | None, others: Sequence[str]) -> list[str]:
    """Return what each axis of a tensor stands for; ``others`` are what the axes beside batch and time stand for, in their order."""
    left = iter(others)
    return ["batch" if k == batch else "time" if k == time else next(left, UNKNOWN) for k in range(rank)]


def _feature_axes(graph: onnx.GraphProto, name: str, rank: int, batch: int | None, time: int | None) -> list[str]:
    """Return what the axes of an input beside batch and time stand for: channels where a convolution or a pool reads it as it is."""
    windowed = any(node.op_type in WINDOWED and name in node.input[:1] for node in graph.node)
    return ["channels" if windowed and k == 1 else "features" for k in range(rank) if k not in (batch, time)]


def _state_axes(model: FloatModel, name: str) -> list[str]:
    """Return what the axes of a state input beside the batch stand for, by which elements the layers begin with."""
    shape = next(given.shape for given in model.inputs if given.name == name)
    starts: dict[str, list[Any]] = {}
    for layer in model.recurrent_layers:
        for state, final, _ in initial_states(layer):
            if state.source == name and state.indices is not None:
                starts.setdefault(final, []).append(np.array(np.unravel_index(state.indices, shape)))
    named = []
    for k in range(len(shape)):
        if any((places[k] != places[k, 0]).any() for own in starts.values() for places in own):
            named.append("features")
            continue
        first = {final: [int(places[k, 0]) for places in own] for final, own in starts.items()}
        cells = [(first.get(layer.h_n), first.get(str(layer.c_n))) for layer in model.recurrent_layers]
        if any(h is not None and c is not None and h != c for h, c in cells):
            named.append("h and c")
        else:
            named.append("directions" if any(len(set(found)) > 1 for found in first.values()) else "layers")
    if len(shape) == 1 or "features" in named:
        return named
    return [*["layers"] * (len(shape) - 1), "features"]  # a state of one unit


def _input(graph: onnx.GraphProto, info: onnx.ValueInfoProto, model: FloatModel) -> dict[str, Any]:
    declared = _declared(info)
    rank = len(declared or ())
    entry = {"name": info.name, "type": _type(info), "declared": declared}
    for cache in model.caches:
        if cache.input == info.name:
            axes = _axes(rank, cache.batch_axis, None, [HELD] * (rank - 1))
            return {**entry, "kind": "cache", "axes": axes, "carried_by": cache.output}
    for taken in model.inputs:
        if taken.name == info.name:
            batch, time = taken.batch_axis, taken.time_axis
            of_state = taken.kind == "state"
            others = _state_axes(model, info.name) if of_state else _feature_axes(graph, info.name, rank, batch, time)
            axes = _axes(rank, batch, time, others)
            more = {"carried_by": state_pairs(model).get(info.name)} if of_state else {}
            vocabulary = {"vocabulary": taken.vocabulary} if taken.kind == "tokens" else {}
            return {**entry, "kind": taken.kind, "axes": axes, **more, **vocabulary}
    return {**entry, "kind": "not used", "axes": [UNKNOWN] * rank}


def _refused_input(graph: onnx.GraphProto, info: onnx.ValueInfoProto, role: InputRole | None) -> dict[str, Any]:
    declared = _declared(info)
    entry = {"name": info.name, "type": _type(info), "declared": declared}
    rank = len(declared or ())
    if role is None or role.batch is None:
        kind = UNKNOWN if role is None or role.kind == "features" else role.kind
        return {**entry, "kind": kind, "axes": [UNKNOWN] * rank}
    others = _feature_axes(graph, info.name, rank, role.batch, role.time)
    if role.kind == "state":
        others = [*["layers"] * (rank - 2), "features"]
    return {**entry, "kind": role.kind, "axes": _axes(rank, role.batch, role.time, others)}


def _output(info: onnx.ValueInfoProto, model: FloatModel) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": info.name, "declared": _declared(info)}
    for cache in model.caches:
        if cache.output == info.name:
            rank = len(cache.shape)
            axes = _axes(rank, cache.batch_axis, None, [HELD] * (rank - 1))
            return {**entry, "kind": "cache", "axes": axes, "carries": cache.input}
    output = next(o for o in model.outputs if o.name == info.name)
    carried = next((name for name, by in state_pairs(model).items() if by == info.name), None)
    rank = len(output.shape) + 1 + (output.time_axis is not None)
    kind = "state" if carried is not None else "result"
    others = _state_axes(model, carried) if carried is not None else ["features"] * rank
    axes = _axes(rank, output.batch_axis, output.time_axis, others)
    return {**entry, "kind": kind, "axes": axes, "carries": carried, "steps": _steps(output, model)}


def _steps(output: GraphOutput, model: FloatModel) -> str | None:
    """Return how many steps an output over time has, for a sequence of T; None for one without time."""
    rules = (model.length_rules[name] for name, _, _ in output.parts if name in model.length_rules)
    return str(next(rules, "T")) if output.has_time and not model.rows else None


# What the model is made of


def _layers(model: FloatModel) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    total = Fraction(0)
    for layer in model.layers:
        read = [model.tensors[name].features if name in model.tensors else 1 for name in layer.inputs]
        rule = next((model.length_rules[name] for name in layer.outputs if name in model.length_rules), None)
        products = multiply_adds(layer)
        total += products * rule.bound[0] if rule is not None else 0
        layers.append(
            {
                "name": layer.name,
                "kind": kind_text(layer),
                "reads": list(layer.inputs),
                "features_in": read,
                "features_out": model.tensors[layer.outputs[0]].features if layer.outputs[0] in model.tensors else None,
                "steps": str(rule) if rule is not None and not model.rows else None,
                "parameters": parameters(layer),
                "multiply_adds": products,
            }
        )
    return {
        "layers": layers,
        "parameters": sum(int(layer["parameters"]) for layer in layers),
        "multiply_adds_of_a_step": float(total),
    }


# The calibration file


def _roughly(given: Iterable[onnx.ValueInfoProto], roles: Mapping[str, InputRole]) -> tuple[GraphInput, ...]:
    """Return the inputs of a refused graph as far as their roles were found."""
    found = []
    for info in given:
        role, declared = roles.get(info.name), _declared(info)
        if role is None or role.kind == "weight" or role.batch is None or declared is None:
            continue
        shape = tuple(size for k, size in enumerate(declared) if k not in (role.batch, role.time))
        if all(isinstance(size, int) for size in shape):
            sizes = tuple(int(size) for size in shape)
            found.append(GraphInput(info.name, role.kind, sizes, role.time is not None))
    return tuple(found)


def _calibration(inputs: tuple[GraphInput, ...]) -> dict[str, Any]:
    """Return the arrays of the file that ``qrnn convert --calibration`` takes, and the line of NumPy that writes them."""
    arrays = []
    for given in inputs:
        steps = ["T" if given.axis == "time" else f"T[{given.axis}]"] if given.has_time and not given.rows else []
        whole = given.kind in ("tokens", "lengths")
        what = {
            "features": "typical values",
            "tokens": f"tokens of 0 to {given.vocabulary - 1}" if given.vocabulary else "tokens",
            "lengths": "the valid steps of each sequence; all of them where it is left out",
            "state": "initial states; zeros where it is left out",
        }[given.kind]
        arrays.append(
            {
                "key": given.name,
                "shape": ["N", *steps, *given.shape],
                "dtype": "int64" if whole else "float32",
                "required": given.kind in ("features", "tokens"),
                "what": what,
            }
        )
    timed = any(given.has_time and not given.rows for given in inputs)
    if timed and not any(given.kind == "lengths" for given in inputs):
        what = "the valid steps of each sequence, where some are padded; all of them where it is left out"
        lengths = {"shape": ["N"], "dtype": "int64", "required": False, "what": what}
        arrays += [{"key": key, **lengths} for key in lengths_names(inputs)]
    required = [str(array["key"]) for array in arrays if array["required"]]
    return {"file": CALIBRATION_FILE, "arrays": arrays, "numpy": _numpy_line(required) if required else None}


def _numpy_line(keys: list[str]) -> str:
    """Return the call of NumPy that writes arrays under ``keys``, from variables of the same names as far as these can be names."""
    plain = [key for key in keys if key.isidentifier() and not keyword.iskeyword(key)]
    others = [f"{key!r}: {''.join(c if c.isalnum() else '_' for c in f'x_{key}')}" for key in keys if key not in plain]
    arguments = [f"{key}={key}" for key in plain] + ([f"**{{{', '.join(others)}}}"] if others else [])
    return f"np.savez({CALIBRATION_FILE!r}, {', '.join(arguments)})"
