"""Graph outputs, and the check that a final state is carried to the state input that it came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.problems import Problems
from qrnn.onnx_import.values import BATCH, MERGED, TIME, Banded, Features, Tensor, TensorKind

FINAL = ("h_n", "c_n")

MOST_NAMED = 10
"""The most state inputs that a message names."""


SHOWN: frozenset[TensorKind] = frozenset(["features", "layer", "h_n", "c_n"])
"""The kinds of tensors that a graph output may give."""

NAMED: frozenset[TensorKind] = frozenset(["weights", "reversed", "integers"])
"""The kinds that an output may not give for reasons of their own."""


def graph_output(build: Builder, name: str, value: Any) -> GraphOutput:
    """Return a graph output by the tensors that fill it, features in the order of its own axes without batch and time."""
    if not isinstance(value, Features):
        raise UnsupportedError(f"output '{name}' is a constant; re-export without it")
    merged = next((place for place, axis in enumerate(value.axes) if axis in MERGED), None)
    if merged is not None:
        build.notes.append(
            f"output '{name}' {value.describe()} has batch and time as one axis; here it has two, [N, T, …], as every output over time"
        )
        value = apart(value, merged)
    value = _rows_apart(build, value)
    if any(isinstance(axis, Banded) for axis in value.axes):
        raise UnsupportedError(
            f"output '{name}' {value.describe()} merges the batch and features to one axis; re-export with both as separate axes there"
        )
    if BATCH not in value.axes and build.baked[BATCH] == {1} and value.shape[:1] == (1,) and build.batch is not None:
        value = Features(value.ids, (BATCH, *value.axes[1:]))  # it was merged with other axes before
    if BATCH not in value.axes and build.batch is not None:
        raise UnsupportedError(
            f"output '{name}' {value.describe()} has no batch axis; re-export with the batch axis kept"
        )
    shape = tuple(size for size, axis in zip(value.ids.shape, value.axes, strict=True) if axis is None)
    flat = value.ids.reshape(-1)
    parts = build.book.parts(flat)
    kinds = {p.tensor.kind for p in parts}
    if not flat.size:
        raise UnsupportedError(f"output '{name}' {value.describe()} is empty; re-export without it")
    if "scores" in kinds:
        raise UnsupportedError(
            f"output '{name}' gives the weights of an attention over steps, a number for each pair of steps; re-export without it"
        )
    if kinds - SHOWN - NAMED:
        raise UnsupportedError(f"output '{name}' passes an input, a constant or padding through; re-export without it")
    if "weights" in kinds:
        raise UnsupportedError(
            f"output '{name}' gives a softmax over time, which is known only at the end of a sequence; re-export without it"
        )
    if "reversed" in kinds:
        raise UnsupportedError(
            f"output '{name}' gives steps in reverse; re-export without the last reversal and reverse the output yourself"
        )
    if "integers" in kinds:
        raise UnsupportedError(
            f"output '{name}' gives the integers of a quantized graph; re-export with DequantizeLinear before it"
        )
    if build.one_step and not kinds <= set(FINAL):
        flat = _every_step(flat, build)
        parts = build.book.parts(flat)
    has_time = {p.tensor.has_time for p in parts}
    if len(has_time) > 1:
        raise UnsupportedError(
            f"output '{name}' joins tensors with and without a time axis; re-export them as separate outputs"
        )
    return GraphOutput(
        name,
        shape,
        has_time.pop(),
        tuple((p.tensor.name, p.indices, p.positions) for p in parts),
        batch_axis=value.axes.index(BATCH) if BATCH in value.axes else None,
        time_axis=value.axes.index(TIME) if TIME in value.axes else None,
        merged=merged is not None,
    )


def _rows_apart(build: Builder, value: Features) -> Features:
    """Return a value of a graph of one sequence, whose batch of 1 is merged with bands, with an axis of size 1 as the batch.

    The bands are then features: [1, N·F, H] with N = 1, as the states of a layer for each band are.
    """
    ones = [k for k, axis in enumerate(value.axes) if axis is None and value.ids.shape[k] == 1]
    rows = [axis.factors == (BATCH,) for axis in value.axes if isinstance(axis, Banded)]
    if rows != [True] or not ones or BATCH in value.axes or 1 not in build.baked[BATCH]:
        return value
    axes = [None if isinstance(axis, Banded) else axis for axis in value.axes]
    axes[ones[-1]] = BATCH
    return Features(value.ids, tuple(axes))


def apart(value: Features, place: int) -> Features:
    """Return a value whose axis ``place`` batch and time are merged to, with both as axes of their own."""
    both = MERGED[value.axes[place]]  # type: ignore[index]
    return Features(np.expand_dims(value.ids, place), (*value.axes[:place], *both, *value.axes[place + 1 :]))


def _every_step(flat: IndexArray, build: Builder) -> IndexArray:
    """Replace h_n beside per-step values, in a graph of one step per call, by that step's output."""
    result = flat.copy()
    for part in build.book.parts(flat):
        steps = part.tensor.steps
        if part.tensor.kind == "h_n" and steps is not None:
            result[part.positions] = part.indices + steps.start
    return result


def check_carried_states(build: Builder, outputs: list[GraphOutput], problems: Problems) -> None:
    """Refuse an output of final states, shaped like a state input, that is not carried to it element by element.

    A caller who feeds such an output back would get a wrong state. State inputs that another output is carried to are not meant, nor, in a
    graph of whole sequences, outputs of layers that no state input starts.
    """
    by_name = {t.name: t for t in build.book.tensors}
    states = [i for i in build.inputs.values() if i.kind == "state"]
    started = set().union(*build.carries.values())
    finals: dict[str, IndexArray] = {}
    for output in outputs:
        if all(by_name[tensor].kind in FINAL for tensor, _, _ in output.parts):
            ids = finals[output.name] = np.empty(output.features, dtype=np.int64)
            for tensor, indices, positions in output.parts:
                ids[positions] = indices + by_name[tensor].start
    shape = {output.name: output.shape for output in outputs}
    starts = {final: element for element, carried_to in build.carries.items() for final in carried_to}
    first = {by_name[state.name].start: state for state in states}
    carried = {
        (name, state.name)
        for name, ids in finals.items()
        if (state := first.get(starts.get(int(ids[0]), -1)))
        is not None  # the only one that may start with this element
        and state.shape == shape[name]
        and _lines_up(build, by_name[state.name], ids)
    }
    done = {name for pair in carried for name in pair}
    left: dict[tuple[int, ...], list[str]] = {}
    for state in states:
        if state.name not in done:
            left.setdefault(state.shape, []).append(state.name)
    for name, ids in finals.items():
        alike = left.get(shape[name], [])
        if name not in done and alike and (build.one_step or not started.isdisjoint(ids.tolist())):
            names = " or ".join(f"'{state}'" for state in alike[:MOST_NAMED])
            problems.refuse(
                f"output '{name}' has the shape of state input {names} but other states at its positions, so it cannot be carried "
                "to the next call; re-export with the final states in the order of the initial ones"
            )


def _lines_up(build: Builder, state: Tensor, ids: IndexArray) -> bool:
    return all(int(final) in build.carries.get(state.start + p, ()) for p, final in enumerate(ids))
