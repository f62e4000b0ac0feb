"""Time is measured by interleaved rounds of repeated calls, and by latencies of single steps; ``qrnn bench`` measures a model by both.

Nothing is timed cold: every call is made before its time counts. A runtime's threads may go on spinning after its call has returned, on a
core that the next one needs, so `settle` waits for this process to be idle before another call is timed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from qrnn.errors import DataError

if TYPE_CHECKING:
    from qrnn.model.batch import Batch
    from qrnn.model.quant_model import QuantModel
    from qrnn.running.session import Session

IDLE_SHARE = 0.2
"""A process that uses less than this share of one core counts as idle."""

IDLE_WINDOW = 0.002
IDLE_WINDOWS = 2
IDLE_LIMIT = 2.0
"""The seconds after which `settle` gives up."""

WARM_SECONDS = 0.05
"""The seconds of untimed calls before a sample: cores that were idle take tens of milliseconds to be as quick as they can."""

LEAST_ROUNDS = 3

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Timed:
    """A function to time, ``call``, and ``prepare``, which is called before each of its samples."""

    call: Callable[[], Any]
    prepare: Callable[[], Any] = _nothing


def seconds(call: Callable[[], Any], repeats: int = 1) -> float:
    """Return the seconds of one call, as the mean of ``repeats`` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def settle(limit: float = IDLE_LIMIT) -> float:
    """Wait until no thread of this process computes, but at most ``limit`` seconds, and return the seconds waited."""
    start = time.perf_counter()
    calm = 0
    while calm < IDLE_WINDOWS and time.perf_counter() - start < limit:
        before, used = time.perf_counter(), time.process_time()
        time.sleep(IDLE_WINDOW)
        used = time.process_time() - used
        calm = calm + 1 if used < IDLE_SHARE * (time.perf_counter() - before) else 0
    return time.perf_counter() - start


