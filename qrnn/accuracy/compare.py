"""Compare float and integer results on the same data: outputs, every gate and state, drift over time, saturation, decisions, accuracy."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.accuracy.comparison import Comparison, SequenceErrors
from qrnn.accuracy.confusion import Agreement, Confusion
from qrnn.accuracy.data_pieces import ComparedData, compared_data
from qrnn.accuracy.deciding import deciding_output, threshold_of
from qrnn.accuracy.decisions import Decisions
from qrnn.accuracy.float_run import FloatRun, Runtime, run_piece
from qrnn.accuracy.probe import ErrorSum, LayerProbe
from qrnn.backends import DEFAULT_BACKEND
from qrnn.backends.base import Trace
from qrnn.data_files.opening import DataFile
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel, GraphOutput, check_float
from qrnn.model.integers_only import check_integers
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.states import check_same_memory, check_same_source
from qrnn.model.time import TimeAxis
from qrnn.model.user_values import check_type
from qrnn.quantization.floor import floor_of, floor_widths
from qrnn.running.session import Session
from qrnn.system.progress import Wanted, reporting

_log = logging.getLogger(__name__)


def compare(
    float_model: FloatModel,
    quant_model: QuantModel,
    data: Mapping[str, Any] | DataFile,
    *,
    backend: str = DEFAULT_BACKEND,
    isa: str | None = None,
    onnx_path: str | bytes | os.PathLike[str] | None = None,
    progress: Wanted = None,
    reference: FloatRun | None = None,
) -> Comparison:
    """Run a float model and its quantized model on the same data, and return how they differ.

    Parameters
    ----------
    float_model, quant_model: the model that was imported, and the one that was made of it.
    data: arrays by graph input name, batch first, [N, T, *shape] or [N, *shape], optionally with ``lengths`` [N], and with ``labels`` [N] or
        [N, T], the right class of each sequence or step. Or a file that `qrnn.open_data` opened: it is read twice, a few sequences at a time,
        and results of single sequences are not kept (`Comparison.by_sequence`), so that memory does not grow with their number.
    backend, isa: those that the quantized model runs on, as for `Session`.
    onnx_path: the .onnx file, or its bytes, which ONNX Runtime runs too, where it is installed.
    progress: called with (done, all) sequences; None shows a bar where stderr is a terminal, and False shows none.
    reference: what `qrnn.accuracy.float_run.run_float` gave for the same float model and data, which is then not run again.

    Raises DataError for data or labels that do not fit, and for two models that are not of the same graph.
    """
    with reporting(progress, "comparing") as report:
        found = _compared(float_model, quant_model, data, backend, isa, onnx_path, report, reference)
    for name, error in found.outputs.items():
        _log.debug("%s: output %s has an SQNR of %.1f dB", found.model, name, error.sqnr_db)
    return found


def _compared(
    float_model: FloatModel,
    quant_model: QuantModel,
    data: Mapping[str, Any] | DataFile,
    backend: str,
    isa: str | None,
    onnx_path: str | bytes | os.PathLike[str] | None,
    report: Callable[[int, int], Any],
    reference: FloatRun | None,
) -> Comparison:
    """Measure what `compare` does."""
    check_integers(quant_model, "compare")
    check_float(float_model, "compare")
    check_same_source(float_model, quant_model)
    check_same_memory(float_model, quant_model)
    compared = compared_data(float_model, data)
    session = Session(quant_model, backend, isa=isa)
    sums = _OutputErrors(float_model, compared)
    weights = floor_widths(quant_model.provenance.scheme)
    known_floor = None if reference is None else reference.floors.get(weights)
    rounded = floor_of(float_model, quant_model.provenance.scheme, compared.features())
    probe = LayerProbe(quant_model, compared.first)
    decisions = _decisions(float_model, compared.labels, compared.first)
    oracle = Runtime(onnx_path) if reference is None else reference.runtime
    step_count = 0
    for number, (start, stop, piece, labels) in enumerate(compared.pieces()):
        probe.start()
        step_count += piece.step_count
        known = None if reference is None else reference.pieces[number]
        known = known or run_piece(float_model, piece, oracle)
        for name, values in known.observed.items():
            probe.observe(name, values, None)
        at_floor = {} if known_floor is not None else run_oracle_batch(rounded, piece).outputs
        trace = Trace()
        result, tensors = session.run_batch(piece, trace=trace)
        probe.compare(trace, tensors, piece, session.initial_state(piece.size, piece.states).layers)
        sources = {"float": known.outputs, "quantized": result.outputs}
        if known.runtime is not None and oracle.usable:
            sources["onnxruntime"] = known.runtime
        elif decisions is not None:
            decisions.correct.pop("onnxruntime", None)
            decisions.confusion.pop("onnxruntime", None)
        sums.add(slice(start, stop), piece, sources, at_floor)
        if decisions is not None:
            decided = next(o for o in float_model.outputs if o.name == decisions.output)
            chosen = {s: arrays[decided.name] for s, arrays in sources.items()}
            axis = _axis(float_model, decided, piece)
            count_decisions(decisions, chosen, labels, piece.size, axis, keep=compared.in_memory)
        report(stop, compared.size)
    if not step_count:
        raise DataError("every sequence has length 0; expected at least one step")
    floor = sums.floor if reference is None else reference.floors.setdefault(weights, sums.floor)
    return Comparison(
        model=quant_model.name,
        backend=backend,
        sequences=compared.size,
        steps=step_count,
        outputs=sums.quantized,
        onnxruntime=sums.runtime if oracle.usable else {},
        onnxruntime_note=oracle.note,
        layers=probe.errors,
        decisions=decisions,
        saturation=probe.saturation(),
        ranges=probe.ranges(),
        weight_ranges=probe.weight_ranges(),
        random_calibration=quant_model.provenance.random_calibration,
        floor=floor,
        by_sequence=sums.by_sequence,
    )


class _OutputErrors:
    """The errors of each graph output against the float model, summed over the pieces of a comparison."""

    def __init__(self, model: FloatModel, compared: ComparedData) -> None:
        axes = {o.name: _axis(model, o, compared.first) for o in model.outputs}
        self._model = model
        self.quantized, self.runtime, self.floor = (
            {name: ErrorSum(axis.steps if axis else 0) for name, axis in axes.items()} for _ in range(3)
        )
        """Those of the quantized model, of ONNX Runtime, and of the model whose weights alone are rounded."""
        kept = model.outputs if compared.in_memory else ()
        self.by_sequence = {o.name: SequenceErrors(*(np.zeros(compared.size) for _ in range(3))) for o in kept}

    def add(
        self,
        rows: slice,
        piece: Batch,
        sources: Mapping[str, Mapping[str, FloatArray]],
        at_floor: Mapping[str, FloatArray],
    ) -> None:
        """Add the sequences ``rows``: the outputs of each source by name, and those at the floor unless its errors are known."""
        for output in self._model.outputs:
            name, axis = output.name, _axis(self._model, output, piece)
            mask = None if axis is None else axis.mask
            flat = {source: _flat(output, arrays[name]) for source, arrays in sources.items()}
            self.quantized[name].add(flat["float"], flat["quantized"], mask)
            if at_floor:
                self.floor[name].add(flat["float"], _flat(output, at_floor[name]), mask)
            if name in self.by_sequence:
                self.by_sequence[name].add(rows, flat["float"], flat["quantized"])
            if "onnxruntime" in flat:
                self.runtime[name].add(flat["float"], flat["onnxruntime"], mask)


def _axis(model: FloatModel, output: GraphOutput, batch: Batch) -> TimeAxis | None:
    """Return the steps of a graph output; None for one that is not over time."""
    return batch.along(model.length_rules[output.parts[0][0]]) if output.has_time else None


def _flat(output: GraphOutput, array: FloatArray) -> FloatArray:
    return array.reshape(*array.shape[: 2 if output.has_time else 1], output.features)


def _decisions(real: FloatModel, labels: npt.NDArray[Any] | None, batch: Batch) -> Decisions | None:
    """Return the decisions of the first output that decides something, which an output made of states does not."""
    output = deciding_output(real)
    if output is None:
        if labels is not None:
            raise DataError(
                "labels are given, but no output of the model decides anything: all are recurrent states; leave labels out"
            )
        return None
    threshold = threshold_of(real, output)
    at = "each step" if output.has_time else "each sequence"
    if labels is not None:
        shape = labels.shape
        axis = _axis(real, output, batch)
        steps = batch.steps if axis is None else axis.steps
        per_step = shape == (batch.size, steps) and output.has_time
        if not per_step and shape != (batch.size,):
            raise DataError(f"labels: shape {list(shape)}, expected [{batch.size}] or [{batch.size}, {steps}]")
        check_type("labels", labels.dtype, np.integer)
        if output.has_time and not per_step:
            at = "last step of each sequence"
    return Decisions(output.name, "argmax" if threshold is None else f"threshold {threshold:g}", at)


def count_decisions(
    decisions: Decisions,
    sources: dict[str, FloatArray],
    labels: npt.NDArray[Any] | None,
    size: int,
    axis: TimeAxis | None,
    keep: bool = True,
) -> None:
    """Count the decisions of each source's values [n, F] at the steps that ``decisions.at`` names.

    A sequence without steps has no last step to decide at.

    ``size``: the number of sequences; ``axis``: the steps of the output, None for one that is not over time;
    ``keep``: whether single choices are kept where there is one for each sequence.
    """
    at_last = decisions.at == "last step of each sequence"
    lengths = np.ones(size, np.int64) if axis is None else axis.lengths
    rows = np.flatnonzero(lengths)
    if at_last and labels is not None:
        labels = labels[rows]
    decided: dict[str, npt.NDArray[Any]] = {}
    for source, values in sources.items():
        if decisions.at == "each step" and axis is not None:
            picked = axis.real(values)
        elif at_last:
            picked = values[rows, lengths[rows] - 1]
        else:
            picked = values
        picked = picked.reshape(len(picked), math.prod(picked.shape[1:]))
        if decisions.rule == "argmax":
            decided[source] = picked.argmax(axis=1)[:, None]
        else:
            decided[source] = (picked > (0.5 if decisions.rule.endswith("0.5") else 0.0)).astype(np.int64)
    if keep and decisions.at != "each step" and decided["float"].shape[1] == 1:
        for source, choice in decided.items():
            decisions.chosen.setdefault(source, []).extend(choice[:, 0].tolist())
        if labels is not None:
            decisions.chosen.setdefault("label", []).extend(labels.tolist())
    same = decided["float"] == decided["quantized"]
    decisions.agreement.agree += int(same.sum())
    decisions.agreement.total += same.size
    if labels is None:
        return
    truth = axis.real(labels[:, : axis.steps]) if labels.ndim == 2 and axis is not None else labels
    for source, choice in decided.items():
        if choice.shape[1] != 1:
            raise DataError(
                f"labels are given, but output {decisions.output!r} has {choice.shape[1]} decisions a step; leave labels out"
            )
        _check_classes(truth, sources["float"].shape[-1] if decisions.rule == "argmax" else 2, decisions.output)
        tally = decisions.correct.setdefault(source, Agreement())
        tally.agree += int((choice[:, 0] == truth).sum())
        tally.total += len(truth)
        decisions.confusion.setdefault(source, Confusion()).add(truth, choice[:, 0])


def _check_classes(labels: npt.NDArray[Any], classes: int, output: str) -> None:
    """Refuse labels that no decision of the output can equal, which would all count as mistakes."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"labels: value {wrong[0]}, expected 0…{classes - 1}, the classes of output {output!r}; leave out sequences without a label, and "
            "give steps without one by lengths"
        )
