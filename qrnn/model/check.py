"""A whole quantized model is checked here: its layers fit together, its tensors have the formats that the layers say, every sum is proved.

Model files are untrusted. A model that passes is one that `qrnn.quantize` could have made of an imported or written network: no backend can
index outside an array, and all of them give the same values. Each dataclass has checked its own arrays before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qrnn.model.check_formats import LayerChecks, check_formats, fail
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.given_lengths import time_axes
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_graph import QuantGraph
from qrnn.model.time import LengthRule

LARGEST_FEATURES = 1 << 20
"""The most features of one step, of one tensor or one graph input, as in the ONNX importer: buffers are made by them."""


def check_model(model: QuantGraph) -> None:
    """Check all that a model must pass to exist: `check_graph` and then `check_formats`. Raises ModelFileError."""
    check_graph(model)
    check_formats(model)


def check_complete(model: QuantGraph) -> None:
    """Raise ModelFileError for a model without a layer with a state or without an output.

    No file may hold such a model, but tests run parts of models alone.
    """
    if not model.layers_with_states:
        fail("layers", "none is recurrent")
    if not model.outputs:
        fail("outputs", "there are none")


def check_graph(model: QuantGraph) -> None:
    """Check that every tensor is written once before it is read, with its reader's shape, and that indices lie inside their tensors.

    Raises ModelFileError, which names the place.
    """
    tensors = model.tensors
    known = {i.name for i in model.inputs if i.kind in ("features", "tokens")}
    tokens = {i.name for i in model.inputs if i.kind == "tokens"}
    cells = {name for layer in model.layers for name in layer.cells}
    _check_places(model)
    if len({layer.name for layer in model.layers}) != len(model.layers):
        fail("layers", "two have the same name")  # backends keep their packed weights by it
    for graph_input in model.inputs:
        _check_input(f"input {graph_input.name}", graph_input, tensors)
    _check_memory(model)
    for layer in model.layers:
        where = f"layer {layer.name}"
        for name in layer.inputs:
            if name not in known:
                fail(where, f"reads {name!r} before it is written")
            if (name in cells and name not in layer.reads_cells) or (name in tokens and not layer.reads_tokens):
                fail(where, f"cannot read {name!r}")
        layer.check(LayerChecks(where, model))
        for names in layer.joined:
            if len({model.length_rules[name] for name in names if name in model.length_rules}) > 1:
                fail(where, "reads tensors of different lengths")
        for name in layer.outputs:
            if name in known or name not in tensors:
                fail(where, f"writes {name!r} twice or without a format")
            known.add(name)
    if unwritten := sorted(tensors.keys() - known):
        fail(f"tensor {unwritten[0]}", "nothing writes it")
    if model.one_step:
        _check_one_step(model)
    for output in model.outputs:
        _check_output(output, known - tokens, tensors, model.length_rules)


def _check_places(model: QuantGraph) -> None:
    """Check the names, shapes and axes of the graph's inputs and outputs."""
    places: tuple[tuple[str, tuple[GraphInput, ...] | tuple[GraphOutput, ...]], ...]
    places = (("input", model.inputs), ("output", model.outputs))
    for side, values in places:
        for value in values:
            where = f"{side} {value.name}"
            if any(size < 1 for size in value.shape) or value.features > LARGEST_FEATURES:
                fail(where, f"shape {list(value.shape)}, expected sizes from 1 and at most {LARGEST_FEATURES} features")
            axes = [axis for axis in (value.batch_axis, value.time_axis) if axis is not None]
            rank = len(value.shape) + len(axes)
            if len(set(axes)) != len(axes) or not all(0 <= axis < rank for axis in axes):
                fail(where, f"batch and time at the axes {axes} of {rank}")
            if value.time_axis is not None and not value.has_time:
                fail(where, "has a time axis and no time")
            if isinstance(value, GraphOutput) and value.merged and not (len(axes) == 2 and abs(axes[0] - axes[1]) == 1):
                fail(where, f"batch and time merged of the axes {axes}, expected two side by side")
        if len({value.name for value in values}) != len(values):
            fail(f"{side}s", "two have the same name")
    timed = time_axes(model.inputs)
    counted = [i.axis for i in model.inputs if i.kind == "lengths"]
    if len(set(counted)) != len(counted):
        fail("inputs", "two hold lengths")
    if not set(counted) <= set(timed):
        fail("inputs", f"the lengths of {counted[0]!r}, expected those of one of {list(timed)}")


