"""Measure one configuration: convert it, compare it with float, build it for the target. `Setting` holds what is the same for all."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.float_run import FloatRun, run_float
from qrnn.accuracy.metrics import decibels
from qrnn.accuracy.probe import ErrorSum
from qrnn.conversion import quantize
from qrnn.devices.fit import CODE_BYTES
from qrnn.devices.measure import Needs, estimate, measure, sizes
from qrnn.errors import QuantizationError, UnsupportedError
from qrnn.export.folder import export_model, read_folder
from qrnn.export.source import export_source
from qrnn.lab.axes import choices, label
from qrnn.lab.gate_curves import gate_curves
from qrnn.lab.training import TrainingPlan, brief, epochs_of
from qrnn.model.batch import make_batch
from qrnn.model.describe import describe
from qrnn.model.digest import array_digest
from qrnn.model.file import save
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.quantization.source_checks import CalibrationWarning
from qrnn.targets import Target

WINDOWS = 32
"""The most windows of SQNR over time."""

WORST = 8
"""The number of sequences that a record names."""

COSTS = ("flash_bytes", "ram_bytes", "instructions")
"""The figures of what a model costs on a target."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What every configuration of a sweep has in common; it can be pickled, so that other processes receive it once.

    ``calibration`` and ``data`` are arrays by graph input, as `qrnn.quantize` and `qrnn.compare` take them. ``reference`` is the result of
    the float model on the data. ``plan`` says on what configurations are trained that are.
    """

    model: FloatModel
    calibration: Mapping[str, Any]
    data: Mapping[str, Any]
    target: Target
    reference: FloatRun | None = None
    plan: TrainingPlan | None = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of model, calibration, data and target; and the layers without memory, which the model's file does not name."""
        source = self.model.source_sha256 or model_digest(self.model)
        target = json.dumps(self.target.to_dict(), sort_keys=True, default=str)
        forgetful = [layer.name for layer in self.model.layers if isinstance(layer, Recurrent) and not layer.memory]
        return {
            "model": source,
            **({"without memory": ", ".join(forgetful)} if forgetful else {}),
            **({"values": json.dumps(dict(self.model.values), sort_keys=True)} if self.model.values else {}),
            "calibration": array_digest(self.calibration),
            "data": array_digest(self.data),
            "target": hashlib.sha256(target.encode()).hexdigest(),
        }


def model_digest(model: FloatModel) -> str:
    """Return the SHA-256 of all parts of a float model that was not read from a file."""
    with np.printoptions(threshold=sys.maxsize, precision=17):
        return hashlib.sha256(repr(model).encode()).hexdigest()


def with_reference(setting: Setting, onnx_path: Any = None) -> Setting:
    """Return ``setting`` with the float model run on its data, with ``onnx_path`` by ONNX Runtime too, where it is installed."""
    batch = make_batch(setting.model.inputs, setting.data)
    return replace(setting, reference=run_float(setting.model, batch, onnx_path))


def evaluate(setting: Setting, scheme: Scheme) -> tuple[Record, bytes | None]:
    """Return the record of one configuration, and its model file.

    The record of a configuration that this model cannot have says why under ``refused``.
    """
    head = {"label": label(scheme), "scheme": choices(scheme)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)  # of the data, and so the same for every configuration
            quantized, trained = made(setting, scheme)
    except (QuantizationError, UnsupportedError) as error:
        return {**head, "refused": " ".join(str(error).split())}, None
    comparison = compare(setting.model, quantized, setting.data, progress=False, reference=setting.reference)
    needs, problem = device_needs(setting, quantized)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        path = Path(temporary) / "model.qrnn"
        save(quantized, path)
        content = path.read_bytes()
    described = describe(quantized)
    record = {
        **head,
        "figures": {**accuracy_figures(comparison), "model_bytes": model_bytes(described), **cost_figures(needs)},
        "cost": {
            "counted": needs is not None and needs.counted,
            "linked": needs is not None and needs.flash_bytes is not None,
            "compiler": None if needs is None else needs.compiler,
            "problem": problem,
        },
        **accuracy_details(comparison),
        "tensors": [{k: v for k, v in t.items() if k != "scales"} for t in described["tensors"]],
        "roundings": described["roundings"],
        "decisions": list(quantized.provenance.decisions),
        "gates": gate_curves(setting.model, quantized),
        **({} if trained is None else {"training": trained}),
    }
    return record, content


def made(setting: Setting, scheme: Scheme, seconds: float | None = None) -> tuple[QuantModel, Record | None]:
    """Return the model of a configuration, and what its training came to, None without one; ``seconds`` limit it in the plan's place."""
    if not epochs_of(scheme) or setting.plan is None:
        return quantize(setting.model, setting.calibration, scheme, setting.target.name, progress=False), None
    found = setting.plan.train(setting.model, setting.calibration, scheme, setting.target.name, seconds)
    return found.model, brief(found)


