"""Measure what further threads give whole sequences on the CPU, beside what they give loops that only compute or only read.

    python tools/bench_scaling.py [--cells lstm gru] [--sizes 64 128] [--batches 1 8] [--threads 2] [--output PAGE]

Every round times every row once with one thread and once with several, one after the other, and so the loops. What other users of a
machine do meets both sides of a ratio alike. A figure is the lower quartile of its rounds, since what disturbs a round takes time and never
gives any.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_limits import ACCUMULATORS, WORD, Cores, repeat_dot, repeat_read, repeat_vnni
from bench_rows import positive
from bench_workloads import GATES, Case, inputs, network
from llvmlite import binding
from provenance import when

import qrnn
from qrnn.backends.cpu.isa import available_isas
from qrnn.backends.cpu.threads.pool import core_count
from qrnn.running.bench import Others, processor, seconds, settle
from qrnn.system.atomic import write_atomically

SIZES, BATCHES, STEPS = (64, 128, 256, 512, 1024), (1, 8, 16, 32), 100

WARM_SECONDS, SAMPLE_SECONDS, LOOP_SECONDS = 0.008, 0.006, 0.01
"""The seconds of untimed calls before a sample, of a sample at least, and of a sample of a loop."""

FOOTPRINTS = {"reading 256 KiB a core": 1 << 18, "reading 4 MiB a core": 1 << 22}
"""The bytes that each thread reads again and again: from the second-level cache, and from the one that cores share."""

PAGE = """# What a second core gives

Made by `{command}` on {date}: {processor}, {cores} cores, instruction set {isa}; other processes used {others} cores meanwhile.

Whole sequences of {steps} steps, inputs as many as units, floats in and floats out by `Session.run`: µs a time step of the batch with
1 / {threads} threads, and how many times as quick the run is with {threads}. Every round times one thread and {threads} one after the other;
figures are the lower quartiles of {rounds} rounds, since what disturbs a round takes time and never gives any.

| loops without anything in common | with 1 thread | with {threads} | times |
|---|---|---|---|
{loops}

{table}

The first run after a pause of some milliseconds, in which helper threads have gone to sleep. Short runs do not wake them, since to wake a
thread takes as long as these runs take, unless they follow each other closely:

{paused}
"""


@dataclass
class Samples:
    """The seconds of each round with one thread and with several: of runs that follow each other, and of the first run after a pause."""

    one: list[float] = field(default_factory=list)
    several: list[float] = field(default_factory=list)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower quartiles of the seconds with one thread and with several."""
        one, several = (float(np.quantile(found, 0.25)) for found in (self.one, self.several))
        return one, several

    @property
    def times(self) -> float:
        """How many times as quick several threads are."""
        one, several = self.quartiles
        return one / several


@dataclass
class Row:
    """A case, its sessions' runs by their number of threads, and what was measured."""

    case: Case
    runs: dict[int, Callable[[], Any]]
    busy: Samples = field(default_factory=Samples)
    paused: Samples = field(default_factory=Samples)

    def cell(self, samples: Samples) -> str:
        """Return the times of a table's cell."""
        one, several = (1e6 * found / self.case.steps for found in samples.quartiles)
        return f"{one:.3g} / {several:.3g}, **{samples.times:.2f}**"


@dataclass
class Loop:
    """A loop that needs nothing but a core: ``calls`` of one thread each take a number of repeats, of ``work`` units each."""

    name: str
    calls: list[Callable[[int], Any]]
    work: float
    unit: str
    samples: Samples = field(default_factory=Samples)
    repeats: int = 1


def rows_of(options: argparse.Namespace) -> list[Row]:
    """Return the rows that are asked for, and let each run once."""
    rows = []
    for cell in options.cells:
        for hidden in options.sizes:
            model = network(cell, hidden).quantized
            sessions = {count: qrnn.Session(model, threads=count) for count in (1, options.threads)}
            for batch in options.batches:
                given = {"x": inputs(hidden, batch, STEPS, seed=2)}
                runs: dict[int, Callable[[], Any]] = {k: partial(s.run, given) for k, s in sessions.items()}
                first, second = (runs[count]().outputs["y"] for count in (1, options.threads))
                np.testing.assert_array_equal(first, second)
                rows.append(Row(Case(cell, hidden, batch, STEPS), runs))
    return rows


