"""Compare a model with float parts with the whole graph, which ONNX Runtime runs in float."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qrnn.accuracy.compare import count_decisions
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.decisions import Decisions
from qrnn.accuracy.probe import ErrorSum
from qrnn.backends import DEFAULT_BACKEND
from qrnn.errors import DataError
from qrnn.hybrid.carried import Carried, together
from qrnn.hybrid.inputs import as_place, carried_inputs
from qrnn.hybrid.model import FloatPart, HybridModel
from qrnn.hybrid.runtime import Runtime
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import FloatArray
from qrnn.model.time import TimeAxis
from qrnn.model.user_values import as_array
from qrnn.onnx_import.source import read_onnx
from qrnn.running.session import Session


def compare_parts(
    path: str | os.PathLike[str],
    model: HybridModel,
    data: Mapping[str, Any],
    *,
    backend: str = DEFAULT_BACKEND,
    isa: str | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Comparison:
    """Run the .onnx file ``path`` by ONNX Runtime, and the model that was converted from it, and measure their difference.

    ``data`` are arrays by graph input, batch first, optionally ``lengths`` and ``labels``. In the report the whole graph in float32 stands in
    the place of the float64 equations, and there are no figures of single layers. Raises DataError for data that do not fit, and for
    another file than the model's own.
    """
    source = read_onnx(path)
    if source.sha256 != model.source_sha256:
        raise DataError(
            f"the model was made from another file (SHA-256 {model.source_sha256[:12]}…) than {path} ({source.sha256[:12]}…); give its own "
            "source"
        )
    batch = make_batch(model.inputs, data)
    want = run_whole(path, model, batch)
    arrays = {name: value for name, value in data.items() if name not in ("lengths", "labels")}
    session = Session(model, backend, isa=isa)
    got = session.run(arrays, data.get("lengths"), progress=progress, real="float64").outputs
    labels = None if data.get("labels") is None else as_array("labels", data["labels"])
    outputs: dict[str, ErrorSum] = {}
    flat: dict[str, dict[str, FloatArray]] = {}
    axes: dict[str, TimeAxis | None] = {}
    for output in model.outputs:
        real, lengths = want[output.name]
        own = got[output.name].reshape(batch.size, *([-1] if output.has_time else []), *output.shape)
        steps = max(real.shape[1], own.shape[1]) if output.has_time else 0
        axes[output.name] = axis = None if lengths is None else TimeAxis(lengths, steps)
        shown = {"float": real, "quantized": own}
        if output.has_time:
            shown = {source: _padded(value, steps) for source, value in shown.items()}
        flat[output.name] = {
            source: value.reshape(*value.shape[: 1 + output.has_time], -1) for source, value in shown.items()
        }
        outputs[output.name] = error = ErrorSum(steps)
        error.add(flat[output.name]["float"], flat[output.name]["quantized"], None if axis is None else axis.mask)
    decisions = _decisions(model, flat, labels)
    if decisions is not None:
        count_decisions(decisions, flat[decisions.output], labels, batch.size, axes[decisions.output])
    return Comparison(
        model=model.name,
        backend=backend,
        sequences=batch.size,
        steps=int(batch.lengths.sum()),
        outputs=outputs,
        onnxruntime={},
        onnxruntime_note="",
        layers={},
        decisions=decisions,
        saturation=[],
        ranges={},
        weight_ranges={},
        random_calibration=False,
        against="the whole graph by ONNX Runtime",
    )


def _padded(value: FloatArray, steps: int) -> FloatArray:
    return np.pad(value, [(0, 0), (0, steps - value.shape[1]), *[(0, 0)] * (value.ndim - 2)])


def _decisions(model: HybridModel, flat: Mapping[str, Mapping[str, FloatArray]], labels: Any) -> Decisions | None:
    """Return the decisions of the first output that carries no state: by argmax, or by a threshold where it is one number."""
    states = set(model.pairs.values())
    output = next((o for o in model.outputs if o.name not in states), None)
    if output is None:
        return None
    values = flat[output.name]["float"]
    rule = "argmax"
    if values.shape[-1] == 1:
        rule = "threshold 0.5" if values.min(initial=0) >= 0 and values.max(initial=0) <= 1 else "threshold 0"
    at = "each step" if output.has_time else "each sequence"
    if labels is not None and output.has_time and labels.ndim == 1:
        at = "last step of each sequence"
    return Decisions(output.name, rule, at)


def run_whole(path: str | os.PathLike[str], model: HybridModel, batch: Batch) -> dict[str, Carried]:
    """Run the whole graph by ONNX Runtime, each sequence by itself, and return its outputs, batch first.

    A graph of one step per call is called for every step, with its states and caches carried from call to call.
    """
    carried = carried_inputs(model.inputs, batch)
    held = [GraphOutput(c.input, _held_shape(c.shape, c.batch_axis), False, (), c.batch_axis) for c in model.caches]
    given = [c.output for c in model.caches]
    places = {place.name: place for place in (*map(as_place, model.inputs), *held)}
    for place in places.values():
        if place.name not in carried:
            carried[place.name] = Carried(np.zeros((batch.size, *place.shape)), None)
    outputs = (
        *model.outputs,
        *(GraphOutput(name, place.shape, False, (), place.batch_axis) for name, place in zip(given, held, strict=True)),
    )
    whole = FloatPart(
        "the whole graph", np.zeros(0, np.uint8), tuple(places.values()), outputs, False, (), 0.0, 0, dict(model.values)
    )
    runtime = Runtime(whole, os.fspath(path), fill=True)
    pairs = {**model.pairs, **{c.input: c.output for c in model.caches}}
    pieces: dict[str, list[FloatArray | None]] = {o.name: [] for o in model.outputs}
    for n in range(batch.size):
        arrays = {name: c.one(n) for name, c in carried.items()}
        empty = any(a.shape[1] == 0 for name, a in arrays.items() if places[name].has_time)
        if empty:
            found: Mapping[str, FloatArray | None] = {}
        else:
            found = _steps(runtime, arrays, places, pairs) if model.one_step else runtime.call(arrays)
        for name, own in pieces.items():
            own.append(found.get(name))
    return {
        o.name: together(pieces[o.name], o.has_time, batch.steps if model.one_step else 1, o.shape)
        for o in model.outputs
    }


def _held_shape(shape: tuple[int, ...], batch_axis: int) -> tuple[int, ...]:
    return tuple(size for k, size in enumerate(shape) if k != batch_axis)


def _steps(
    runtime: Runtime,
    arrays: Mapping[str, FloatArray],
    places: Mapping[str, GraphOutput],
    pairs: Mapping[str, str],
) -> dict[str, FloatArray]:
    """Call a graph of one step per call for each step of a sequence, and return its outputs."""
    timed = [name for name in arrays if places[name].has_time]
    now = dict(arrays)
    found: dict[str, list[FloatArray]] = {}
    for t in range(min(arrays[name].shape[1] for name in timed)):
        now.update({name: arrays[name][:, t : t + 1] for name in timed})
        results = runtime.call(now)
        for name, value in results.items():
            found.setdefault(name, []).append(value)
        now.update({given: results[output].reshape(1, *places[given].shape) for given, output in pairs.items()})
    has_time = {o.name: o.has_time for o in runtime.part.outputs}
    return {name: np.concatenate(own, axis=1) if has_time[name] else own[-1] for name, own in found.items()}


def shares(model: HybridModel) -> dict[str, Any]:
    """Return, as plain values, which share of a model is integers, part by part, and why the rest is not."""
    products, weights = model.shares
    return {
        "integer_share_of_multiply_adds": products,
        "integer_share_of_weight_bytes": weights,
        "border": list(model.border),
        "streams": model.not_streamed is None,
        "why_not_streamed": model.not_streamed,
        "parts": [
            {
                "name": part.name,
                "kind": "float" if isinstance(part, FloatPart) else "integers",
                "inputs": [i.name for i in part.inputs],
                "outputs": [o.name for o in part.outputs],
                "multiply_adds": part.multiply_adds,
                "weight_bytes": part.weight_bytes,
                **({"by_steps": part.by_steps, "why": list(part.why)} if isinstance(part, FloatPart) else {}),
            }
            for part in model.parts
        ],
    }
