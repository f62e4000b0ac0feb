"""Checks of a whole quantized model: every layer finds its tensors with the right shapes, and every accumulator is proved.

Model files are untrusted: after these checks no backend can index outside an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qrnn.errors import ModelFileError
from qrnn.model.float_model import GraphInput
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import (
    QuantAdd,
    QuantConcat,
    QuantDense,
    QuantEmbedding,
    QuantLastStep,
    QuantLayer,
    QuantPointwise,
    QuantSoftmax,
    named_matrices,
)
from qrnn.model.quant_recurrent import QuantRecurrent

if TYPE_CHECKING:
    from qrnn.model.quant_model import QuantModel


def _fail(where: str, problem: str) -> None:
    raise ModelFileError(f"{where}: {problem}; the model file is damaged or was not written by qrnn")


def written_tensors(layer: QuantLayer) -> tuple[str, ...]:
    """Names of the tensors that a layer writes."""
    if isinstance(layer, QuantRecurrent):
        return (layer.output, layer.h_n) + ((layer.c_n,) if layer.c_n is not None else ())
    return (layer.output,)


def check_graph(model: QuantModel) -> None:
    """Every tensor is written once before it is read, with the shape that its reader needs; indices lie inside their tensors."""
    tensors = model.tensors
    known = {i.name for i in model.inputs if i.kind in ("features", "tokens")}
    tokens = {i.name for i in model.inputs if i.kind == "tokens"}
    cells = {layer.c_n for layer in model.recurrent_layers}  # 32 bits wide: for outputs alone
    states = {i.name: i.features for i in model.inputs if i.kind == "state"}
    for side, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            if any(size < 1 for size in value.shape):
                _fail(f"{side} {value.name}", f"shape {list(value.shape)}")
        if len({value.name for value in values}) != len(values):
            _fail(f"{side}s", "two have the same name")
    if len({layer.name for layer in model.layers}) != len(model.layers):
        _fail("layers", "two have the same name")  # backends keep their packed weights by it
    for graph_input in model.inputs:
        _check_input(f"input {graph_input.name}", graph_input, tensors)
    _check_memory(model)
    for layer in model.layers:
        where = f"layer {layer.name}"
        for name in layer.inputs:
            if name not in known:
                _fail(where, f"reads {name!r} before it is written")
            if name in cells or (name in tokens and not isinstance(layer, QuantEmbedding)):
                _fail(where, f"cannot read {name!r}")
        _check_layer(where, layer, tensors, model)
        for name in written_tensors(layer):
            if name in known or name not in tensors:
                _fail(where, f"writes {name!r} twice or without a format")
            known.add(name)
        if isinstance(layer, QuantRecurrent):
            for d in layer.directions:
                for state in (d.h_0, d.c_0):
                    if state is None or state.source is None or state.indices is None:
                        continue
                    if (
                        state.source not in states
                        or not ((state.indices >= 0) & (state.indices < states[state.source])).all()
                    ):
                        _fail(where, f"initial state reads outside {state.source!r}")
    for output in model.outputs:
        filled: set[int] = set()
        for name, indices, positions in output.parts:
            fits = indices.ndim == 1 and indices.shape == positions.shape
            if name not in known or name in tokens or tensors[name].has_time != output.has_time or not fits:
                _fail(f"output {output.name}", f"cannot read {name!r}")
            if len(indices) == 0 or indices.min() < 0 or indices.max() >= tensors[name].features:
                _fail(f"output {output.name}", f"reads outside {name!r}")
            if positions.min() < 0 or positions.max() >= output.features:
                _fail(f"output {output.name}", "writes outside its shape")
            filled |= set(positions.tolist())
        if len(filled) != output.features:
            _fail(f"output {output.name}", f"{len(filled)} of {output.features} features are written")


def _check_input(where: str, graph_input: GraphInput, tensors: Mapping[str, TensorFormat]) -> None:
    if graph_input.kind in ("state", "lengths"):
        if graph_input.has_time:
            _fail(where, "has a time axis")
        return
    fmt = tensors.get(graph_input.name)
    if fmt is None:
        _fail(where, "has no format")
    elif (fmt.features, fmt.has_time) != (graph_input.features, graph_input.has_time):
        _fail(where, "shape and format disagree")
    elif graph_input.kind == "features" and not 1 <= fmt.limit <= 32767:
        _fail(where, f"limit {fmt.limit} out of 1…32767")


def _check_memory(model: QuantModel) -> None:
    """Layers without memory are for graphs of one step; the inputs are rows where no layer has memory, and only there."""
    remembers = [layer.memory for layer in model.recurrent_layers]
    if not all(remembers) and not model.one_step:
        _fail("layers", "one has no memory in a graph that runs whole sequences")
    rows = bool(remembers) and not any(remembers)
    for i in model.inputs:
        if i.rows != (rows and i.has_time):
            _fail(f"input {i.name}", f"rows={i.rows}, but the layers {'have no' if rows else 'have'} memory")


def _check_layer(where: str, layer: QuantLayer, tensors: Mapping[str, TensorFormat], model: QuantModel) -> None:
    def expect(name: str, features: int, has_time: bool) -> None:
        fmt = tensors.get(name)
        if fmt is None or (fmt.features, fmt.has_time) != (features, has_time):
            _fail(where, f"tensor {name!r} does not have {features} features{' over time' if has_time else ''}")

    match layer:
        case QuantRecurrent():
            expect(layer.input, layer.input_size, True)
            expect(layer.output, layer.output_size * len(layer.directions), True)
            expect(layer.h_n, layer.output_size * len(layer.directions), False)
            if layer.c_n is not None:
                expect(layer.c_n, layer.hidden_size * len(layer.directions), False)
            for d in layer.directions:
                if d.projection is not None and d.projection.table is not None and layer.output_size > 65535:
                    _fail(where, f"softmax over {layer.output_size} features, at most 65535 sum within 32 bits")
        case QuantDense():
            rows, columns = layer.matrix.weight.shape
            expect(layer.input, columns, tensors[layer.input].has_time)
            expect(layer.output, rows, tensors[layer.input].has_time)
        case QuantPointwise() | QuantSoftmax():
            if not (0 <= layer.in_frac <= 15):
                _fail(where, f"in_frac {layer.in_frac} out of 0…15")
            if isinstance(layer, QuantSoftmax) and tensors[layer.input].features > 65535:
                _fail(where, f"{tensors[layer.input].features} features, at most 65535 sum within 32 bits")
            expect(layer.output, tensors[layer.input].features, tensors[layer.input].has_time)
        case QuantLastStep():
            expect(layer.input, tensors[layer.input].features, True)
            expect(layer.output, tensors[layer.input].features, False)
        case QuantEmbedding():
            vocabulary = {i.name: i.vocabulary for i in model.inputs if i.kind == "tokens"}
            if vocabulary.get(layer.input) != layer.table.shape[0]:
                _fail(where, f"table has {layer.table.shape[0]} rows, expected the vocabulary of {layer.input!r}")
            expect(layer.output, layer.table.shape[1], tensors[layer.input].has_time)
        case QuantConcat():
            if not layer.parts or layer.output not in tensors:
                _fail(where, f"reads nothing or writes {layer.output!r} without a format")
            for part in layer.parts:
                outside = (
                    part.indices.ndim != 1
                    or len(part.indices) == 0
                    or part.indices.min() < 0
                    or part.indices.max() >= tensors[part.tensor].features
                )
                if outside or not 0 <= part.in_frac <= 15 or not 0 <= layer.out_frac <= 15:
                    _fail(where, f"reads outside {part.tensor!r}")
                expect(part.tensor, tensors[part.tensor].features, tensors[layer.output].has_time)
            expect(layer.output, sum(len(p.indices) for p in layer.parts), tensors[layer.output].has_time)
        case QuantAdd():
            for name in (layer.right, layer.output):
                expect(name, tensors[layer.left].features, tensors[layer.left].has_time)


def prove(model: QuantModel) -> dict[str, int]:
    """Layer and matrix → the largest accumulator bound, each below 2^31 (QuantizationError names the row that is not)."""
    return {name: matrix.prove(f"layer {name}", rows) for name, matrix, rows in named_matrices(model.layers)}