def _check_input(where: str, graph_input: GraphInput, tensors: Mapping[str, TensorFormat]) -> None:
    kind = graph_input.kind
    if kind in ("tokens", "lengths") and graph_input.shape != ():
        fail(where, f"{kind} of shape {list(graph_input.shape)}, expected one for each place")
    if (graph_input.vocabulary >= 1) != (kind == "tokens") or graph_input.vocabulary < 0:
        fail(where, f"vocabulary {graph_input.vocabulary} of an input of kind {kind}")
    if kind in ("state", "lengths"):
        if graph_input.has_time:
            fail(where, "has a time axis")
        return
    fmt = tensors.get(graph_input.name)
    if fmt is None:
        fail(where, "has no format")
    elif (fmt.features, fmt.has_time) != (graph_input.features, graph_input.has_time):
        fail(where, "shape and format disagree")


def _check_memory(model: QuantGraph) -> None:
    """Check that layers without memory are only in graphs of one step, and that the inputs are rows exactly where no layer has memory."""
    remembers = [layer.memory for layer in model.recurrent_layers if layer.states()]
    if not all(remembers) and not model.one_step:
        fail("layers", "one has no memory in a graph that runs whole sequences")
    if not all(remembers) and any(layer.by_steps for layer in model.layers):
        fail("layers", "one has no memory beside one that keeps earlier steps")
    rows = bool(remembers) and not any(remembers)
    for i in model.inputs:
        if i.rows != (rows and i.has_time):
            fail(f"input {i.name}", f"rows={i.rows}, but the layers {'have no' if rows else 'have'} memory")


def _check_one_step(model: QuantGraph) -> None:
    """Check that a graph of one step per call runs forward and reads no last step."""
    for i in model.inputs:
        if i.kind in ("features", "tokens") and not i.has_time:
            fail(f"input {i.name}", "has no time in a graph of one step per call")
    last = {name for layer in model.layers for name in layer.last_steps}
    for layer in model.layers:
        if layer.whole_sequences or last & set(layer.inputs):
            fail(f"layer {layer.name}", "needs whole sequences in a graph of one step per call")


def _check_output(
    output: GraphOutput, readable: set[str], tensors: Mapping[str, TensorFormat], rules: Mapping[str, LengthRule]
) -> None:
    """Check that an output's parts read inside their tensors, and write every feature once."""
    where = f"output {output.name}"
    written = np.zeros(output.features, np.int64)
    for name, indices, positions in output.parts:
        fits = indices.ndim == 1 and indices.shape == positions.shape
        if name not in readable or tensors[name].has_time != output.has_time or not fits:
            fail(where, f"cannot read {name!r}")
        if output.has_time and rules[name] != rules[output.parts[0][0]]:
            fail(where, "has parts of different lengths")
        if len(indices) == 0 or indices.min() < 0 or indices.max() >= tensors[name].features:
            fail(where, f"reads outside {name!r}")
        if positions.min() < 0 or positions.max() >= output.features:
            fail(where, "writes outside its shape")
        np.add.at(written, positions, 1)
    if (written != 1).any():
        fail(
            where,
            f"{int((written > 0).sum())} of {output.features} features are written, {int((written > 1).sum())} more than once",
        )


def prove(model: QuantGraph) -> dict[str, int]:
    """Return the largest accumulator bound of each matrix by its name; QuantizationError names the row whose bound is not below 2^31."""
    return {m.name: m.matrix.prove(f"layer {m.name}", m.gates) for m in model.matrices}
