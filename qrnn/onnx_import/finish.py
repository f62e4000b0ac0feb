"""The end of an import: the outputs, the layers that they depend on, and the checks that need the whole model."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import onnx

from qrnn.errors import UnsupportedError
from qrnn.model.aligning import with_aligned
from qrnn.model.float_model import Cache, FloatModel, GraphInput, GraphOutput, TensorInfo
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.last_steps import LastSteps
from qrnn.model.kinds.running import Running
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.model.kinds.spread import Spread
from qrnn.model.layer import Layer
from qrnn.model.states import state_pairs
from qrnn.model.time import TIME as AXIS
from qrnn.onnx_import.affine import with_affine_folded
from qrnn.onnx_import.budget import BudgetError
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.joined_steps import with_joined_steps
from qrnn.onnx_import.memory import with_memory
from qrnn.onnx_import.outputs import check_carried_states, graph_output
from qrnn.onnx_import.problems import Problems
from qrnn.onnx_import.steps import check_joined
from qrnn.onnx_import.tensor_maker import Names
from qrnn.onnx_import.values import (
    BATCH,
    POISON,
)

_log = logging.getLogger(__name__)


def finished(
    graph: onnx.GraphProto,
    build: Builder,
    values: dict[str, Any],
    problems: Problems,
    opset: int,
    name: str,
    source_sha256: str,
) -> FloatModel:
    """Make the outputs, remove unused layers, and run the checks that need the whole model."""
    caches = build.caches
    outputs = _outputs(graph, build, values, problems)
    problems.raise_if_any()
    check_carried_states(build, outputs, problems)
    _check_lengths(build, problems)
    problems.raise_if_any()
    read = {tensor for o in outputs for tensor, _, _ in o.parts}
    layers = _named_layers(build, read)
    named = {t for layer in layers for t in layer.outputs} | {t for o in outputs for t, _, _ in o.parts}
    graph_inputs = [
        replace(i, vocabulary=build.vocabulary.get(i.name, 0), axis=_axis_of(build, i)) for i in build.inputs.values()
    ]
    tensors = {
        t.name: TensorInfo(t.features, t.has_time)
        for t in build.book.tensors
        if t.kind in ("features", "tokens") or (t.name in named and t.kind in ("layer", "h_n", "c_n"))
    }
    model = FloatModel(
        name=name,
        inputs=tuple(graph_inputs),
        layers=tuple(layers),
        outputs=tuple(outputs),
        tensors=tensors,
        source_sha256=source_sha256,
        opset=opset,
        one_step=build.one_step,
        notes=tuple(dict.fromkeys(build.notes)),
        caches=tuple(
            Cache(name, caches.pairs[name], tuple(value.ids.shape), value.axes.index(BATCH))
            for name, (_, value) in caches.tensors.items()
        ),
    )
    for note in model.notes:
        _log.info("%s: %s", name, note)
    check_joined(model)
    _check_pairs(model, build)
    return with_aligned(with_memory(model, build.stream))


def _outputs(graph: onnx.GraphProto, build: Builder, values: dict[str, Any], problems: Problems) -> list[GraphOutput]:
    """Return the graph's outputs but for those that give caches on, which are checked; what is refused is noted in ``problems``."""
    outputs = []
    caches = build.caches
    held = {caches.pairs[name]: name for name in caches.tensors}
    for declared in graph.output:
        value = values.get(declared.name)  # None: an initializer that no node reads
        try:
            if declared.name in held:
                caches.finish(held[declared.name], value, build.book, build.one_step)
            elif value is not POISON:
                outputs.append(graph_output(build, declared.name, value))
        except BudgetError:
            raise
        except UnsupportedError as error:
            problems.refuse(str(error))
    return outputs


def _named_layers(build: Builder, read: set[str]) -> list[Layer]:
    """Return the layers behind the tensors that outputs ``read``, with constants folded into them and a name of its own for each."""
    layers = with_affine_folded(_live_layers(build.layers, set(read)), read, build.budget.value)
    names = Names()
    return [layer.renamed(names.unique(layer.name)) for layer in with_joined_steps(build, _live_layers(layers, read))]


def _check_pairs(model: FloatModel, build: Builder) -> None:
    """Raise UnsupportedError where an output that is named for a state does not give it on."""
    caches, carried = build.caches, state_pairs(model)
    for name, output in caches.pairs.items():
        if name not in caches.tensors and carried.get(name) != output:
            raise UnsupportedError(
                f"state '{name}={output}': the graph does not give input '{name}' on by output '{output}'; leave this state out, or name the "
                "output that holds its next value"
            )


def _axis_of(build: Builder, given: GraphInput) -> str:
    """Return the name of an input's time axis; of lengths, that of the axis whose steps they count."""
    axis = given.axis
    if given.kind == "lengths":
        axis = next((name for node in build.lengths_of if node.lengths == given.name for name in node.over), axis)
    return build.first_axis if axis == AXIS else axis


def _live_layers(layers: list[Layer], wanted: set[str]) -> list[Layer]:
    """Return the layers that the outputs depend on; a Dense whose bias moved into its successor is dropped here."""
    live = []
    for layer in reversed(layers):
        if wanted.intersection(layer.outputs):
            live.append(layer)
            wanted.update(layer.inputs)
    return live[::-1]


def _check_lengths(build: Builder, problems: Problems) -> None:
    """Require one sequence_lens for each time axis; a node without it may only run forward, where padding comes last."""
    counted: dict[frozenset[str], set[str]] = {}
    for node in build.lengths_of:
        if node.lengths is not None:
            counted.setdefault(node.over, set()).add(node.lengths)
    for given in counted.values():
        if len(given) > 1:
            problems.refuse(f"inputs {sorted(given)} are all sequence_lens; only one for each time axis is supported")
    if not counted:
        return
    if any(isinstance(layer, (AttentionPool, Running, RunningNorm, SequenceNorm, Spread)) for layer in build.layers):
        build.notes.append(
            "what is reduced over time are each sequence's own steps, where the graph reduces its padded ones too"
        )
    if any(isinstance(layer, LastSteps) for layer in build.layers):
        build.notes.append(
            "steps that count from the end do so from each sequence's own, where the graph counts padded ones"
        )
    if any(not lengths for _, lengths in build.twins.values()):
        build.notes.append(
            "what is reversed are each sequence's own steps, where the graph reverses its padded ones too"
        )
    if any(isinstance(layer, LastStep) and layer.output not in build.own_last for layer in build.layers):
        build.notes.append("the last step is each sequence's own last one, where the graph takes the last padded one")
    for node in (node for node in build.lengths_of if node.over in counted):
        if node.lengths is None and node.reverse:
            problems.refuse(
                f"{node.where}: runs in reverse without sequence_lens while other nodes have it; re-export with it everywhere"
            )
        elif node.lengths is None:
            build.notes.append(f"{node.where} has no sequence_lens; here its padding is ignored as in the other layers")
