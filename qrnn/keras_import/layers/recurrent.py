"""Recurrent layers: LSTM, GRU and SimpleRNN, their cells in RNN, stacks of cells, and Bidirectional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qrnn.keras_import.config import LayerConfig, Paths, layer_config
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.reshaping import sliced
from qrnn.keras_import.layers.sequences import Cell, Run, read_cell, run, state_count
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Mask, Value
from qrnn.keras_import.weights import Weights

KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}


@dataclass(frozen=True)
class Layer:
    """What a recurrent layer's config says beside its cells."""

    name: str
    cells: tuple[Cell, ...]
    sequences: bool
    states: bool
    backwards: bool
    stateful: bool
    zero_masked: bool


def read_layer(config: LayerConfig, settings: Settings, weights: Weights, features: int | None, version: str) -> Layer:
    """Return a recurrent layer with its weights; ``features`` is the size of its input."""
    if features is None:
        settings.refuse("the number of features that it reads is open; give the input a fixed one")
    flags = [
        settings.flag(key, False)
        for key in ("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask")
    ]
    cells: list[Cell] = []
    if config.kind in KINDS:
        cells.append(read_cell(KINDS[config.kind], settings, weights.child("cell"), features, version))
    elif config.kind == "RNN":
        for own, part in _cells(config, settings, weights):
            inner = Settings(f"{config.where}: cell '{own.name}' ({own.kind})", own.config)
            if own.kind not in CELLS:
                inner.refuse(f"cells of this class are not supported; expected one of {', '.join(CELLS)}")
            cells.append(read_cell(CELLS[own.kind], inner, part, cells[-1].units if cells else features, version))
            inner.finish()
    else:
        settings.refuse(f"layers of this class are not supported here; expected one of {', '.join(KINDS)}, RNN")
    return Layer(config.name, tuple(cells), *flags)


def _cells(config: LayerConfig, settings: Settings, weights: Weights) -> list[tuple[LayerConfig, Weights]]:
    """Return the cells of an RNN layer, of which there may be several in a stack."""
    outer = layer_config(settings.child("cell"), config.where)
    if outer.kind != "StackedRNNCells":
        return [(outer, weights.child("cell", outer.name))]
    stack = Settings(f"{config.where}: cell", outer.config)
    entries = stack.take("cells")
    if not isinstance(entries, list) or not entries:
        stack.damaged("it has no cells")
    if stack.take("reverse_state_order"):
        stack.refuse("reverse_state_order=True is not supported; save the model without it")
    stack.finish()
    paths, found = Paths(), []
    for entry in entries:
        own = layer_config(entry, config.where)
        found.append((own, weights.child("cell", outer.name).child(f"cells/{paths.next(own.kind)}", own.name)))
    return found


def _given_states(call: Call) -> list[Value]:
    """Return the initial states that a layer is called with: an argument, or the values behind its input."""
    states = [*call.inputs[1:]]
    given = call.argument("initial_state")
    if given is not None:
        states += list(given) if isinstance(given, (list, tuple)) else [given]
    flat: list[Value] = []
    for state in states:
        flat += state if isinstance(state, list) else [state]
    if any(not isinstance(state, Value) for state in flat):
        call.settings.refuse("its initial state holds something else than values of the graph")
    return flat


def _state_rows(call: Call, layers: Sequence[Layer], given: Sequence[Value]) -> list[Sequence[Value] | None]:
    """Return the initial states of each cell of each direction, None where they are zeros."""
    counts = [state_count(cell) for own in layers for cell in own.cells]
    if not given:
        return [None] * len(counts)
    if len(given) != sum(counts):
        call.settings.refuse(f"it is called with {len(given)} initial states, expected {sum(counts)}")
    found: list[Sequence[Value] | None] = []
    for count in counts:
        found.append(given[:count])
        given = given[count:]
    return found


def _remember(graph: Graph, call: Call, own: Layer) -> None:
    graph.stateful[call.layer.name] = own.stateful or graph.stateful.get(call.layer.name, False)
    graph.mixes_steps(call.inputs[0])


def _sequence_mask(call: Call, own: Layer) -> Mask | None:
    """Return the mask of a layer's results over time."""
    mask = call.inputs[0].mask
    if mask is None or not own.sequences:
        return None
    if own.backwards:
        call.settings.refuse(
            "go_backwards=True with return_sequences=True turns masked steps to the front; use Bidirectional, or no mask"
        )
    return replace(mask, repeats=not own.zero_masked)


