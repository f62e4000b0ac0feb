"""The command ``qrnn bench``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import (
    BackendOption,
    IsaOption,
    check_output,
    console,
    is_stdout,
    print_json,
    read_arrays,
)
from qrnn.system import tables
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.model.batch import Batch
    from qrnn.model.quant_model import QuantModel

DEFAULT_STEPS = 100
"""The number of steps of random inputs."""


def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A .qrnn file.")],
    data: Annotated[
        Path | None, typer.Option(help="DATA.npz: inputs, optionally lengths [N]; random inputs when left out.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a sequence; 100, or all of the data's.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Sequences at a time; repeatable; 1 and 32.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Cores to use; repeatable; 1 and all of them.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Only streaming: one step a call.")] = False,
    seconds: Annotated[float, typer.Option(help="Time for each row of a table.")] = 1.0,
    step_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that a step stands for: also gives real-time factors.")
    ] = None,
    backend: BackendOption = "cpu",
    isa: IsaOption = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Also write JSON; - prints it instead.")] = None,
) -> None:
    """Measure a model's speed on this machine: whole sequences, latency of single steps, memory."""
    from qrnn.backends.cpu.threads.pool import core_count
    from qrnn.errors import DataError
    from qrnn.model.describe import describe
    from qrnn.model.file import load
    from qrnn.running.bench import BenchPlan, bench_model, not_streamed, processor, resident_bytes
    from qrnn.system.atomic import write_atomically

    if json is not None:
        json = check_output(json, (model,) if data is None else (model, data))
    for name, values in (("--batch", batch), ("--threads", threads), ("--steps", steps)):
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            if value < 1:
                raise DataError(f"{name}={value}, expected at least 1")
    for name, number in (("--seconds", seconds), ("--step-ms", 1.0 if step_ms is None else step_ms)):
        if not 0.0 < number < float("inf"):
            raise DataError(f"{name}={number:g}, expected more than 0")
    before = resident_bytes()
    quantized = load(model)
    reason = not_streamed(quantized)
    if stream and reason is not None:
        raise DataError(
            f"{reason} and cannot be streamed; leave out --stream to time {'rows' if quantized.rows else 'whole sequences'}"
        )
    if quantized.rows and steps is not None and steps > 1:
        raise DataError(
            f"--steps={steps}: the model keeps nothing from step to step, so that there are no sequences; give --batch=N for N rows"
        )
    batches = tuple(dict.fromkeys(batch or (1, 32)))
    counts = tuple(dict.fromkeys(threads or (1, core_count())))
    inputs = _inputs(quantized, data, steps, max(batches))
    plan = BenchPlan(batches, counts, seconds, whole=not stream, stream=reason is None, step_ms=step_ms, isa=isa)
    times = bench_model(quantized, inputs, plan, backend, before)
    measured = times.to_dict()
    report = {
        "model": quantized.name,
        "backend": backend,
        "processor": processor(),
        "cores": core_count(),
        "data": "random" if data is None else str(data),
        "step_ms": step_ms,
        "steps": measured["steps"],
        "whole": measured["whole"],
        "stream": measured["stream"],
        "not_streamed": reason,
        "memory": {**describe(quantized)["bytes"], **measured["memory"]},
    }
    if is_stdout(json):
        print_json(report)
        return
    if json is not None:
        write_atomically(json, (json_module.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    _print(report)


def _inputs(model: QuantModel, data: Path | None, steps: int | None, largest: int) -> Batch:
    """Return the sequences to run, from the file or random, of ``steps`` steps."""
    from dataclasses import replace

    import numpy as np

    from qrnn.errors import DataError
    from qrnn.model.batch import make_batch
    from qrnn.model.needed_steps import steps_for
    from qrnn.running.bench import random_arrays

    if data is None:
        steps = steps or steps_for(model, DEFAULT_STEPS)
        return make_batch(model.inputs, random_arrays(model, min(largest, 32), steps))
    batch = make_batch(model.inputs, read_arrays(data, model.inputs))
    if steps is None:
        return batch
    if steps > batch.steps:
        raise DataError(f"--steps={steps}, and {data} has {batch.steps}; give at most that, or leave out --data")
    return replace(batch, lengths=np.minimum(batch.lengths, steps)).take(np.arange(batch.size))


def _print(report: dict[str, Any]) -> None:
    out = console()
    out.print(f"{report['model']} on {report['processor']}, {report['cores']} cores, backend {report['backend']}")
    out.print(f"inputs: {report['data']}, sequences of {report['steps']} steps")
    real_time = report["step_ms"] is not None
    if report["whole"]:
        rows: list[list[str]] = []
        headings = ["batch", "threads", "µs a step", "steps/s", "sequences/s", *["RTF"] * real_time]
        for row in report["whole"]:
            cells = [str(row["batch"]), str(row["threads"]), f"{row['us_per_step']:.2f}"]
            cells += [f"{row['steps_per_second']:,.0f}", f"{row['sequences_per_second']:,.1f}"]
            rows.append(cells + ([f"{row['real_time_factor']:.3g}"] if real_time else []))
        out.print(tables.table([tables.number(heading) for heading in headings], rows, "Whole sequences, medians"))
    if report["not_streamed"] is not None:
        out.print(f"not streamed: {report['not_streamed']}", soft_wrap=True)
    elif report["stream"]:
        rows = []
        headings = ["streams", "threads", "50 %", "90 %", "99 %", "99.9 %", "max", "calls"]
        headings += ["RTF", "at 99.9 %"] * real_time
        for row in report["stream"]:
            cells = [str(row["batch"]), str(row["threads"])]
            cells += [f"{row[key]:.1f}" for key in ("p50", "p90", "p99", "p99_9", "max")]
            factors = [row["real_time_factor"], row["real_time_factor_p99_9"]] if real_time else []
            rows.append([*cells, f"{row['steps']:,}", *(f"{factor:.3g}" for factor in factors)])
        out.print(tables.table([tables.number(title) for title in headings], rows, "One step a call, latency in µs"))
    if real_time:
        out.print(f"RTF, real-time factor: time to compute a step over the {report['step_ms']:g} ms that it stands for")
    m = report["memory"]
    text = f"weights {size_text(m['weights'])}, row parameters {size_text(m['rows'])}, gate tables {size_text(m['tables'])}"
    out.print(f"{text}, state of a stream {size_text(m['state'])}", soft_wrap=True)
    if m["resident_loaded"] is not None:
        grown = [f"{m[key] / 1048576:.1f} MiB" for key in ("resident_loaded", "resident_running")]
        out.print(
            f"process memory: {grown[0]} more with the model and its compiled code loaded, {grown[1]} more after these runs",
            soft_wrap=True,
        )
