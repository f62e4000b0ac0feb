"""Convert a float model and calibration data to a quantized model (the function is `qrnn.quantize`)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from qrnn.conversion.search import Search
from qrnn.conversion.weights import floors_of
from qrnn.errors import DataError, QuantizationError
from qrnn.model.batch import Batch, evenly, make_batch
from qrnn.model.digest import array_digest
from qrnn.model.float_model import FloatModel, check_float
from qrnn.model.needed_steps import steps_for
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.calibrate import calibrate
from qrnn.quantization.choices import check_widths, resolved
from qrnn.quantization.fine_weights import as_written
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.source_checks import CalibrationWarning, checked_calibration, decisions
from qrnn.system.progress import Wanted, reporting

__all__ = ["DEFAULT_SCHEME", "RANDOM", "Decided", "decide", "quantize", "random_inputs"]

_log = logging.getLogger(__name__)

RANDOM = "random"
"""The word that stands for random inputs in place of calibration data; the model records it, and every use warns of it."""

DEFAULT_SCHEME = Scheme(activations=AUTO, weights=AUTO)
"""How a model is quantized where no scheme is given: as for target ``generic``, with widths that are chosen."""

TRIAL_STEPS = 16384
"""About how many calibration steps say whether the methods ``equalize`` and ``channels`` help; sequences are taken evenly from all."""


def quantize(
    model: FloatModel,
    calibration: Mapping[str, Any] | str,
    scheme: Scheme | None = None,
    target: str = "generic",
    progress: Wanted = None,
) -> QuantModel:
    """Return the integer model of ``model``, with ranges measured on ``calibration``.

    Parameters
    ----------
    model: a float model, such as `qrnn.load_onnx` gives.
    calibration: arrays by graph input name, batch first, [N, T, *shape] or [N, *shape], with ``lengths`` [N] beside them where sequences are
        padded; or the word ``"random"`` for trials without data, with which no width is chosen.
    scheme: the choices of the conversion; `DEFAULT_SCHEME`, which chooses the widths of operands by their effect, where it is None.
    target: the name of the device that the model's file states; limits of devices are part of a scheme.
    progress: called with (done, all) sequences, of which there are twice as many where widths are searched for; None shows a bar where stderr
        is a terminal, and False shows none.

    Raises DataError for data that do not fit the model, and QuantizationError, which names the layer, for a model that the contract's integers
    cannot hold.
    """
    with reporting(progress, "calibrating") as report:
        decided = decide(model, calibration, scheme, target, report, stacklevel=3)
        search = decided.search
        quantized = decided.build()
        report(2 * search.batch.size, 2 * search.batch.size)
    if {"rounding", "bias"} & set(search.scheme.methods):
        from qrnn.refinement.rows import refine_rows  # runs the quantized model, which plain conversions do not need

        quantized = refine_rows(search.model, quantized, search.batch, search.scheme.methods, search.shown)
    for reason in quantized.provenance.decisions:
        _log.info("%s: %s", model.name, reason)
    return quantized


class Decided(NamedTuple):
    """A conversion all of whose choices are made: what `search` was about, the ``widths`` that it chose, and the ``reasons`` in sentences."""

    search: Search
    widths: Mapping[str, str]
    reasons: tuple[str, ...]

    def build(self) -> QuantModel:
        """Return the quantized model, before refinement methods that run it."""
        return self.search.build(self.widths, reasons=self.reasons)


def decide(
    model: FloatModel,
    calibration: Mapping[str, Any] | str,
    scheme: Scheme | None = None,
    target: str = "generic",
    progress: Callable[[int, int], Any] | None = None,
    stacklevel: int = 2,
) -> Decided:
    """Make every choice of a conversion, as `quantize` does."""
    check_float(model, "quantize")
    scheme = scheme or DEFAULT_SCHEME
    if not isinstance(scheme, Scheme):
        raise DataError(f"scheme={scheme!r}, expected a qrnn.Scheme, such as qrnn.Scheme(activations=8)")
    if not any(layer.keeps_state for layer in model.layers):
        raise QuantizationError(
            f"model {model.name!r} has no recurrent layer, and no other that keeps a state; expected one, such as an LSTM or a convolution "
            "over time"
        )
    check_widths(as_written(model, scheme.to_dict()), scheme, target)
    random = isinstance(calibration, str)
    if isinstance(calibration, str):
        if calibration != RANDOM:
            raise QuantizationError(
                f"calibration={calibration!r}, expected arrays by input name, or the word {RANDOM!r}"
            )
        calibration = random_inputs(model)
    checked = checked_calibration(model, make_batch(model.inputs, calibration), scheme.calibrator)
    batch = checked.batch
    for text in checked.warnings:
        warnings.warn(text, CalibrationWarning, stacklevel=stacklevel)
    scheme, defaults = _resolved(model, batch, scheme, random)
    prepared = _prepared(model, batch, scheme)

    def report(done: float) -> None:
        if progress is not None:
            progress(round(done), 2 * batch.size)

    ranges = calibrate(prepared.shown, batch, progress=lambda done, _: report(done))
    provenance = Provenance(
        source_sha256=model.source_sha256,
        opset=model.opset,
        calibration_sha256=array_digest(calibration),
        calibration_sequences=ranges.sequences,
        calibration_steps=ranges.steps,
        calibrator=scheme.calibrator,
        random_calibration=random,
        target=target,
        scheme=scheme.to_dict(),
        notes=model.notes,
        values=dict(model.values),
        section=model.section,
    )
    search = Search(
        real=model,
        model=prepared.model,
        shown=prepared.shown,
        scheme=scheme,
        batch=batch,
        ranges=ranges,
        provenance=provenance,
        progress=lambda done, expected: report(batch.size * (1 + done / expected)),
    )
    chosen = search.choose()
    reasons = (*defaults, *prepared.notes, *decisions(checked.warnings), *chosen.reasons)
    return Decided(search, chosen.widths, reasons)


def _resolved(model: FloatModel, batch: Batch, scheme: Scheme, random: bool) -> tuple[Scheme, list[str]]:
    """Return what a scheme means for a model and calibration data that are ``random`` or not, and what was chosen, in words."""
    notes = []
    if scheme.weights == AUTO:
        floors = None if random else floors_of(model, batch)
        bits = 8 if floors is None else floors.choice
        if bits != 8:
            notes.append(f"weights: {bits} bits chosen, since {floors}")
        scheme = replace(scheme, weights=bits)
    scheme, more = resolved(model, scheme)
    return scheme, notes + more


class _Prepared(NamedTuple):
    """A float model after the refinement methods that change real weights.

    ``model`` is quantized, and the oracle runs ``shown`` for its ranges: both are the same unless gates were refitted. ``notes`` say what was
    done.
    """

    model: FloatModel
    shown: FloatModel
    notes: tuple[str, ...]


def _prepared(model: FloatModel, batch: Batch, scheme: Scheme) -> _Prepared:
    """Apply the refinement methods that change real weights."""
    shown, notes = model, []

    def changed(before: FloatModel, after: FloatModel) -> str:
        pairs = zip(before.layers, after.layers, strict=True)
        return ", ".join(old.name for old, new in pairs if old is not new)

    def judged(method: str, scaled: FloatModel) -> FloatModel:
        names = changed(model, scaled)
        if not names or _better(model, scaled, batch, scheme):
            notes.append(f"{method}: channels scaled between the layers {names or '(none can be)'}")
            return scaled
        notes.append(f"{method}: the layers {names} left as they were, since that is better on held-out data")
        return model

    if "equalize" in scheme.methods:
        from qrnn.refinement.equalize import equalize

        shown = model = judged("equalize", equalize(model, batch))
    if "channels" in scheme.methods:
        from qrnn.refinement.channels import equal_channels

        shown = model = judged("channels", equal_channels(model, batch))
    if "gates" in scheme.methods:
        from qrnn.refinement.gates import refit_gates, with_choices

        choices = parse_gates(scheme.gates)
        rejected: list[str] = []
        refit = refit_gates(model, batch, scheme, rejected)
        nothing = "(none)" if rejected else "(no ramp stands for a smooth gate)"
        notes.append(f"gates: weights fitted to ramps in the layers {changed(model, refit) or nothing}")
        notes += [
            f"gates: {name} left as it was, since that is better on held-out calibration data" for name in rejected
        ]
        if refit is not model:
            model, shown = refit, with_choices(refit, choices)
    written = scheme.to_dict()
    return _Prepared(as_written(model, written), as_written(shown, written), tuple(notes))


def _better(before: FloatModel, after: FloatModel, batch: Batch, scheme: Scheme) -> bool:
    """Return whether ``after`` has no more error than ``before`` on held-out data, both quantized with ranges from the rest."""
    from qrnn.refinement.held_out import Judge, split  # runs quantized models, which plain conversions do not need

    parts = split(evenly(batch, TRIAL_STEPS))
    if parts is None:
        return False
    judge, written = Judge(before, parts, scheme), scheme.to_dict()
    return judge(as_written(after, written)) <= judge(as_written(before, written))


def random_inputs(model: FloatModel, sequences: int = 16, steps: int = 32, seed: int = 0) -> dict[str, Any]:
    """Return standard normal features and uniform tokens, for trials without data; a model without memory gets as many rows.

    There are ``steps`` steps, or the number next to that which every layer takes.
    """
    steps = steps_for(model, steps)
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for graph_input in model.inputs:
        lead = (sequences, steps) if graph_input.has_time else (sequences,)
        lead = (sequences * steps,) if model.rows else lead
        if graph_input.kind == "features":
            arrays[graph_input.name] = rng.standard_normal((*lead, *graph_input.shape))
        elif graph_input.kind == "tokens":
            arrays[graph_input.name] = rng.integers(0, graph_input.vocabulary, lead)
    return arrays
