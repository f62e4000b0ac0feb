"""Measure the latency of one step on this machine, one model at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qrnn.lab.evaluate import Setting
from qrnn.model.batch import Batch, make_batch
from qrnn.model.file import load
from qrnn.running.bench import BenchPlan, bench_model, not_streamed, processor

SECONDS = 0.15
"""The seconds of measuring for each model."""


def latency_batch(setting: Setting) -> Batch:
    """Return the first sequence of the data that has steps."""
    batch = make_batch(setting.model.inputs, setting.data)
    return batch.take(np.flatnonzero(batch.lengths)[:1])


def measure_latency(path: Path, batch: Batch) -> dict[str, Any]:
    """Return the µs per step on one thread.

    It is the median of single steps of a stream, or of whole sequences where a layer reads them backwards.
    """
    model = load(path)
    streams = not_streamed(model) is None
    times = bench_model(model, batch, BenchPlan((1,), (1,), SECONDS, whole=not streams, stream=streams))
    if streams:
        row = times.stream[0]
        return {"us": row.p50, "us_99": row.p99, "of": "single steps", "processor": processor()}
    return {"us": times.whole[0].us_per_step, "us_99": None, "of": "whole sequences", "processor": processor()}
