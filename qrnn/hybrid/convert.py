"""Convert an ONNX model of which parts stay in float."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import inliner

from qrnn.conversion import RANDOM, quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError, QuantizationError, UnsupportedError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.division import DividedPart, Division, divide
from qrnn.hybrid.inputs import as_place, carried_inputs, model_inputs, part_data
from qrnn.hybrid.model import FloatPart, HybridModel, IntegerPart, Part
from qrnn.hybrid.multiply_adds import multiply_adds as graph_multiply_adds
from qrnn.hybrid.multiply_adds import weight_bytes
from qrnn.hybrid.places import Known, computes_by_steps, output_places
from qrnn.hybrid.runtime import Runtime
from qrnn.model.axes import to_graph
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import FloatModel, GraphOutput
from qrnn.model.given_lengths import RESERVED
from qrnn.model.layer_sizes import multiply_adds
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.states import state_pairs
from qrnn.model.user_values import as_array, check_mapping
from qrnn.onnx_import.control import FixedValue
from qrnn.quantization.scheme import Scheme

AUTO = "auto"
"""The word that leaves in float what the importer refuses."""

CHUNK = 64
"""Sequences that the float64 equations run at a time, which bounds their memory."""


@dataclass(frozen=True)
class Converted:
    """What `convert_with_float_parts` made. ``real`` and ``data`` are the float model and the calibration arrays of each integer part."""

    model: HybridModel | QuantModel
    real: Mapping[str, FloatModel]
    data: Mapping[str, Mapping[str, Any]]


def convert_with_float_parts(
    path: str | os.PathLike[str],
    calibration: Mapping[str, Any],
    float_parts: Sequence[str] = (AUTO,),
    scheme: Scheme | None = None,
    target: str = "generic",
    *,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    window: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> HybridModel | QuantModel:
    """Convert an .onnx file of which parts stay in float, run by ONNX Runtime on the host.

    ``float_parts`` holds the word ``"auto"``, which leaves in float what cannot be integers, or names of tensors, or both: all that a named
    tensor depends on stays in float, and of named tensors that depend on each other, what lies between them. ``calibration`` has
    arrays of the graph's own inputs, batch first. Other options are as for `qrnn.load_onnx` and `qrnn.quantize`.

    Returns a `QuantModel` where nothing is left in float. Raises `UnsupportedError` for names that the graph does not have, for a graph of
    which nothing can be integers, and for what is refused where ``"auto"`` is not given; BackendError without ONNX Runtime, and what
    `qrnn.quantize` raises.
    """
    made = convert(path, calibration, float_parts, scheme, target, stream, state, values, window, progress)
    return made.model


def convert(
    path: str | os.PathLike[str],
    calibration: Mapping[str, Any] | str,
    float_parts: Sequence[str],
    scheme: Scheme | None,
    target: str,
    stream: bool,
    state: Mapping[str, str] | None,
    values: Mapping[str, FixedValue] | None,
    window: int | None,
    progress: Callable[[int, int], Any] | None,
) -> Converted:
    """Convert as `convert_with_float_parts` does, and return the `Converted` model."""
    names = tuple(name for name in float_parts if name != AUTO)
    if not float_parts:
        raise DataError(f"float_parts is empty; give {AUTO!r} or names of tensors")
    if isinstance(calibration, str):
        raise QuantizationError(
            f"calibration={calibration!r}: a model with float parts takes real data, by which their axes are found; {RANDOM!r} is for models "
            "of integers alone"
        )
    check_mapping(calibration)
    arrays = {name: as_array(f"array {name!r}", value) for name, value in calibration.items()}
    division = divide(path, names, AUTO in float_parts, stream, state or {}, values or {}, arrays, window)
    if division.whole_model is not None:
        made = quantize(division.whole_model, calibration, scheme, target, progress)
        return Converted(made, {"": division.whole_model}, {"": calibration})
    return _Conversion(division, calibration, scheme, target, dict(values or {}), progress).converted()


class _Conversion:
    """The parts of a graph on their way into a `HybridModel`, with the float values of the calibration data."""

    def __init__(
        self,
        division: Division,
        calibration: Mapping[str, Any],
        scheme: Scheme | None,
        target: str,
        fixed: Mapping[str, Any],
        progress: Callable[[int, int], Any] | None,
    ) -> None:
        self._division, self._scheme, self._target, self._progress = division, scheme, target, progress
        models = [part.model for part in division.parts if part.model is not None]
        self._known = Known(
            division.whole.types,
            models[0].one_step,
            any(i.batch_axis is None for m in models for i in m.inputs),
            division.roles,
        )
        for model in models:
            self._known.learn((*model.inputs, *model.outputs))
        self._values = dict(fixed)
        self._fixed = {name: value for name, value in fixed.items() if name in division.whole.flow.inputs}
        self._inputs = model_inputs(division, self._known, calibration, self._fixed)
        own = {name: value for name, value in calibration.items() if name != RESERVED[1]}
        self._batch = make_batch(self._inputs, own)
        self._carried = carried_inputs(self._inputs, self._batch)
        self._places: dict[str, GraphOutput] = {i.name: as_place(i) for i in self._inputs}
        timed = [c for c in self._carried.values() if c.lengths is not None]
        self._steps = float(np.mean(timed[0].lengths)) if timed and timed[0].lengths is not None else 1.0
        self._parts: list[Part] = []
        self._real: dict[str, FloatModel] = {}
        self._data: dict[str, Mapping[str, Any]] = {}

    def converted(self) -> Converted:
        for number, part in enumerate(self._division.parts, 1):
            if part.model is None:
                self._add_float(f"float{number}", part)
            else:
                self._add_integers(f"integers{number}", part, part.model)
        whole = self._division.whole
        places = self._places
        made = {o.name: o for p in self._parts if isinstance(p, IntegerPart) for o in p.outputs}
        held = {c.output for m in self._real.values() for c in m.caches}
        outputs = [replace(made.get(name, places[name]), parts=()) for name in whole.flow.outputs if name not in held]
        model = HybridModel(
            whole.source.name,
            self._inputs,
            tuple(outputs),
            tuple(self._parts),
            whole.source.sha256,
            self._known.one_step,
            {given: output for m in self._real.values() for given, output in state_pairs(m).items()},
            tuple(cache for m in self._real.values() for cache in m.caches),
            self._values,
            tuple(dict.fromkeys(note for m in self._real.values() for note in m.notes)),
        )
        return Converted(model, self._real, self._data)

    def _add_float(self, name: str, part: DividedPart) -> None:
        graph = part.graph
        own = [n for n in graph.inputs if n not in self._fixed]
        for tensor in own:
            place = self._places[tensor]
            if self._known.one_step and not place.has_time and tensor not in self._division.whole.flow.inputs:
                raise UnsupportedError(
                    f"float part {name!r} reads tensor '{tensor}', which is a state of the layers before it and is known at the end of a "
                    "sequence alone; name other tensors by --float-parts"
                )
        proto = inliner.inline_local_functions(graph.model) if graph.model.functions else graph.model
        content = proto.SerializeToString()
        draft = FloatPart(
            name,
            np.frombuffer(content, np.uint8),
            tuple(self._places[n] for n in own),
            (),
            self._known.one_step,
            part.why,
            0.0,
            weight_bytes(proto),
            {n: v for n, v in self._fixed.items() if n in graph.inputs},
        )
        runtime = Runtime(draft, content)
        given = {n: self._carried[n] for n in own}
        behind = {
            i.name: i
            for p in self._division.parts
            if p.model is not None
            for i in p.model.inputs
            if i.kind == "features"
        }
        outputs = output_places(runtime, graph.outputs, given, self._known, behind)
        runtime.part = draft = replace(draft, outputs=outputs)
        if not self._known.one_step:
            draft = replace(draft, by_steps=computes_by_steps(runtime, given, outputs))
        runtime.part = replace(draft, multiply_adds=self._cost(proto, draft, given))
        self._carried.update(runtime.run(self._carried))
        self._places.update({o.name: o for o in outputs})
        self._parts.append(runtime.part)

    def _cost(self, proto: Any, part: FloatPart, given: Mapping[str, Carried]) -> float:
        """Return the multiply-adds of a float part in a step of the model's inputs: of one step, or of a sequence over its steps."""
        longest = 0
        timed = [c.lengths for c in given.values() if c.lengths is not None]
        if timed:
            longest = int(np.argmax(timed[0]))
        single = part.by_steps and bool(timed)
        shapes = {}
        for place in part.inputs:
            one = given[place.name].one(longest)
            shapes[place.name] = np.shape(to_graph(place, one[:, :1] if single and place.has_time else one))
        count = graph_multiply_adds(proto, shapes)
        steps = 1.0 if not timed else float(np.mean(timed[0])) if single else float(timed[0][longest])
        return count * steps / self._steps if single else count / (steps if timed else self._steps)

    def _add_integers(self, name: str, part: DividedPart, model: FloatModel) -> None:
        data = part_data(model.inputs, self._carried, self._batch)
        quantized = quantize(model, data, self._scheme, self._target, self._progress)
        outputs, batch = _oracle(model, data)
        for output in model.outputs:
            axis = batch.along(model.length_rules[output.parts[0][0]]) if output.has_time else None
            self._carried[output.name] = Carried(outputs[output.name], None if axis is None else axis.lengths)
            self._places[output.name] = replace(output, parts=())
        total = 0.0
        for layer in model.layers:
            rule = next((model.length_rules[n] for n in layer.outputs if n in model.length_rules), None)
            total += multiply_adds(layer) * float(rule.bound[0]) if rule is not None else 0.0
        self._parts.append(IntegerPart(name, quantized, total * float(np.mean(batch.lengths)) / self._steps))
        self._real[name], self._data[name] = model, data


def _oracle(model: FloatModel, data: Mapping[str, Any]) -> tuple[dict[str, FloatArray], Batch]:
    """Run a float model by its equations, and return its outputs, batch first, and the batch."""
    batch = make_batch(model.inputs, data)
    pieces: dict[str, list[FloatArray]] = {o.name: [] for o in model.outputs}
    for _, _, piece in batch.chunks(CHUNK):
        found = run_oracle_batch(model, piece).outputs
        for output in model.outputs:
            value = found[output.name]
            if output.has_time:
                steps = batch.along(model.length_rules[output.parts[0][0]]).steps
                value = np.pad(value, [(0, 0), (0, steps - value.shape[1]), *[(0, 0)] * (value.ndim - 2)])
            pieces[output.name].append(value)
    return {name: np.concatenate(found) for name, found in pieces.items()}, batch
