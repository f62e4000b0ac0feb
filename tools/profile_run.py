"""Measure where the time of a run goes, call by call, on one core, and write docs/benchmarks/profile.md.

    python tools/profile_run.py [--output docs/benchmarks/profile.md]

A run of whole sequences is a list of compiled calls (`qrnn.backends.cpu.sequences`): each is timed by itself here, again and again on the
same data, beside the whole `Session.run`; what is left is Python. The last column is the time that the recurrent call's multiply-adds alone
would take at the best int8 rate, measured in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_limits import peak
from bench_workloads import Case, work
from provenance import when

import qrnn
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.isa import available_isas
from qrnn.running.bench import processor
from qrnn.system.atomic import write_atomically

CASES = tuple(Case(cell, H, N) for N in (1, 32) for cell in ("lstm", "gru") for H in (64, 256, 512))
ROUNDS, SAMPLE_SECONDS = 15, 0.02

PAGE = """# Where the time of a run goes

Made by `python tools/profile_run.py` on {date}: {processor}, one thread, instruction set {isa}. µs a time step of the batch, sequences of
100 steps, inputs as many as units, medians of {rounds} rounds. Quantizing reads and
checks the user's floats, dequantizing writes the user's floats.

| cell, H, batch | whole run | quantize | recurrent | dequantize | Python | the multiply-adds alone |
|---|---|---|---|---|---|---|
{rows}
"""


def seconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call, warm."""
    call()
    start = time.perf_counter()
    call()
    repeats = max(1, int(SAMPLE_SECONDS / max(time.perf_counter() - start, 1e-7)))
    samples = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        samples.append((time.perf_counter() - start) / repeats)
    return median(samples)


def profile(case: Case) -> list[float]:
    """Return the µs per step of the run, its three calls, the rest, and the multiply-adds."""
    given = work(case)
    session = qrnn.Session(given.network.quantized, threads=1)
    inputs = {"x": given.x}
    whole = seconds(lambda: session.run(inputs))
    engine = session.engine
    assert isinstance(engine, CpuEngine)
    rows = engine.sequences(case.batch, case.steps, given.x.dtype, given.x.dtype)
    assert rows is not None
    rows.read_from("x", given.x)
    kept = np.zeros(given.want.shape, given.x.dtype)
    rows.write_to("y", kept)
    (share,) = rows.shares
    assert rows.run(case.batch)
    assert np.array_equal(kept, session.run(inputs).outputs["y"])
    parts = [seconds(partial(one.run, 0, case.batch * case.steps)) for one in share.calls.one_by_one()]
    macs = case.step_macs / peak(1).rate * case.steps
    return [1e6 * value / case.steps for value in (whole, *parts, whole - sum(parts), macs)]


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Profile runs on one core.")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/profile.md"))
    options = parser.parse_args()
    rows = []
    for case in CASES:
        rows.append(
            f"| {case.label}, batch {case.batch} | " + " | ".join(f"{value:.3g}" for value in profile(case)) + " |"
        )
        print(rows[-1], flush=True)
    page = PAGE.format(
        date=when(),
        processor=processor(),
        isa=available_isas()[0],
        rounds=ROUNDS,
        rows="\n".join(rows),
    )
    write_atomically(options.output, page.encode())


if __name__ == "__main__":
    main()
