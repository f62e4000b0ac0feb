"""Data for a model that was cut out of a graph: arrays of the cut tensors, or of the whole graph's inputs, from which these are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.inputs import carried_inputs
from qrnn.hybrid.model import FloatPart
from qrnn.hybrid.places import Known, input_place
from qrnn.hybrid.runtime import Runtime
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput
from qrnn.model.given_lengths import RESERVED
from qrnn.model.user_values import as_array
from qrnn.onnx_import.parts.cut import Cut


def computed(cut: Cut) -> tuple[str, ...]:
    """Return the tensors at which the cut begins and that the graph before it computes."""
    return tuple(name for name in cut.cut_from if name in cut.whole.flow.maker and name in cut.model.inputs)


def takes(cut: Cut, names: Iterable[str]) -> bool:
    """Return whether arrays of these names are for the cut model as it is, and not for the inputs of the whole graph."""
    return cut.before is None or not computed(cut) or bool(set(computed(cut)) & set(names))


def cut_data(
    cut: Cut, model: FloatModel, arrays: Mapping[str, Any], values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return arrays for ``model``, which is the middle of ``cut``.

    ``arrays`` are batch first. Those that hold a cut tensor are for the model as they are. Others hold the inputs of the whole graph, whose
    part before the cut is run by ONNX Runtime: one step per call where the graph takes one, else each sequence by itself, as long as its
    ``lengths`` say. ``values`` fixes inputs of the graph, as in `qrnn.load_onnx`. Raises DataError for arrays that are missing or do not fit,
    and BackendError without ONNX Runtime.
    """
    if takes(cut, arrays) or cut.before is None:
        return dict(arrays)
    flow, before = cut.whole.flow, cut.before
    fixed = {name: value for name, value in (values or {}).items() if name in before.inputs}
    known = Known(
        cut.whole.types, model.one_step, any(i.batch_axis is None for i in model.inputs if i.kind == "features")
    )
    known.learn((*model.inputs, *model.outputs))
    names = [name for name in before.inputs if name not in fixed]
    own = {i.name: i for i in model.inputs}
    inputs: list[GraphInput] = []
    for name in names:
        if name not in arrays:
            raise DataError(
                f"array {name!r} is missing; expected arrays of the graph's inputs {names}, or of the cut tensors {list(computed(cut))} "
                f"(the data has {sorted(arrays)})"
            )
        place = input_place(name, known, np.shape(as_array(f"input {name!r}", arrays[name])))
        inputs.append(GraphInput(name, "features", place.shape, place.has_time, 0, place.batch_axis, place.time_axis))
    rest = {name: value for name, value in arrays.items() if name in own or name in RESERVED}
    unknown = sorted(set(arrays) - set(names) - set(rest))
    if unknown:
        raise DataError(
            f"array {unknown[0]!r} is no input of the graph {flow.inputs}; expected {names} and optionally lengths, labels"
        )
    read = {name: arrays[name] for name in names}
    if "lengths" in arrays:
        read["lengths"] = arrays["lengths"]
    carried = carried_inputs(tuple(inputs), make_batch(tuple(inputs), read))
    part = FloatPart(
        "before the cut",
        np.zeros(0, np.uint8),
        tuple(GraphOutput(i.name, i.shape, i.has_time, (), i.batch_axis, i.time_axis) for i in inputs),
        tuple(
            GraphOutput(own[n].name, own[n].shape, own[n].has_time, (), own[n].batch_axis, own[n].time_axis)
            for n in computed(cut)
            if n in own
        ),
        model.one_step,
        (),
        0.0,
        0,
        fixed,
    )
    found = Runtime(part, before.model.SerializeToString()).run(carried)
    return _with_lengths(rest, found, own)


def _with_lengths(rest: dict[str, Any], found: Mapping[str, Carried], own: Mapping[str, GraphInput]) -> dict[str, Any]:
    """Return arrays with those that were computed, and the lengths of these."""
    rest.pop("lengths", None)
    by_axis: dict[str, Any] = {}
    for name, (values, lengths) in found.items():
        rest[name] = values
        if lengths is not None:
            by_axis.setdefault(own[name].axis, lengths)
            rest[name] = values[:, : max(1, int(lengths.max(initial=0)))]
    partial = any((lengths != lengths.max()).any() for lengths in by_axis.values())
    if partial:
        rest["lengths"] = by_axis if len(by_axis) > 1 else next(iter(by_axis.values()))
    return rest