def loops_of(threads: int) -> list[Loop]:
    """Return the loops: of arithmetic, and of reading."""
    loops = []
    if binding.get_host_cpu_features().get("avx512vnni"):
        binding.initialize_native_asmparser()
        loops.append(Loop("dot products on registers", [repeat_vnni] * threads, 64e-9 * ACCUMULATORS, "GMAC/s"))
    else:
        operands = [(np.ones(4096, np.int8), np.ones(4096, np.int8)) for _ in range(threads)]
        calls: list[Any] = [partial(repeat_dot, a, b) for a, b in operands]
        loops.append(Loop("a plain dot product", calls, 4096e-9, "GMAC/s"))
    for name, size in FOOTPRINTS.items():
        chunk = WORD * ACCUMULATORS
        buffers = [np.ones(size + WORD, np.uint8) for _ in range(threads)]
        starts = [b.ctypes.data + -b.ctypes.data % WORD for b in buffers]
        calls = [_Reading(start, size // chunk, buffer) for start, buffer in zip(starts, buffers, strict=True)]
        loops.append(Loop(name, calls, 1e-9 * size, "GB/s"))
    for loop in loops:
        loop.calls[0](1)
        while (taken := seconds(partial(loop.calls[0], loop.repeats))) < LOOP_SECONDS:
            loop.repeats = max(2 * loop.repeats, int(loop.repeats * LOOP_SECONDS / max(taken, 1e-6)))
    return loops


class _Reading:
    """Reads a buffer, which it keeps, again and again."""

    def __init__(self, start: int, chunks: int, buffer: Any) -> None:
        self._start, self._chunks, self._buffer = start, chunks, buffer

    def __call__(self, repeats: int) -> Any:
        return repeat_read(self._start, self._chunks, repeats)


def time_row(row: Row, threads: int, number: int) -> None:
    """Time a row once with one thread and once with several; every other round the other way round."""
    order = (1, threads) if number % 2 == 0 else (threads, 1)
    for count in order:
        run = row.runs[count]
        settle()
        first = seconds(run)
        (row.paused.one if count == 1 else row.paused.several).append(first)
        end = time.perf_counter() + WARM_SECONDS - first
        repeats = max(1, round(SAMPLE_SECONDS / first + 0.5))
        while time.perf_counter() < end:
            run()
        (row.busy.one if count == 1 else row.busy.several).append(seconds(run, repeats))


def time_loop(loop: Loop, pool: ThreadPoolExecutor) -> None:
    """Time a loop with one thread and with all."""
    for calls, found in ((loop.calls[:1], loop.samples.one), (loop.calls, loop.samples.several)):
        settle()
        taken = seconds(lambda calls=calls: [done.result() for done in [pool.submit(c, loop.repeats) for c in calls]])  # type: ignore[misc]
        found.append(taken / len(calls))  # of the work of one thread


def measured(rows: Sequence[Row], loops: Sequence[Loop], threads: int, rounds: int) -> float | None:
    """Run the rounds, and return how many cores other processes used."""
    others = Others()
    with ThreadPoolExecutor(threads, initializer=Cores(threads).take) as pool:
        for number in range(rounds):
            for loop in loops:
                time_loop(loop, pool)
            for row in rows:
                time_row(row, threads, number)
    return others.cores()


def table(rows: Sequence[Row], which: Callable[[Row], Samples]) -> str:
    """Return a table of layers by batches."""
    batches = sorted({row.case.batch for row in rows})
    lines = ["| |" + "".join(f" batch {batch} |" for batch in batches), "|---" * (1 + len(batches)) + "|"]
    for label in dict.fromkeys(row.case.label for row in rows):
        own = {row.case.batch: row for row in rows if row.case.label == label}
        lines.append(f"| {label} |" + "".join(f" {own[batch].cell(which(own[batch]))} |" for batch in batches))
    return "\n".join(lines)


def loop_line(loop: Loop) -> str:
    """Return a loop's line of the page."""
    rates = [loop.work * loop.repeats / found for found in loop.samples.quartiles]
    return f"| {loop.name} | {rates[0]:.0f} {loop.unit} | {rates[1]:.0f} {loop.unit} | **{loop.samples.times:.2f}** |"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure what further threads give on the CPU.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--sizes", nargs="+", type=positive, default=list(SIZES), help="hidden sizes")
    parser.add_argument("--batches", nargs="+", type=positive, default=list(BATCHES))
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=13)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/scaling.md"))
    options = parser.parse_args(arguments)
    if not 2 <= options.threads <= core_count():
        parser.error(f"--threads {options.threads}: expected 2 to the {core_count()} cores that this process may use")
    return options


def main(arguments: Sequence[str]) -> None:
    """Run the tool; see the module."""
    options = parse(arguments)
    date = when()
    rows, loops = rows_of(options), loops_of(options.threads)
    others = measured(rows, loops, options.threads, options.rounds)
    text = PAGE.format(
        command=shlex.join(["python", "tools/bench_scaling.py", *arguments]),
        date=date,
        processor=processor(),
        cores=core_count(),
        isa=available_isas()[0],
        others="an unknown number of" if others is None else f"{others:.2f}",
        steps=STEPS,
        threads=options.threads,
        rounds=options.rounds,
        loops="\n".join(map(loop_line, loops)),
        table=table(rows, lambda row: row.busy),
        paused=table(rows, lambda row: row.paused),
    )
    print(text)
    write_atomically(options.output, text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
