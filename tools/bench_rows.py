"""Measure the rows of tools/bench_peers.py: every runtime is verified, then timed in interleaved rounds, beside the machine's limit."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from bench_limits import peak, read_rate
from bench_runtimes import LeftOutError, Runner, Runtime
from bench_workloads import Case, Work, work

from qrnn.accuracy.metrics import sqnr_db
from qrnn.running.bench import Others, Timed, interleaved, settle

OURS, ORT = "qrnn", "ONNX Runtime"

BOUND = ", bound"
"""A runtime with memory of its own that is written and read in place has a name that ends so."""

WAYS = {"by call": False, "bound": True}
"""How a step gets its arrays."""


@dataclass(frozen=True)
class Settings:
    """How long to measure: rounds of samples of at least ``sample_seconds``; fewer rounds where a row would exceed ``row_seconds``."""

    threads: tuple[int, ...]
    rounds: int
    sample_seconds: float
    row_seconds: float


@dataclass(frozen=True)
class Limit:
    """The shortest time of a step, in µs, that this machine's reading and arithmetic allow; it is the longer of the two."""

    reading: float
    arithmetic: float

    @property
    def us(self) -> float:
        """The longer of the two times, in µs."""
        return max(self.reading, self.arithmetic)


@dataclass(frozen=True)
class Best:
    """The quickest of some runtimes."""

    name: str
    threads: int
    us: float


