"""Measure how many real-time streams one core carries through a StreamPool, and write docs/benchmarks/streams.md and streams.json.

    python tools/bench_streams.py [--cells lstm gru] [--hidden 128] [--tick-ms 10] [--ticks 500] [--output docs/benchmarks/streams.md]

Every tick, all open streams have a frame and take one step together; a tick's latency is from when it was due until its outputs are there,
so that one that is late makes the next one late too. Short trials find the largest number of streams whose 90th percentile stays within the
tick; from there on, 15 % fewer at a time are tried until the 99.9th percentile of all ``--ticks`` does, a few times at most: on a machine
that stalls by itself no number of streams holds, and the page says so. Outputs of some streams are compared with the reference beforehand.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from bench_limits import peak
from bench_workloads import GATES, Cell, network
from provenance import when

import qrnn
from qrnn.backends.cpu.isa import available_isas
from qrnn.running.bench import Others, processor
from qrnn.system.atomic import write_atomically

TRIAL_TICKS = 100
STEP = 1.02
"""Two neighbouring numbers of streams."""

FEWER = 0.93
"""The fraction of the streams of a failed confirmation that is tried next."""

CONFIRMATIONS = 12
"""So often at most."""

FRAMES = 7
"""Sets of frames, in turn."""


@dataclass(frozen=True)
class Found:
    """The number of streams that one core carries, and the latencies of a tick in ms, over ``ticks``."""

    cell: str
    hidden: int
    streams: int
    ready: int
    """Streams that step each tick."""
    ticks: int
    p50: float
    p99: float
    p99_9: float
    largest: float
    late: int
    """Ticks that took longer than a tick."""
    limit: int
    """Streams whose multiply-adds alone the core can do in a tick."""
    others_cores: float | None


class Load:
    """A pool of streams on one core, of which ``share`` have a frame each tick."""

    def __init__(self, model: Any, streams: int, share: float) -> None:
        rng = np.random.default_rng(0)
        self._pool = qrnn.Session(model, threads=1).pool(streams)
        numbers = np.array([self._pool.open() for _ in range(streams)])
        self.ready = max(1, round(share * streams))
        chosen = [numbers if share == 1 else rng.permutation(numbers)[: self.ready] for _ in range(FRAMES)]
        x = [rng.normal(size=(self.ready, model.inputs[0].features)).astype(np.float32) for _ in range(FRAMES)]
        self._work = [(who, {"x": frames}) for who, frames in zip(chosen, x, strict=True)]

    def tick(self, number: int) -> None:
        """Compute all frames of one tick."""
        self._pool.step(*self._work[number % FRAMES])

    def verify(self, model: Any) -> None:
        """Compare three streams with the reference, where each runs alone, over a few ticks."""
        reference = qrnn.Session(model, "reference")
        watched = self._work[0][0][:3]
        states = {int(n): reference.initial_state(1) for n in watched}
        for who, inputs in self._work:
            got = self._pool.step(who, inputs)["y"]
            for row in np.nonzero(np.isin(who, watched))[0]:
                n = int(who[row])
                want = reference.step({"x": inputs["x"][row : row + 1]}, states[n])
                states[n] = want.state
                if not np.array_equal(got[row : row + 1], want.outputs["y"]):
                    raise SystemExit(f"stream {n} differs from the reference")


def latencies(load: Load, ticks: int, tick_s: float) -> Any:
    """Return the seconds from each tick's due time to its end, in real time."""
    taken = np.empty(ticks)
    gc.collect()
    gc.disable()
    try:
        due = time.perf_counter() + tick_s
        for k in range(ticks):
            while (left := due - time.perf_counter()) > 0:
                if left > 0.001:
                    time.sleep(left - 0.001)
            load.tick(k)
            taken[k] = time.perf_counter() - due
            due += tick_s
    finally:
        gc.enable()
    return taken


def search(cell: Cell, hidden: int, share: float, tick_s: float, ticks: int) -> Found:
    """Find the number of streams by bisection with short trials, then go down from there until all ``ticks`` hold."""
    model = network(cell, hidden).quantized
    Load(model, 64, share).verify(model)
    macs = 2 * GATES[cell] * hidden * hidden

    def holds(streams: int) -> bool:
        return bool(np.percentile(latencies(Load(model, streams, share), TRIAL_TICKS, tick_s), 90) < tick_s)

    streams = _largest(holds, 64)
    for left in reversed(range(CONFIRMATIONS)):
        others, load = Others(), Load(model, streams, share)
        taken = 1e3 * latencies(load, ticks, tick_s)
        p50, p99, p99_9 = (float(v) for v in np.percentile(taken, (50, 99, 99.9)))
        if p99_9 < 1e3 * tick_s or not left:
            late = int((taken > 1e3 * tick_s).sum())
            limit = int(tick_s * peak(1).rate / macs / share)
            return Found(
                cell,
                hidden,
                streams,
                load.ready,
                ticks,
                p50,
                p99,
                p99_9,
                float(taken.max()),
                late,
                limit,
                others.cores(),
            )
        streams = max(1, int(FEWER * streams))
    raise AssertionError("the last confirmation returns")


def _largest(holds: Callable[[int], bool], start: int) -> int:
    """Return the largest number that holds, to within `STEP`; 1 where none does."""
    low, high = 1, start
    while holds(high):
        low, high = high, 2 * high
    while high > max(low * STEP, low + 1):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


PAGE = """# Streams of one core

Made by `{command}` on {date}: {processor}, one thread, instruction set {isa}, Python {python}, Numba {numba}.

A `StreamPool` of as many real-time streams as one core carries: each wants a step every {tick:g} ms, all that are ready step together, and
the 99.9th percentile of the latency, from when a tick is due until its outputs are there, is to stay within the {tick:g} ms ({ticks} ticks in
real time). Input size = H; three streams of each pool were compared with the reference, bit for bit, before timing. The limit is what the
core's measured peak of multiply-adds would carry if nothing else had to be done.

| cell, H | streams | ready a tick | p50 ms | p99 ms | p99.9 ms | largest ms | late ticks | µs a step | limit, streams | others, cores |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

Where only half are ready, another half is drawn at random each tick: the states that a tick needs are then spread over twice the memory.
"""


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Count the real-time streams of one core.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[128])
    parser.add_argument("--tick-ms", type=float, default=10.0)
    parser.add_argument("--ticks", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/streams.md"))
    options = parser.parse_args()
    found = []
    for cell in options.cells:
        for hidden in options.hidden:
            for share in (1.0, 0.5):
                found.append(search(cell, hidden, share, options.tick_ms / 1e3, options.ticks))
                print(found[-1], flush=True)
    rows = [
        f"| {f.cell.upper()} {f.hidden} | {f.streams:,} | {f.ready:,} | {f.p50:.2f} | {f.p99:.2f} | {f.p99_9:.2f} | {f.largest:.2f} | {f.late} "
        f"| {1e3 * f.p50 / f.ready:.2f} | {f.limit:,} | {'unknown' if f.others_cores is None else format(f.others_cores, '.2f')} |"
        for f in found
    ]
    page = PAGE.format(
        command=shlex.join(["python", "tools/bench_streams.py", *sys.argv[1:]]),
        date=when(),
        processor=processor(),
        isa=available_isas()[0],
        python=platform.python_version(),
        numba=numba.__version__,
        tick=options.tick_ms,
        ticks=options.ticks,
        rows="\n".join(rows),
    )
    write_atomically(options.output, page.encode())
    write_atomically(options.output.with_suffix(".json"), json.dumps([asdict(f) for f in found], indent=1).encode())


if __name__ == "__main__":
    main()
