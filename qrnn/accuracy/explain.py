"""Which layer, gate and tensor costs how much of a quantized model's error, and what to change.

Each `Part` is ablated both ways. *Alone*: the float model with this one thing as integers. *Without*: the quantized model with this one
thing exact; for the parts that cost most. Both run in the float64 oracle with `qrnn.accuracy.parts`, on whole sequences, so that what a
part does to the state is carried on and counted.

A part's share is the energy of its noise at the output, alone, over that of the quantized model, on the same data:

    share = Σ (y_float - y_alone)² / Σ (y_float - y_quantized)²

Shares need not add up to 100 %: noises may be correlated, and later steps may multiply them; and parts that were made for each other
(``--refine rounding``, ``gates``, ``bias``) each look worse alone than all do together. *Without* says how much would be gained.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from qrnn.accuracy.explanation import Cost, Explanation
from qrnn.accuracy.metrics import decibels
from qrnn.accuracy.parts import Integers, model_parts
from qrnn.accuracy.probe import LayerProbe, output_error
from qrnn.backends.base import Trace
from qrnn.equations.oracle import Substitutes, run_oracle_batch
from qrnn.errors import DataError
from qrnn.model.batch import Batch, evenly, make_batch
from qrnn.model.boundary import beyond_range, dequantize_array, quantize_array
from qrnn.model.float_model import FloatModel, check_float
from qrnn.model.integers_only import check_integers
from qrnn.model.kinds.rescale import QuantRescale
from qrnn.model.layer_facts import LayerMatrix, Part
from qrnn.model.parts import FloatArray, QuantMatrix4
from qrnn.model.quant_model import QuantModel
from qrnn.model.states import check_same_memory, check_same_source
from qrnn.quantization.fine_weights import as_written
from qrnn.quantization.floor import floor_of
from qrnn.quantization.gate_choice import GATE_KEYS, parse_gates
from qrnn.quantization.methods import parse_refine
from qrnn.quantization.widths import parse_widths, widths_text
from qrnn.running.session import Session
from qrnn.system.progress import Wanted, reporting

STEPS = 4096
"""About how many steps are used; sequences are taken evenly from all."""

WITHOUT = 6
"""The number of parts that are also made exact in the quantized model."""


def explain(
    float_model: FloatModel,
    model: QuantModel,
    data: Mapping[str, Any],
    *,
    random_data: bool = False,
    progress: Wanted = None,
) -> Explanation:
    """Return how much of a quantized model's error each of its parts causes, and what to change.

    Parameters
    ----------
    float_model, model: the model that was imported, and the quantized one that was made of it.
    data: arrays by graph input name, batch first, optionally with ``lengths`` [N]. Of long data about `STEPS` steps are used, of sequences that
        are taken evenly (`Explanation.of_sequences` says of how many).
    random_data: whether the data are random numbers, which the report then says.
    progress: called with (done, all) runs; None shows a bar where stderr is a terminal, and False shows none.

    Raises DataError for data that do not fit, for models that are not of the same graph, and for one whose channels were scaled.
    """
    with reporting(progress, "ablating") as report:
        return _explained(float_model, model, data, random_data, report)


def _explained(
    float_model: FloatModel,
    model: QuantModel,
    data: Mapping[str, Any],
    random_data: bool,
    report: Callable[[int, int], Any],
) -> Explanation:
    """Measure what `explain` does."""
    check_integers(model, "explain")
    check_float(float_model, "explain")
    check_same_source(float_model, model)
    for method, kind in (("equalize", "dense layers"), ("channels", "convolutions")):
        if method in parse_refine(str(model.provenance.scheme.get("refine", "none"))):
            raise DataError(
                f"--refine {method} scaled the channels between {kind}; convert without it to explain the rest"
            )
    check_same_memory(float_model, model)
    given = make_batch(float_model.inputs, data)
    batch = evenly(given, STEPS)
    if not batch.size:
        raise DataError("every sequence has length 0; expected at least one step")
    real, float_model = float_model, as_written(float_model, model.provenance.scheme)
    parts = list(model_parts(model))
    output = judged_output(model)
    runs = len(parts) + min(WITHOUT, len(parts)) + 1
    done = 0

    def run(chosen: list[Part]) -> FloatArray:
        nonlocal done
        integers = Integers(model, chosen)
        result = run_oracle_batch(integers.weights(float_model), batch, substitutes=integers).outputs[output]
        done += 1
        report(done, runs)
        return result

    want = run_oracle_batch(float_model, batch, substitutes=Substitutes()).outputs[output]
    session, trace, probe = Session(model), Trace(), LayerProbe(model, batch)
    result, tensors = session.run_batch(batch, trace=trace)
    probe.count_clipped(trace, tensors, batch, session.initial_state(batch.size, batch.states).layers)
    whole = output_error(float_model, batch, output, want, result.outputs[output])
    signal, noise = whole.signal, whole.noise
    rounded = floor_of(real, model.provenance.scheme, batch)
    at_floor = run_oracle_batch(rounded, batch).outputs[output]
    energies = [float(((want - run([part])) ** 2).sum()) for part in parts]
    order = sorted(range(len(parts)), key=lambda k: -energies[k])
    everything = decibels(signal, float(((want - run(parts)) ** 2).sum()))
    without = {
        k: decibels(signal, float(((want - run([p for p in parts if p != parts[k]])) ** 2).sum()))
        for k in order[:WITHOUT]
    }
    beyond = _clipped_more_than_rounded(model, batch)
    costs = tuple(
        Cost(
            parts[k],
            energies[k],
            energies[k] / noise if noise else 0.0,
            without.get(k),
            *advice(model, parts[k], beyond),
        )
        for k in order
    )
    return Explanation(
        model=model.name,
        output=output,
        sequences=batch.size,
        steps=batch.step_count,
        random_data=random_data,
        sqnr_db=whole.sqnr_db,
        sqnr_about_mean_db=whole.about_mean_db,
        sqnr_db_all_parts=everything,
        floor_db=decibels(signal, float(((want - at_floor) ** 2).sum())),
        costs=costs,
        clipped=tuple(s for s in probe.saturation() if s.saturated),
        of_sequences=given.size,
    )


def judged_output(model: QuantModel) -> str:
    """Return the first graph output that is not a state."""
    states = {name for layer in model.recurrent_layers for name in (layer.h_n, layer.c_n)}
    named = [o.name for o in model.outputs if not any(tensor in states for tensor, _, _ in o.parts)]
    return named[0] if named else model.outputs[0].name


def _clipped_more_than_rounded(model: QuantModel, batch: Batch) -> frozenset[str]:
    """Return the inputs of features that lose more energy beyond their calibrated ranges than by rounding within them."""
    found = set()
    for graph_input in (i for i in model.inputs if i.kind == "features"):
        name, fmt = graph_input.name, model.tensors[graph_input.name]
        given = batch.features[name]
        real = batch.along(model.length_rules[name]).real(given) if graph_input.has_time else given
        loss = (real - dequantize_array(quantize_array(real, fmt), fmt)) ** 2
        outside = beyond_range(real, fmt)
        if loss[outside].sum() > loss[~outside].sum():
            found.add(name)
    return frozenset(found)


def advice(model: QuantModel, part: Part, beyond: frozenset[str] = frozenset()) -> tuple[str, str]:
    """Return what to change for less of a part's noise, and what that costs; ``beyond`` names inputs that more bits would not help."""
    refined = parse_refine(str(model.provenance.scheme.get("refine", "none")))
    weights = next((m for m in model.matrices if (m.part.where, m.part.kind) == (part.where, part.kind)), None)
    if weights is not None:
        return _weight_advice(model, weights, refined)
    if part.kind == "biases":
        return ("--refine bias", "nothing at run time") if "bias" not in refined else ("nothing: corrected already", "")
    if part.kind in ("x operand", "h operand"):
        return _operand_advice(model, part, beyond)
    if part.kind == "gate function":
        return _gate_advice(model, part, refined)
    return "nothing: the contract's width", ""