def interleaved(
    timed: Mapping[str, Timed], rounds: int, sample_seconds: float, budget: float = float("inf")
) -> dict[str, list[float]]:
    """Return the seconds of one call for each name, one sample per round.

    Every round times each call once, in an order that rotates, so that disturbances of the machine meet all of them. A sample is the mean of
    as many calls as last ``sample_seconds``. There are ``rounds`` rounds, or fewer, but at least `LEAST_ROUNDS`, where all of them would take
    longer than ``budget`` seconds.
    """
    repeats: dict[str, int] = {}
    expected = 0.0
    for name, one in timed.items():
        one.prepare()
        one.call()
        once = seconds(one.call) or 1e-9
        if once < sample_seconds:
            once = min(once, *(seconds(one.call) for _ in range(2))) or 1e-9
        repeats[name] = max(1, round(sample_seconds / once + 0.5))
        expected += repeats[name] * once
        settle()
    rounds = min(rounds, max(LEAST_ROUNDS, int(min(rounds, budget / expected))))
    samples: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for number in range(rounds):
        shift = number * max(1, len(names) // rounds) % len(names)
        for name in names[shift:] + names[:shift]:
            one = timed[name]
            settle()
            one.prepare()
            if repeats[name] > 1:
                _warm(one.call)
            samples[name].append(seconds(one.call, repeats[name]))
    settle()
    return samples


def _warm(call: Callable[[], Any]) -> None:
    end = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < end:
        call()


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def resident_bytes() -> int | None:
    """Return the bytes of this process that are in RAM; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_seconds() -> float | None:
    """Return the processor time that all processes have used since the machine started; None where the system does not tell."""
    try:
        user, nice, system = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=4)[1:4]
    except (OSError, ValueError):
        return None
    return (int(user) + int(nice) + int(system)) / float(os.sysconf("SC_CLK_TCK"))


class Others:
    """A measure of how many cores other processes use, from when it is made."""

    def __init__(self) -> None:
        self._start = (time.perf_counter(), time.process_time(), machine_seconds())

    def cores(self) -> float | None:
        """Return the mean number of cores so far; None where the system does not tell."""
        wall, own, machine = self._start
        now = machine_seconds()
        if now is None or machine is None:
            return None
        used = now - machine - (time.process_time() - own)
        return max(0.0, used / max(time.perf_counter() - wall, 1e-9))


# --- one model ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WholeTimes:
    """Times of runs of whole sequences, ``batch`` at a time, as medians over rounds."""

    batch: int
    threads: int
    us_per_step: float
    """Microseconds of a step of the whole batch."""
    steps_per_second: float
    """Steps per second of all sequences together; padding does not count."""
    sequences_per_second: float
    real_time_factor: float | None
    """The time to compute a step over the time that the step stands for; a model below 1 keeps up."""
    rounds: int


@dataclass(frozen=True)
class StepTimes:
    """Latencies in µs of calls of one step, ``batch`` streams at a time, over ``steps`` calls."""

    batch: int
    threads: int
    steps: int
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float
    steps_per_second: float
    real_time_factor: float | None
    """The median latency over the time that a step stands for."""
    real_time_factor_p99_9: float | None


@dataclass(frozen=True)
class ModelTimes:
    """Everything that `bench_model` measured."""

    steps: int
    whole: tuple[WholeTimes, ...]
    stream: tuple[StepTimes, ...]
    memory: dict[str, int | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class BenchPlan:
    """What to measure: ``seconds`` for each row of a table; ``step_ms`` is the time that a step stands for, in milliseconds."""

    batches: tuple[int, ...] = (1, 32)
    threads: tuple[int, ...] = (1,)
    seconds: float = 1.0
    whole: bool = True
    stream: bool = True
    step_ms: float | None = None
    isa: str | None = None
    """The instruction set, as for `Session`."""


def not_streamed(model: QuantModel) -> str | None:
    """Return why a model cannot be streamed without end; None where it can."""
    from qrnn.model.lateness import needs_whole

    if (fixed := next((layer for layer in model.layers if layer.fixed_steps), None)) is not None:
        return f"layer {fixed.name!r} takes sequences of {fixed.fixed_steps} steps alone"
    return "the model keeps nothing from step to step" if model.rows else needs_whole(model)


def random_arrays(model: QuantModel, sequences: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Return inputs for trials without data: normal features that fill the inputs' ranges, and uniform tokens.

    States start at their own values. A model without memory gets ``sequences`` rows.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for graph_input in model.inputs:
        lead = (sequences, steps) if graph_input.has_time and not graph_input.rows else (sequences,)
        if graph_input.kind == "features":
            arrays[graph_input.name] = rng.standard_normal((*lead, *graph_input.shape))
        elif graph_input.kind == "tokens":
            arrays[graph_input.name] = rng.integers(0, graph_input.vocabulary, lead)
    return within_ranges(model, arrays)


def within_ranges(model: QuantModel, normal: Mapping[str, Any]) -> dict[str, Any]:
    """Return standard normal features so that four standard deviations fill the inputs' ranges; tokens stay as they are."""
    from qrnn.model.boundary import dequantize_array

    arrays = dict(normal)
    for graph_input in model.inputs:
        if graph_input.kind == "features":
            values, fmt = arrays[graph_input.name], model.tensors[graph_input.name]
            flat = values.reshape(*values.shape[: values.ndim - len(graph_input.shape)], graph_input.features)
            arrays[graph_input.name] = dequantize_array(flat * (fmt.limit / 4), fmt).reshape(values.shape)
    return arrays


def bench_model(
    model: QuantModel, batch: Batch, plan: BenchPlan, backend: str = "cpu", before: int | None = None
) -> ModelTimes:
    """Measure ``model`` on the sequences of ``batch``, repeated or cut to each batch size of the plan.

    ``before`` is the number of resident bytes without the model. Raises DataError where the model cannot be streamed as the plan asks.
    """
    from qrnn.running.session import Session

    if plan.stream and (reason := not_streamed(model)) is not None:
        raise DataError(f"{reason} and cannot be streamed; measure whole sequences (stream=False)")
    if not batch.lengths.all():
        batch = batch.take(np.nonzero(batch.lengths)[0])
        if batch.size == 0:
            raise DataError(
                "lengths: every sequence has no steps; there is nothing to time; give a sequence with steps"
            )
    sessions = {threads: Session(model, backend, threads, plan.isa) for threads in plan.threads}
    whole, stream = [], []
    first = batch.take(np.arange(1))
    for session in sessions.values():
        session.run(_arrays(first), first.lengths)
    loaded = resident_bytes()
    for size in plan.batches:
        rows = batch.take(np.arange(size) % batch.size)
        for threads, session in sessions.items():
            if plan.whole:
                whole.append(_whole(session, rows, threads, plan))
            if plan.stream:
                stream.append(_stream(session, rows, threads, plan))
    after = resident_bytes()
    memory = {
        "resident_loaded": None if loaded is None or before is None else loaded - before,
        "resident_running": None if after is None or loaded is None else after - loaded,
    }
    return ModelTimes(batch.steps, tuple(whole), tuple(stream), memory)


def _arrays(batch: Batch) -> dict[str, Any]:
    return {**batch.features, **batch.tokens, **batch.states}


def _whole(session: Session, rows: Batch, threads: int, plan: BenchPlan) -> WholeTimes:
    arrays = _arrays(rows)
    call = Timed(lambda: session.run(arrays, rows.lengths))
    rounds = 7
    samples = interleaved({"run": call}, rounds, plan.seconds / rounds, plan.seconds)["run"]
    taken = median(samples)
    per_step = taken / rows.steps
    return WholeTimes(
        rows.size,
        threads,
        1e6 * per_step,
        int(rows.lengths.sum()) / taken,
        rows.size / taken,
        None if plan.step_ms is None else 1e3 * per_step / plan.step_ms,
        len(samples),
    )


def _stream(session: Session, rows: Batch, threads: int, plan: BenchPlan) -> StepTimes:
    """Time steps of every sequence in turn, past the end of shorter ones too: a step takes as long whatever its input is."""
    timed = {i.name for i in session.model.inputs if i.has_time}
    given = {**rows.features, **rows.tokens}
    frames = [{k: v[:, t] if k in timed else v for k, v in given.items()} for t in range(rows.steps)]
    stream = session.stream(rows.size, session.initial_state(rows.size, rows.states))
    warm_until = time.perf_counter() + 0.1 * plan.seconds
    t = 0
    while t < 2 or time.perf_counter() < warm_until:
        stream.step(frames[t % len(frames)])
        t += 1
    settle()
    taken: list[float] = []
    end = time.perf_counter() + plan.seconds
    t = 0
    while True:
        frame = frames[t % len(frames)]
        start = time.perf_counter()
        stream.step(frame)
        stop = time.perf_counter()
        taken.append(stop - start)
        t += 1
        if stop >= end:
            break
    us = 1e6 * np.array(taken)
    p50, p90, p99, p99_9 = (float(value) for value in np.percentile(us, PERCENTILES))
    factor = (None, None) if plan.step_ms is None else (1e-3 * p50 / plan.step_ms, 1e-3 * p99_9 / plan.step_ms)
    rate = rows.size * len(taken) / sum(taken)
    return StepTimes(rows.size, threads, len(taken), p50, p90, p99, p99_9, float(us.max()), rate, *factor)
