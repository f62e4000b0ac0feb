"""Measure many configurations of one model, each once (``qrnn.sweep``): accuracy, drift, saturation, bytes, instructions, latency."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from qrnn.errors import DataError
from qrnn.lab.axes import choices, grid, only
from qrnn.lab.evaluate import Record, Setting, with_reference
from qrnn.lab.executors import process_pool, run_all
from qrnn.lab.latency import latency_batch, measure_latency
from qrnn.lab.pareto import DEFAULT_FRONT, front, known_figures
from qrnn.lab.results import Results
from qrnn.lab.sweep_result import SweepResult
from qrnn.lab.training import TrainingPlan, check_plan
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, check_float
from qrnn.model.user_values import check_count
from qrnn.quantization.scheme import Scheme
from qrnn.system.progress import Wanted, reporting
from qrnn.targets import Target, load_target

_log = logging.getLogger(__name__)


def sweep(
    model: FloatModel | str | os.PathLike[str],
    calibration: Mapping[str, Any],
    data: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    target: Target | str = "cortex-m4",
    vary: Mapping[str, Sequence[Any]] | None = None,
    only_with: Mapping[str, Sequence[Any]] | None = None,
    limit: int | None = None,
    front_of: Sequence[str] = DEFAULT_FRONT,
    jobs: int = 1,
    executor: Any = None,
    latency: bool = True,
    stream: bool = False,
    values: Mapping[str, Any] | None = None,
    training: TrainingPlan | None = None,
    progress: Wanted = None,
) -> SweepResult:
    """Measure every combination of choices on ``data``, and keep the records in ``folder``.

    Parameters
    ----------
    model: a float model, or the path of an ONNX file, which is then imported with ``stream`` and ``values`` as by `qrnn.load_onnx`.
    calibration, data: arrays by graph input name, batch first, as for `qrnn.quantize` and `qrnn.compare`.
    folder: where records are kept. Configurations that it has already are not measured again.
    target: a device, or its name.
    vary: values by field of `Scheme`; the default grid of 80 configurations where it is None. All other fields are the target's. Its axis
        ``finetune`` holds numbers of epochs.
    only_with: values by field, of which a configuration must have one.
    limit: the most configurations, of which the first are taken.
    front_of: the figures of which the Pareto front is made.
    jobs: the processes that measure side by side; a script then needs the usual ``if __name__ == "__main__"``.
    executor: an executor of concurrent.futures, or a `distributed.Client`, in the place of ``jobs`` processes.
    latency: whether latencies are measured too: last, in this process, one at a time.
    training: the data and the most seconds of configurations that are trained.
    progress: called with (done, all) of the configurations and their latencies; None shows a bar where stderr is a terminal, and False shows
        none.

    Raises DataError, QuantizationError or TargetError for what does not fit; nothing is then written.
    """
    from qrnn.trained_files import load_trained

    device = load_target(target) if isinstance(target, str) else target
    known_figures([], front_of)
    check_count("jobs", jobs)
    schemes = configurations(device, vary, only_with, limit)
    path = None if isinstance(model, FloatModel) else model
    if not isinstance(model, str | os.PathLike):
        check_float(model, "sweep")
    float_model = model if isinstance(model, FloatModel) else load_trained(model, stream, values=values)
    make_batch(float_model.inputs, calibration)
    batch = make_batch(float_model.inputs, data)
    check_plan(training, schemes, float_model)
    setting = Setting(float_model, dict(calibration), dict(data), device, plan=training)
    results = Results(Path(folder), setting)
    keys = [results.key(scheme) for scheme in schemes]
    records: dict[int, Record] = {}
    for index, key in enumerate(keys):
        found = results.read(key)
        if found is not None and ("refused" in found or results.model_path(key).is_file()):
            records[index] = found
    missing = [index for index in range(len(keys)) if index not in records]
    total = len(keys) * (2 if latency else 1)

    _log.info("%d configurations, of which %s has %d", len(keys), folder, len(records))
    if missing:
        setting = with_reference(setting, path)
    pool = process_pool(min(jobs, len(missing))) if executor is None and jobs > 1 and missing else nullcontext(executor)
    with reporting(progress, f"{len(keys)} configurations") as report, pool as chosen:
        report(len(records), total)
        for position, record, content in run_all(setting, [schemes[i] for i in missing], chosen):
            index = missing[position]
            records[index] = results.write(keys[index], record, content)
            _log.debug("measured %s: %s", record["label"], record.get("figures") or record["refused"])
            report(len(records), total)
        # A record may come from a sweep that had other axes.
        ordered = [{**records[index], "scheme": json_choices(scheme)} for index, scheme in enumerate(schemes)]
        if latency:
            _latencies(results, setting, ordered, lambda done: report(len(keys) + done, total))
    return SweepResult(
        float_model.name,
        device,
        ordered,
        front(ordered, front_of),
        tuple(front_of),
        results.folder,
        results.versions,
        setting.digests,
        batch.size,
        batch.step_count,
        len(missing),
        stream,
        dict(float_model.values),
    )


def json_choices(scheme: Scheme) -> Record:
    """Return the choices of a configuration as JSON has them."""
    return dict(json.loads(json.dumps(choices(scheme))))


def configurations(
    target: Target,
    vary: Mapping[str, Sequence[Any]] | None = None,
    only_with: Mapping[str, Sequence[Any]] | None = None,
    limit: int | None = None,
) -> list[Scheme]:
    """Return the configurations that `sweep` measures; DataError where there are none."""
    if limit is not None:
        check_count("limit", limit)
    schemes = only(grid(Scheme(**target.scheme), vary), only_with or {})
    if not schemes:
        raise DataError("no configuration is left; expected at least one that has the values asked for")
    return schemes[:limit]


def _latencies(results: Results, setting: Setting, records: list[Record], report: Callable[[int], Any]) -> None:
    """Measure and keep the latencies that are not known yet."""
    batch = latency_batch(setting)
    for index, record in enumerate(records):
        if "figures" in record and "latency" not in record:
            latency = measure_latency(results.model_path(record["key"]), batch)
            rest = {k: v for k, v in record.items() if k != "key"}
            rest |= {"latency": latency, "figures": {**record["figures"], "latency_us": latency["us"]}}
            records[index] = results.write(record["key"], rest)
        report(index + 1)