def _widened(model: QuantModel, key: str, width: str) -> str:
    """Return the option that converts with one more width than ``model`` was converted with."""
    given = parse_widths(model.provenance.scheme.get("widths", ()))
    return f"--widths {shlex.quote(widths_text(parse_widths({**dict(given), key: width})))}"


def _weight_advice(model: QuantModel, found: LayerMatrix, refined: tuple[str, ...]) -> tuple[str, str]:
    if found.part.kind == "projection":
        return "nothing: weights have 8 bits at most", ""
    if "rounding" not in refined:
        return "--refine rounding", "nothing at run time"
    if isinstance(found.matrix, QuantMatrix4):
        more = found.matrix.weight.size - found.matrix.weight_bytes
        # a recurrent layer's parts are those of its directions, LAYER[d]; its other kinds of weights have eight bits
        layer = found.part.where if found.part.kind == "weights" else found.part.where.rpartition("[")[0]
        key = f"{layer}.{'R' if found.part.kind == 'recurrent weights' else 'W'}"
        return _widened(model, key, "8"), f"{more} bytes more for this matrix"
    return "nothing: weights have 8 bits at most", ""


def _operand_advice(model: QuantModel, part: Part, beyond: frozenset[str]) -> tuple[str, str]:
    """Return the advice for the operand of a layer's input, or of a direction's h."""
    if part.kind == "x operand":
        read = _read_by(model, part)
        if read in beyond:
            return (
                f"convert with calibration data like these: values of input {read} lie beyond its range",
                "nothing at run time",
            )
    kinds = ("recurrent weights",) if part.kind == "h operand" else ("weights", "input weights")
    of_layer = (m for m in model.matrices if m.name.startswith((f"{part.where}.", f"{part.where}[")))
    found = next(m for m in of_layer if m.part.kind in kinds)
    if found.operand.limit > 127:
        return "nothing: 16 bits already", ""
    key, by_feature = f"{part.where.rpartition('[')[0]}.h", True
    if part.kind == "x operand":
        layer = next(layer for layer in model.layers if layer.name == part.where)
        sources = {i.name for i in model.inputs} | {found.output for found in model.layers if found.reads_tokens}
        key, by_feature = read if read in sources else f"{layer.name}.x", len(model.tensors[layer.input].scale) > 1
    option = f"{_widened(model, key, '16')}{'' if by_feature else ' (or 8-per-feature)'}"
    size = found.matrix.weight.shape[1]
    return option, f"operands of 2 bytes for 1: {size} bytes more a step, and products of 16 by 8 bits"


def _read_by(model: QuantModel, part: Part) -> str:
    """Return the tensor that the layer of an x operand reads, before it was rescaled."""
    layer = next(layer for layer in model.layers if layer.name == part.where)
    copies = {copy.output: copy.input for copy in model.layers if isinstance(copy, QuantRescale)}
    return copies.get(layer.input, layer.input)


def _gate_advice(model: QuantModel, part: Part, refined: tuple[str, ...]) -> tuple[str, str]:
    stand_ins = [layer.stand_ins({part}, model.tensors) for layer in model.layers]
    ((function, _),) = (found for own in stand_ins for found in own.functions.values())
    choices = str(parse_gates(str(model.provenance.scheme.get("gates", "pwl:128"))))
    key = GATE_KEYS[part.gate]
    if function.table.size:
        finer = 4 * (function.table.size - 1)
        if finer > 1024:
            return "nothing: the finest table", ""
        return f"--gates {key}=pwl:{finer}", f"{2 * (finer + 1 - function.table.size)} bytes of table more"
    if "hard" in choices and "gates" not in refined:
        return "--refine gates", "nothing at run time"
    return f"--gates {key}=pwl:128", "258 bytes of table"