@layer(*KINDS, "RNN", keeps_mask=True)
def recurrent(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a layer in one direction; a stack of cells is as many layers."""
    call.only("initial_state")
    x = call.first
    own = read_layer(call.layer, call.settings, call.weights, x.features, graph.keras_version)
    _remember(graph, call, own)
    mask = _sequence_mask(call, own)
    states: list[Value] = []
    # Every cell of a stack but the last gives its steps to the next one. A stack that runs backwards turns its input once.
    turned = own.backwards and len(own.cells) > 1
    steps = sliced(graph, x, 1, -1, None, -1) if turned else x
    for k, (cell, initial) in enumerate(zip(own.cells, _state_rows(call, [own], _given_states(call)), strict=True)):
        found = run(graph, steps, [Run(cell, own.backwards and not turned, initial)])
        states += found.states[0]
        steps = found.sequence(0)
        last = found.states[0][0]
        if k + 1 == len(own.cells) and own.sequences and own.backwards and not turned:
            steps = sliced(graph, steps, 1, -1, None, -1)
    result = steps.with_mask(mask) if own.sequences else last
    return [result, *states] if own.states else [result]


@layer("Bidirectional", keeps_mask=True)
def bidirectional(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a layer in both directions, and what joins their results."""
    call.only("initial_state")
    settings, x = call.settings, call.first
    forward, backward = _directions(graph, call)
    merge = settings.choice("merge_mode", ("concat", "sum", "ave", "mul", None), "concat")
    for own in (forward, backward):
        _remember(graph, call, own)
    if forward.backwards or not backward.backwards or len(forward.cells) != 1 or len(backward.cells) != 1:
        settings.refuse("expected one cell for each direction, and go_backwards=True for the backward layer alone")
    if (forward.sequences, forward.states) != (backward.sequences, backward.states):
        settings.refuse("its two layers differ in return_sequences or return_state")
    first, second = _state_rows(call, [forward, backward], _given_states(call))
    runs = [Run(forward.cells[0], False, first), Run(backward.cells[0], True, second)]
    mask = x.mask if forward.sequences else None
    both = run(graph, x, runs) if runs[0].fits(runs[1]) else None
    found = [both, both] if both is not None else [run(graph, x, [runs[0]]), run(graph, x, [runs[1]])]
    places = (0, 1) if both is not None else (0, 0)
    if both is not None and merge == "concat":
        joined = [both.joined() if forward.sequences else both.joined_last()]
    else:
        parts = [
            f.sequence(p) if forward.sequences else f.states[p][0]
            for f, p in zip(found, places, strict=True)
            if f is not None
        ]
        joined = parts if merge is None else [_merged(graph, call, merge, parts)]
    states = [state for f, p in zip(found, places, strict=True) if f is not None for state in f.states[p]]
    results = [value.with_mask(mask) for value in joined]
    return [*results, *states] if forward.states else results


def _merged(graph: Graph, call: Call, merge: str, parts: Sequence[Value]) -> Value:
    """Return the results of both directions joined; ``merge`` is one of Keras's merge modes."""
    a, b = parts
    if merge == "concat":
        features = None if a.features is None or b.features is None else a.features + b.features
        return graph.apply("Concat", a, b.name, shape=(*a.shape[:-1], features), axis=a.rank - 1)
    if a.features != b.features:
        call.settings.damaged(f"merge_mode={merge!r} joins {a.features} and {b.features} units")
    made = graph.apply("Mul" if merge == "mul" else "Add", a, b.name)
    return graph.apply("Mul", made, graph.number(0.5)) if merge == "ave" else made


def _directions(graph: Graph, call: Call) -> tuple[Layer, Layer]:
    """Return the two layers of a Bidirectional; without a config of its own, the backward layer has the forward layer's."""
    entry = call.settings.child("layer")
    other = call.settings.take("backward_layer")
    layers = []
    for name, path, given in (("forward", "forward_layer", entry), ("backward", "backward_layer", other or entry)):
        own = layer_config(given, call.layer.where)
        settings = Settings(f"{call.layer.where}: its {name} layer '{own.name}' ({own.kind})", own.config)
        hint = own.name if other is not None or name == "forward" else f"backward_{own.name.removeprefix('forward_')}"
        if other is None and name == "forward" and not own.name.startswith("forward_"):
            hint = f"forward_{own.name}"
        made = read_layer(own, settings, call.weights.child(path, hint), call.inputs[0].features, graph.keras_version)
        settings.finish()
        layers.append(made if other is not None or name == "forward" else replace(made, backwards=not made.backwards))
    return layers[0], layers[1]
