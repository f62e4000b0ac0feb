"""A graph output may carry a graph's state input on from one call to the next; which one does so is found here."""

from __future__ import annotations

from collections.abc import Iterator

from qrnn.errors import DataError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.quant_model import QuantModel


def initial_states(layer: Recurrent) -> Iterator[tuple[InitialState, str, int]]:
    """Iterate over each h_0 and c_0 of a layer, with the tensor of its final state and the first feature there."""
    for number, d in enumerate(layer.directions):
        yield d.h_0, layer.h_n, number * layer.output_size
        if d.c_0 is not None and layer.c_n is not None:
            yield d.c_0, layer.c_n, number * layer.hidden_size


def state_pairs(model: FloatModel) -> dict[str, str]:
    """Return, for each graph state input, the graph output that carries it on: the one that holds all of its final states in its order.

    The two may have different shapes, such as [1, H] and [H]. In a graph of one step per call the Y of an LSTM is its h after that step: a
    graph output of Y carries h on where c comes out too, which shows that the graph gives its states out.
    """
    home: dict[tuple[str, int], tuple[str, int]] = {}  # (final-state tensor, feature) → (state input, position)
    steps: dict[tuple[str, int], tuple[str, int]] = {}  # the same for Y, as h after the only step
    for layer in model.layers:
        if not isinstance(layer, Recurrent):
            continue
        for state, tensor, first in initial_states(layer):
            if state.source is None or state.indices is None:
                continue
            for unit, position in enumerate(state.indices):
                home[tensor, first + unit] = (state.source, int(position))
                if tensor == layer.h_n:
                    steps[layer.output, first + unit] = (state.source, int(position))
    pairs = _pairs(model, home)
    if model.one_step:
        cells = {
            layer.output
            for layer in model.layers
            if isinstance(layer, Recurrent)
            and layer.c_n is not None
            and all(d.c_0 is not None and d.c_0.source in pairs for d in layer.directions)
        }
        pairs = _pairs(model, {key: place for key, place in steps.items() if key[0] in cells}) | pairs
    return pairs


def check_same_source(real: FloatModel, quantized: QuantModel) -> None:
    """Raise DataError where ``quantized`` was converted from another file than ``real`` was read from, if both name theirs."""
    source = quantized.provenance.source_sha256
    if source and real.source_sha256 and source != real.source_sha256:
        raise DataError(
            f"the quantized model was made from another file (SHA-256 {source[:12]}…) than {real.name!r} "
            f"({real.source_sha256[:12]}…); give its own source"
        )
    if real.section != quantized.provenance.section:
        made, given = (str(section or "the whole graph") for section in (quantized.provenance.section, real.section))
        raise DataError(
            f"the quantized model was made of the graph {made}, and this one is of the graph {given}; cut both alike"
        )


def check_same_memory(real: FloatModel, quantized: QuantModel) -> None:
    """Raise DataError where one of two models of one graph remembers from step to step what the other does not."""
    outputs = [[(o.name, o.features, o.has_time) for o in m.outputs] for m in (real, quantized)]
    if outputs[0] != outputs[1]:
        raise DataError(
            "the two models' outputs differ: an earlier version of qrnn read the one step of this graph as a sequence; convert it again"
        )
    remembers = {layer.name: layer.memory for layer in real.layers if isinstance(layer, Recurrent)}
    for layer in quantized.recurrent_layers:
        if remembers.get(layer.name, layer.memory) != layer.memory:
            which = (
                ("the quantized model", "the float model")
                if layer.memory
                else ("the float model", "the quantized model")
            )
            raise DataError(
                f"layer {layer.name!r} remembers from step to step in {which[0]} and not in {which[1]}; load the ONNX file with "
                f"load_onnx(path, stream={layer.memory})"
            )


def _pairs(model: FloatModel, home: dict[tuple[str, int], tuple[str, int]]) -> dict[str, str]:
    """Return the output of each state input, for ``home``, which maps (tensor, feature) to (state input, position)."""
    sizes = {i.name: i.features for i in model.inputs}
    pairs: dict[str, str] = {}
    for output in model.outputs:
        targets = {
            (*home.get((tensor, int(index)), ("", -1)), int(position))
            for tensor, indices, positions in output.parts
            for index, position in zip(indices, positions, strict=True)
        }
        sources = {source for source, _, _ in targets}
        lines_up = len(sources) == 1 and "" not in sources and all(a == b for _, a, b in targets)
        if lines_up and sizes[source := sources.pop()] == output.features:
            pairs.setdefault(source, output.name)
    return pairs
