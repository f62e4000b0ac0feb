"""Convert a float model and calibration data to a quantized model (the function is `qrnn.quantize`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from qrnn.accuracy.metrics import sqnr_db
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import QuantizationError
from qrnn.model.batch import Batch, evenly, make_batch
from qrnn.model.digest import array_digest
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.build import Builder
from qrnn.quantization.calibrate import calibrate
from qrnn.quantization.choices import check_widths, resolved
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.inputs import source_tensors
from qrnn.quantization.scheme import InputScheme, Scheme
from qrnn.quantization.widths import bits_of

__all__ = ["RANDOM", "quantize", "random_inputs"]

RANDOM = "random"
"""The word that stands for random inputs in place of calibration data; the model records it, and every use warns of it."""

TRIAL_SEQUENCES = 48
"""Calibration sequences on which input schemes are compared; as many again give the ranges for it."""

TRIAL_STEPS = 16384
"""About how many calibration steps say whether the method ``equalize`` helps; sequences are taken evenly from all."""

TRIAL_TOLERANCE_DB = 3.0
"""A cheaper input scheme is chosen when no output loses more than this many dB against the best one (its noise power is then doubled)."""

_CANDIDATES: tuple[InputScheme, ...] = ("8", "8-per-feature", "16")


def _candidates(scheme: Scheme) -> tuple[InputScheme, ...]:
    """Return the input schemes to choose from, without those that are wider than any operand may be."""
    return tuple(c for c in _CANDIDATES if bits_of(c) <= scheme.widest_operand)


def quantize(
    model: FloatModel,
    calibration: Mapping[str, Any] | str,
    scheme: Scheme | None = None,
    target: str = "generic",
    progress: Callable[[int, int], Any] | None = None,
) -> QuantModel:
    """Quantize ``model`` with ranges measured on ``calibration``.

    ``calibration`` maps graph inputs to arrays, batch first, optionally with ``lengths``; or it is the word ``"random"``. `Scheme`
    describes ``scheme``. ``progress`` is called with (done, all) sequences, trials of input schemes included. Raises DataError for data
    that do not fit the model and QuantizationError for a model that the contract's integers cannot hold.
    """
    scheme = scheme or Scheme()
    if not any(layer.keeps_state for layer in model.layers):
        raise QuantizationError(f"model {model.name!r} has no recurrent layer, and no other that keeps a state")
    check_widths(model, scheme, target)
    scheme, defaults = resolved(model, scheme)
    random = isinstance(calibration, str)
    if isinstance(calibration, str):
        if calibration != RANDOM:
            raise QuantizationError(
                f"calibration={calibration!r}, expected arrays by input name, or the word {RANDOM!r}"
            )
        calibration = random_inputs(model)
    batch = make_batch(model.inputs, calibration)
    names = source_tensors(model)
    given: dict[str, InputScheme] = {name: width for name, width in scheme.widths if name in names}  # type: ignore[misc]  # checked
    open_names = tuple(name for name in names if name not in given)
    trials = len(_candidates(scheme)) * len(open_names) if scheme.input == "auto" and scheme.activations != 16 else 0
    trial_size = min(batch.size, TRIAL_SEQUENCES)
    prepared = _prepared(model, batch, scheme)
    model, shown = prepared.model, prepared.shown

    def report(done: int, trials_done: int = 0) -> None:
        if progress is not None:
            progress(done + trials_done * trial_size, batch.size + trials * trial_size)

    ranges = calibrate(shown, batch, progress=lambda done, _: report(done))
    provenance = Provenance(
        source_sha256=model.source_sha256,
        opset=model.opset,
        calibration_sha256=array_digest(calibration),
        calibration_sequences=ranges.sequences,
        calibration_steps=ranges.steps,
        calibrator=scheme.calibrator,
        random_calibration=random,
        target=target,
        scheme=scheme.as_dict(),
        notes=model.notes,
    )
    forced: InputScheme = _candidates(scheme)[-1] if scheme.input == "auto" else scheme.input  # type: ignore[assignment]  # checked by Scheme
    chosen = {**dict.fromkeys(names, forced), **given}
    reasons: list[str] = []
    if trials:
        chosen, reasons = choose_input_schemes(
            model, shown, scheme, batch, provenance, given, lambda done: report(batch.size, done)
        )
    quantized = Builder(model, ranges, scheme, chosen, defaults + prepared.notes + reasons).build(provenance)
    if {"rounding", "bias"} & set(scheme.methods):
        from qrnn.refinement.rows import refine_rows  # runs the quantized model, which plain conversions do not need

        quantized = refine_rows(model, quantized, batch, scheme.methods, shown)
    return quantized


class _Prepared(NamedTuple):
    """A float model after the refinement methods that change real weights.

    ``model`` is quantized, and the oracle runs ``shown`` for its ranges: both are the same unless gates were refitted. ``notes`` say what was
    done.
    """

    model: FloatModel
    shown: FloatModel
    notes: list[str]


def _prepared(model: FloatModel, batch: Batch, scheme: Scheme) -> _Prepared:
    """Apply the refinement methods that change real weights."""
    shown, notes = model, []

    def changed(before: FloatModel, after: FloatModel) -> str:
        pairs = zip(before.layers, after.layers, strict=True)
        return ", ".join(old.name for old, new in pairs if old is not new)

    if "equalize" in scheme.methods:
        from qrnn.refinement.equalize import equalize

        equalized = equalize(model, batch)
        names = changed(model, equalized)
        if not names or _better(model, equalized, batch, scheme):
            notes.append(f"equalize: channels scaled between the layers {names or '(none can be)'}")
            shown = model = equalized
        else:
            notes.append(f"equalize: the layers {names} left as they were, since that is better on held-out data")
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
    return _Prepared(model, shown, notes)


def _better(before: FloatModel, after: FloatModel, batch: Batch, scheme: Scheme) -> bool:
    """Return whether ``after`` has no more error than ``before`` on held-out data, both quantized with ranges from the rest."""
    from qrnn.refinement.held_out import Judge, split  # runs quantized models, which plain conversions do not need

    parts = split(evenly(batch, TRIAL_STEPS))
    if parts is None:
        return False
    judge = Judge(before, parts, scheme)
    return judge(after) <= judge(before)


def choose_input_schemes(
    model: FloatModel,
    shown: FloatModel,
    scheme: Scheme,
    batch: Batch,
    provenance: Provenance,
    given: Mapping[str, InputScheme],
    progress: Callable[[int], Any],
) -> tuple[dict[str, InputScheme], list[str]]:
    """Return an input scheme for each source tensor, and the reasons.

    Each scheme is tried on calibration data held out from the ranges, and the outputs are compared. Ranges for the trial come from a part
    of the data, errors from the rest, so that fine scales which fit only what they have seen (per feature, on few frames) show it. One
    source is tried at a time, with the others held at the widest, but for those whose width is ``given``. ``shown`` is what the float64
    oracle runs for ``model``. ``progress`` is called with the number of trials done.
    """
    names = source_tensors(model)
    from qrnn.running.session import Session  # sessions pull in the compiler, which forced schemes do not need

    fitted, trial = _split(batch)
    ranges = calibrate(shown, fitted)
    want = run_oracle_batch(shown, trial).outputs
    states = {name for layer in model.layers if isinstance(layer, Recurrent) for name in (layer.h_n, layer.c_n)}
    results = [o.name for o in model.outputs if not any(tensor in states for tensor, _, _ in o.parts)]
    want = {key: want[key] for key in results} or want  # carried states count only where nothing else comes out
    chosen: dict[str, InputScheme] = dict(given)
    reasons: list[str] = []
    candidates = _candidates(scheme)
    done = 0
    for name in names:
        if name in given:
            continue
        measured: dict[InputScheme, dict[str, float]] = {}
        for candidate in candidates:
            trial_schemes: dict[str, InputScheme] = {**dict.fromkeys(names, candidates[-1]), **chosen, name: candidate}
            session = Session(Builder(model, ranges, scheme, trial_schemes, []).build(provenance))
            got = session.run_batch(trial)[0].outputs
            measured[candidate] = {key: sqnr_db(want[key], got[key]) for key in want}
            done += 1
            progress(done)
        best = {key: max(m[key] for m in measured.values()) for key in want}
        chosen[name] = next(
            c
            for c in candidates
            if all(measured[c][key] >= best[key] - TRIAL_TOLERANCE_DB for key in want) or c == "16"
        )
        worst = {c: min(m.values()) for c, m in measured.items()}
        listed = ", ".join(f"{c}: {db:.1f} dB" for c, db in worst.items())
        reasons.append(f"{name}: input scheme {chosen[name]} chosen by SQNR on held-out calibration data ({listed})")
    return chosen, reasons


def _split(batch: Batch) -> tuple[Batch, Batch]:
    """Return every other sequence for ranges and the rest for errors; a single sequence gives its first half, and the whole for errors."""
    batch = batch.take(np.nonzero(batch.lengths)[0])
    if batch.size > 1:
        size = min(batch.size, 2 * TRIAL_SEQUENCES)
        return batch.take(np.arange(0, size, 2)), batch.take(np.arange(1, size, 2))
    half = replace(batch, lengths=np.maximum(batch.lengths // 2, 1))
    return half.take(np.arange(1)), batch


def random_inputs(model: FloatModel, sequences: int = 16, steps: int = 32, seed: int = 0) -> dict[str, Any]:
    """Return standard normal features and uniform tokens, for trials without data; a model without memory gets as many rows."""
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