@dataclass(frozen=True)
class Row:
    """The figures of one row.

    They are µs per step by runtime and threads, SQNR in dB by runtime, the runtimes left out and why, and the limit by threads.
    """

    case: Case
    us: dict[str, dict[int, float]]
    sqnr: dict[str, float]
    left_out: dict[str, str]
    limits: dict[int, Limit]
    rounds: int
    others: float | None = None
    """Cores that other processes used meanwhile."""

    def ours(self, threads: int | None = None, bound: bool | None = None) -> Best:
        """Return qrnn's time with ``threads`` threads, or with the best number of them; ``bound`` selects one way of calling it."""
        found = self._best({OURS, OURS + BOUND}, threads, bound)
        assert found is not None
        return found

    def peer(self, threads: int | None = None, prefix: str = "", bound: bool | None = None) -> Best | None:
        """Return the best peer whose name begins with ``prefix``, with ``threads`` threads or the best number of them; None without peers."""
        peers = {name for name in self.us if not name.startswith(OURS) and name.startswith(prefix)}
        return self._best(peers, threads, bound)

    def ratio(self, threads: int | None = None, prefix: str = "", bound: bool | None = None) -> float | None:
        """Return the time of that peer over qrnn's; above 1, qrnn is quicker."""
        peer = self.peer(threads, prefix, bound)
        return None if peer is None else peer.us / self.ours(threads, bound).us

    @property
    def over_limit(self) -> float:
        """The ratio of qrnn's best time to the limit for its threads."""
        ours = self.ours()
        return ours.us / self.limits[ours.threads].us

    def _best(self, names: set[str], threads: int | None, bound: bool | None) -> Best | None:
        found = [
            Best(name, count, us)
            for name in self.us
            if name in names and bound in (None, name.endswith(BOUND))
            for count, us in self.us[name].items()
            if threads in (None, count)
        ]
        return min(found, key=lambda one: one.us, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        c, ours, peer = self.case, self.ours(), self.peer()
        return {
            "cell": c.cell,
            "hidden": c.hidden,
            "batch": c.batch,
            "steps": c.steps,
            "streaming": c.streaming,
            "rounds": self.rounds,
            "others_cores": self.others,
            "us_per_step": {name: {str(k): v for k, v in found.items()} for name, found in self.us.items()},
            "sqnr_db": self.sqnr,
            "left_out": self.left_out,
            "limit_us": {
                str(k): {"reading": limit.reading, "arithmetic": limit.arithmetic} for k, limit in self.limits.items()
            },
            "qrnn": {"name": ours.name, "threads": ours.threads, "us": ours.us},
            "best_peer": None if peer is None else {"name": peer.name, "threads": peer.threads, "us": peer.us},
            "ratio": self.ratio(),
            "ratio_by_threads": {str(k): self.ratio(k) for k in self.us[OURS]},
            "ratio_to_onnx_runtime": {way: self.ratio(prefix=ORT, bound=bound) for way, bound in WAYS.items()},
            "qrnn_over_limit": self.over_limit,
        }


def limit(case: Case, threads: int) -> Limit:
    """Return what a step needs at least: R read once (W too when streaming, else once per sequence), every multiply-add done once.

    One thread's share of the matrices is what it reads again and again, so that share's size decides from which cache.
    """
    again = case.matrix_bytes * (2 if case.streaming else 1)
    once = 0.0 if case.streaming else case.matrix_bytes / case.steps
    return Limit(1e6 * (again + once) / read_rate(again, threads), 1e6 * case.step_macs / peak(threads).rate)


def verified(runner: Runner, work: Work, least_db: float) -> float:
    """Return the SQNR of a runner's output in dB; LeftOutError where it is below ``least_db`` or has another shape than the answer."""
    got = runner.output()
    if got.shape != work.want.shape:
        raise LeftOutError(f"its output is {list(got.shape)}, expected {list(work.want.shape)}")
    if not np.isfinite(got).all():
        raise LeftOutError("its output is not finite")
    sqnr = sqnr_db(work.want, got)
    if not sqnr >= least_db:
        raise LeftOutError(f"its output is wrong: SQNR {sqnr:.1f} dB, expected at least {least_db:g} dB")
    return sqnr


def measure(case: Case, runtimes: Sequence[Runtime], settings: Settings) -> Row:
    """Verify and time ``runtimes`` on a case."""
    given = work(case)
    timed: dict[str, Timed] = {}
    places: dict[str, tuple[str, int]] = {}
    sqnr: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for runtime in runtimes:
        if not (case.streaming or runtime.whole):
            continue
        for threads in settings.threads:
            try:
                runner = runtime.make(given, threads)
                runner.prepare()
                found = verified(runner, given, runtime.least_db)
            except LeftOutError as reason:
                left_out[runtime.name] = str(reason)
                continue
            sqnr[runtime.name] = min(found, sqnr.get(runtime.name, math.inf))
            key = f"{runtime.name} {threads}"
            timed[key], places[key] = Timed(runner.run, runner.prepare), (runtime.name, threads)
            settle()
    for name, reason_given in left_out.items():
        if name.startswith(OURS):
            raise SystemExit(f"{case.name}: {name} is not timed, {reason_given}")
    others = Others()
    samples = interleaved(timed, settings.rounds, settings.sample_seconds, settings.row_seconds)
    busy = others.cores()
    us: dict[str, dict[int, float]] = {}
    for key, found_samples in samples.items():
        name, threads = places[key]
        us.setdefault(name, {})[threads] = 1e6 * median(found_samples) / case.steps
    rounds = len(next(iter(samples.values())))
    limits = {threads: limit(case, threads) for threads in settings.threads}
    row = Row(case, us, sqnr, left_out, limits, rounds, busy)
    del timed, samples
    gc.collect()
    return row


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return the geometric mean, or None without values."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures that the page begins with."""

    def of(chosen: list[Row], prefix: str = "", bound: bool | None = None) -> dict[str, Any] | None:
        ratios = [(ratio, row) for row in chosen if (ratio := row.ratio(prefix=prefix, bound=bound)) is not None]
        if not ratios:
            return None
        worst, row = min(ratios, key=lambda one: one[0])
        peer = row.peer(prefix=prefix, bound=bound)
        assert peer is not None
        return {
            "rows": len(ratios),
            "geometric_mean": geometric_mean([ratio for ratio, _ in ratios]),
            "worst": worst,
            "worst_row": row.case.label,
            "worst_batch": row.case.batch,
            "worst_peer": peer.name,
            "behind": sum(ratio < 1.0 for ratio, _ in ratios),
        }

    whole = [row for row in rows if not row.case.streaming]
    streaming = [row for row in rows if row.case.streaming]
    batches = sorted({row.case.batch for row in whole})
    return {
        "whole": {str(n): of([row for row in whole if row.case.batch == n]) for n in batches},
        "streaming": of(streaming),
        "streaming_to_onnx_runtime": {way: of(streaming, ORT, bound) for way, bound in WAYS.items()},
    }


def positive(text: str) -> int:
    """Return a number of the command line that is at least 1; ValueError for another."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value
