"""Decide which states a graph of one step per call keeps from one call to the next.

ONNX has no memory: a call knows of the one before only what its caller gives back. So a layer carries its states where they are inputs and
outputs of the graph, which the caller connects. Any other layer begins every call with the same states, unless the user asks for a memory
that the graph does not show (``stream``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.states import initial_states, state_pairs

REMEDY = "convert with --stream (load_onnx(…, stream=True)) for a model that remembers from step to step"


def with_memory(model: FloatModel, stream: bool) -> FloatModel:
    """Return ``model`` with the memory of each recurrent layer decided, and a note of it.

    UnsupportedError for a layer of which only a part of the states is carried.
    """
    if not model.one_step:
        return model
    pairs = state_pairs(model)
    recurrent = [layer for layer in model.layers if isinstance(layer, Recurrent) and layer.keeps_state]
    if stream:
        note = "the graph runs one time step per call; here it runs whole sequences"
        if any(state.source not in pairs for layer in recurrent for state, _, _ in initial_states(layer)):
            note += ", and states that the graph starts anew at every call are carried from step to step (--stream)"
        return _noted(model, note)
    _refuse_shared(recurrent, pairs)
    forgetful = [layer for layer in recurrent if not _remembers(layer, pairs)]
    if not forgetful:
        return _noted(model, "the graph runs one time step per call; here it runs whole sequences")
    names = {layer.name for layer in forgetful}
    layers = tuple(
        replace(layer, memory=False) if isinstance(layer, Recurrent) and layer.name in names else layer
        for layer in model.layers
    )
    rows = len(forgetful) == len(recurrent) and not model.caches
    inputs = tuple(replace(i, rows=rows and i.has_time) for i in model.inputs)
    sources = sorted(
        {s.source for layer in forgetful for s, _, _ in initial_states(layer) if s.source is not None} - pairs.keys()
    )
    given = (
        f"the values given for {', '.join(map(repr, sources))} (zeros where none are)" if sources else "the same state"
    )
    if rows:
        note = f"the graph runs one time step per call and keeps nothing between calls: every row [N, …] is computed by itself, from {given}"
    else:
        listed = ", ".join(layer.name for layer in forgetful)
        note = (
            "the graph runs one time step per call; here it runs whole sequences, in which layers whose states are not inputs and outputs "
            f"of the graph ({listed}) begin every step with {given}"
        )
    return _noted(replace(model, layers=layers, inputs=inputs), f"{note}; {REMEDY}")


def _noted(model: FloatModel, note: str) -> FloatModel:
    return replace(model, notes=(note, *model.notes))


def _remembers(layer: Recurrent, pairs: dict[str, str]) -> bool:
    """Return whether every state of the layer is carried; UnsupportedError where only some are."""
    carried = [state.source in pairs for state, _, _ in initial_states(layer)]
    if all(carried):
        return True
    if not any(carried):
        return False
    kept = sorted({str(s.source) for s, _, _ in initial_states(layer) if s.source in pairs})
    raise UnsupportedError(
        f"layer '{layer.name}' ({layer.cell.upper()}) gives out a part of its states for the next call (input {', '.join(map(repr, kept))}) "
        f"and starts the rest anew; re-export with all of its states as inputs and outputs, or {REMEDY}"
    )


def _refuse_shared(recurrent: list[Recurrent], pairs: dict[str, str]) -> None:
    """Raise UnsupportedError where a state that one layer carries is also the initial state of another."""
    starts = Counter(
        (state.source, int(index))
        for layer in recurrent
        for state, _, _ in initial_states(layer)
        if state.source is not None and state.indices is not None
        for index in state.indices
    )
    for (source, _), count in starts.items():
        if count > 1 and source in pairs:
            raise UnsupportedError(
                f"state input '{source}' starts {count} states, of which output '{pairs[source]}' gives one on to the next call; re-export "
                f"with a state input for each, or {REMEDY}"
            )
