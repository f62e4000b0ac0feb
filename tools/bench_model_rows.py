"""Measure the rows of tools/bench_models.py: every runtime is verified, then timed in interleaved rounds."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench_model_runtimes import ModelWork
from bench_rows import OURS, Settings, verified
from bench_runtimes import LeftOutError, Runtime

from qrnn.running.bench import Others, Timed, interleaved, settle


@dataclass(frozen=True)
class ModelRow:
    """The figures of a model and a batch: µs of a whole run by runtime, SQNR in dB by runtime, and the runtimes left out and why."""

    model: str
    batch: int
    steps: int
    us: dict[str, float]
    sqnr: dict[str, float]
    left_out: dict[str, str]
    rounds: int
    others: float | None = None
    """Cores that other processes used meanwhile."""

    @property
    def peer(self) -> str | None:
        """Return the quickest peer; None without peers."""
        return min((name for name in self.us if name != OURS), key=self.us.__getitem__, default=None)

    def ratio(self, name: str | None = None) -> float | None:
        """Return the time of a peer, the quickest one without a name, over qrnn's; above 1, qrnn is quicker. None where it was not timed."""
        peer = self.peer if name is None else name
        return None if peer is None or peer not in self.us else self.us[peer] / self.us[OURS]


@dataclass(frozen=True)
class ModelResult:
    """The figures of a whole run; ``refused`` says why a model was not converted, by its name."""

    rows: tuple[ModelRow, ...]
    refused: dict[str, str]
    absent: tuple[str, ...]
    settings: Settings
    command: str
    load: float | None


def measure(work: ModelWork, every: Sequence[Runtime], settings: Settings) -> ModelRow:
    """Verify and time runtimes on a model; SystemExit where qrnn's own output is wrong."""
    timed: dict[str, Timed] = {}
    sqnr: dict[str, float] = {}
    left_out: dict[str, str] = {}
    (threads,) = settings.threads
    for runtime in every:
        try:
            runner = runtime.make(work, threads)  # type: ignore[arg-type]  # a work of another kind, which these runtimes take
            sqnr[runtime.name] = verified(runner, work, runtime.least_db)  # type: ignore[arg-type]
        except LeftOutError as reason:
            left_out[runtime.name] = str(reason)
            continue
        timed[runtime.name] = Timed(runner.run, runner.prepare)
        settle()
    if OURS in left_out:
        raise SystemExit(f"{work.name}: {OURS} is not timed, {left_out[OURS]}")
    others = Others()
    samples = interleaved(timed, settings.rounds, settings.sample_seconds, settings.row_seconds)
    us = {name: 1e6 * median(found) for name, found in samples.items()}
    row = ModelRow(
        work.name, work.batch, work.steps, us, sqnr, left_out, len(next(iter(samples.values()))), others.cores()
    )
    del timed, samples
    gc.collect()
    return row