def device_needs(setting: Setting, quantized: QuantModel, count: bool = True) -> tuple[Needs | None, str | None]:
    """Return what the model needs of the target, and what is missing.

    The figures are counted where that can be done here, else they are those of the target's cost model.
    """
    steps = make_batch(setting.model.inputs, setting.data).steps
    try:
        if not count:
            needs = sizes(export_source(quantized, "model", setting.target.core.kernels), setting.target, steps)
            return replace(needs, instructions=estimate(quantized, setting.target)), None
        with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
            folder = Path(temporary) / "model"
            export_model(quantized, setting.target, folder, "model")
            needs = measure(read_folder(folder, setting.target), setting.target, steps, phases=False, cycles=False)
    except UnsupportedError as error:
        return None, " ".join(str(error).split())
    return needs, needs.problem


def model_bytes(described: Mapping[str, Any]) -> int:
    """Return the bytes of weights as they are stored, four bits in half a byte, with row parameters and gate tables.

    Every reader of the model's own form needs at least these.
    """
    return sum(int(described["bytes"][part]) for part in ("weights", "rows", "tables"))


def cost_figures(needs: Needs | None) -> Record:
    """Return bytes, and instructions per step; None where unknown."""
    if needs is None:
        return dict.fromkeys(COSTS)
    flash = needs.flash_bytes if needs.flash_bytes is not None else needs.constant_bytes + CODE_BYTES
    return {"flash_bytes": flash, "ram_bytes": needs.ram_bytes, "instructions": needs.instructions}


def judged(comparison: Comparison) -> tuple[str, ErrorSum]:
    """Return the output by which a model is judged: the one that decides, else the one with the least SQNR."""
    if comparison.decisions is not None:
        return comparison.decisions.output, comparison.outputs[comparison.decisions.output]
    return min(comparison.outputs.items(), key=lambda item: (not math.isnan(item[1].sqnr_db), item[1].sqnr_db))


def accuracy_figures(comparison: Comparison) -> Record:
    """Return the figures of accuracy.

    They are SQNR in dB (None where exact), the largest error, agreement and accuracy in percent, the drop of accuracy in percentage points,
    and the share of saturated values in percent.
    """
    name, error = judged(comparison)
    d = comparison.decisions
    right = d.correct["quantized"].percent if d is not None and "quantized" in d.correct else None
    saturated, total = (sum(getattr(s, k) for s in comparison.saturation) for k in ("saturated", "total"))
    windows = [db for _, _, db in drift(error) if db is not None]
    return {
        "output": name,
        "sqnr_db": _finite(error.sqnr_db),
        "sqnr_about_mean_db": _finite(error.about_mean_db),
        "floor_db": _finite(comparison.floor[name].sqnr_db),
        "exact": error.noise == 0.0,
        "max_error": error.largest,
        "agreement": None if d is None else d.agreement.percent,
        "accuracy": right,
        "accuracy_drop": None if d is None or right is None else d.accuracy_drop,
        "saturated": saturated,
        "saturated_percent": 100 * saturated / total if total else 0.0,
        "fall_db": windows[0] - windows[-1] if len(windows) > 1 else None,
    }


def accuracy_details(comparison: Comparison) -> Record:
    """Return errors by layer and gate, over time, by sequence, and saturation by place."""
    whole = comparison.to_dict()
    errors = comparison.outputs | comparison.layers

    def brief(part: str) -> Record:
        return {name: {k: v for k, v in e.items() if k != "rmse_by_step"} for name, e in whole[part].items()}

    return {
        "outputs": brief("outputs"),
        "layers": brief("layers"),
        "onnxruntime": brief("onnxruntime_against_float64"),
        "drift": {name: drift(errors[name]) for name in comparison.over_time()},
        "judgement": whole["decisions"],
        "saturation": [asdict(s) for s in comparison.saturation],
        "ranges": comparison.ranges,
        "weight_ranges": comparison.weight_ranges,
        "worst": worst_sequences(comparison),
    }


def drift(error: ErrorSum) -> list[tuple[int, int, float | None]]:
    """Return SQNR over time as (first step, last step, dB) of windows that widen with time, starting at step 1.

    The dB are None where a window has no error, or no signal.
    """
    steps = int(np.count_nonzero(error.count_at))
    if steps == 0:
        return []
    edges = np.unique(np.round(np.geomspace(1, steps + 1, WINDOWS + 1)).astype(int))
    return [
        (
            a,
            b - 1,
            _finite(decibels(error.signal_at[a - 1 : b - 1].sum(), error.noise_at[a - 1 : b - 1].sum())),
        )
        for a, b in itertools.pairwise(edges.tolist())
    ]


def worst_sequences(comparison: Comparison) -> list[Record]:
    """Return the sequences with the least SQNR on the judged output, worst first; their number in the data counts from 0."""
    errors = comparison.by_sequence[judged(comparison)[0]]
    db = np.array([decibels(s, n) for s, n in zip(errors.signal, errors.noise, strict=True)])
    order = np.argsort(np.where(np.isnan(db), np.inf, db), kind="stable")[:WORST]
    chosen = comparison.decisions.chosen if comparison.decisions is not None else {}
    return [
        {
            "sequence": int(n),
            "sqnr_db": _finite(float(db[n])),
            "max_error": float(errors.largest[n]),
            **{source: values[n] for source, values in chosen.items() if source != "onnxruntime"},
        }
        for n in order
        if np.isfinite(db[n])
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
