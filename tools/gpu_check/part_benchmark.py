"""Time qrnn on the GPU beside cuDNN, torch.compile and the device's floor: the most telling rows first, as many as the time allows.

A row is verified before it is timed: qrnn against backend cpu bit for bit, everyone's SQNR against the float64 oracle.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gpu_check.benchmark_page import page as page
from gpu_check.benchmark_rows import (
    COMPILED,
    SEQUENCE,
    Facts,
    Row,
    Spec,
    aims,
    all_rows,
    dry_rows,
    floor_of,
    plan_of,
    summary,
)
from gpu_check.benchmark_timing import ROUNDS, Runner, take_samples, verified_sqnr

ORDER = 50
SECONDS = 140.0
TITLE = "Speed beside cuDNN, torch.compile and the floor"

MARGIN = 4.0
"""Seconds that are left unused before the part's limit."""

ROW_SECONDS, LIKE_ROWS = 4.0, 4
"""What a row is taken to need before one of its like has been measured; after that, as much as the longest of the last ``LIKE_ROWS``."""

COMPILE_SECONDS = 40.0
"""The limit of torch.compile's process, which comes last. It needs ``LEAST_COMPILE_SECONDS`` to be started at all."""
LEAST_COMPILE_SECONDS = 15.0

DRY_ROUNDS = 2

Makers = dict[str, Callable[[Any], Runner]]


class Options(Protocol):
    """What `gpu_check.frame` gives a part."""

    dry_run: bool
    results: dict[str, dict[str, Any]]

    def left(self) -> float:
        """Return the seconds until the part is killed."""


class WrongError(Exception):
    """The part did its work and found something wrong."""


def measure(options: Options, write: Callable[[dict[str, Any]], None]) -> None:
    """Measure the part; see `gpu_check.frame`."""
    from gpu_check import benchmark_ours
    from gpu_check.benchmark_data import PROCESSES, Layers
    from qrnn.backends.cuda.device import find_device

    began = time.monotonic()
    device, specs = find_device(), dry_rows() if options.dry_run else all_rows()
    # Before PyTorch is imported: the compiler's libraries are then those that numba-cuda finds, and not those that PyTorch brings.
    if not benchmark_ours.alive():
        raise WrongError("the device does not run a kernel of one line")
    facts = Facts.of(device, benchmark_ours.clock_megahertz(), options.results.get("latency", {}))
    peers, result = _peers(options.dry_run)
    result |= {
        "device": {"name": device.name, "megahertz": facts.megahertz, "processors": device.processors},
        "barrier_us": {"block": facts.block_barrier_us, "grid": facts.grid_barrier_us},
        "rounds": DRY_ROUNDS if options.dry_run else ROUNDS,
        "dry_run": options.dry_run,
    }
    bench = Benchmark(facts, write, result, specs, DRY_ROUNDS if options.dry_run else ROUNDS)
    bench.publish()
    layers = Layers(specs, 0 if options.dry_run else PROCESSES)
    layers.wait()
    result["prepared_seconds"] = time.monotonic() - began
    reserve = MARGIN + (COMPILE_SECONDS if "torch" in result["versions"] and not options.dry_run else 0.0)

    def make(spec: Spec) -> tuple[Any, Makers]:
        from gpu_check.benchmark_data import data_of

        benchmark_ours.release()
        data = data_of(spec, layers.of(spec))
        return data, {**benchmark_ours.columns(data), **peers(data)}

    bench.run(make, lambda: options.left() - reserve, benchmark_ours.alive)
    if "torch" in result["versions"] and not options.dry_run:
        compile_columns(bench, lambda spec: make(spec)[0], options.left() - MARGIN)
    if bench.wrong:
        raise WrongError(f"{len(bench.wrong)} faults, the first: {bench.wrong[0]}")


def _peers(dry_run: bool) -> tuple[Callable[[Any], Makers], dict[str, Any]]:
    """Return the peers' columns of a row, and their versions; none of PyTorch where it is missing or has no CUDA."""
    result: dict[str, Any] = {"versions": {}, "absent": {}}
    try:
        from gpu_check import benchmark_peers

        result["versions"] = benchmark_peers.versions()
        import torch

        if not torch.cuda.is_available() and not dry_run:
            result = {"versions": {}, "absent": {"torch": "it has no CUDA"}}
            return lambda _data: {}, result
    except ImportError as error:
        result["absent"]["torch"] = str(error)
        return lambda _data: {}, result
    return lambda data: benchmark_peers.columns(data, "cpu" if dry_run else "cuda"), result


class Benchmark:
    """The loop over rows, and the result so far."""

    def __init__(
        self,
        facts: Facts,
        write: Callable[[dict[str, Any]], None],
        result: dict[str, Any],
        specs: Sequence[Spec],
        rounds: int = ROUNDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.facts, self.write, self.result, self.specs = facts, write, result, list(specs)
        self.rounds, self.now = rounds, now
        self.done: list[Spec] = []
        self.wrong: list[str] = []
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LIKE_ROWS))
        result |= {"rows": [], "left_out_rows": [], "failed_rows": {}}

    def publish(self) -> None:
        """Write everything that is known, with the rows that are not measured yet."""
        rows = self.result["rows"]
        self.result["left_out_rows"] = [spec.name for spec in self.specs if spec not in self.done]
        self.result |= {"aims": aims(rows), "summary": summary(rows)}
        self.write(self.result)

    def run(
        self, make: Callable[[Spec], tuple[Any, Makers]], left: Callable[[], float], alive: Callable[[], bool]
    ) -> None:
        """Measure rows in their order, as long as the next one is expected to end before no time is ``left``."""
        for spec in self.specs:
            if self._need(spec) > left():
                self.result["stopped"] = "no time was left"
                continue
            began = self.now()
            self.done.append(spec)
            try:
                row = measure_row(spec, self.facts, self.rounds, make, self.wrong)
            except Exception as error:  # noqa: BLE001  (a row that fails must not cost the others)
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                self.result["failed_rows"][spec.name] = said
                self.wrong.append(f"{spec.name}: {said}")
                failed = True
            else:
                self.result["rows"].append(row.to_dict())
                failed = bool(row.left_out)
            self._seconds[_like(spec)].append(self.now() - began)
            self.publish()
            if failed and not alive():
                self.result["stopped"] = f"the device runs nothing more after {spec.name}"
                self.wrong.append(self.result["stopped"])
                break
        self.publish()

    def _need(self, spec: Spec) -> float:
        """Return the seconds that a row may take: as many as the longest of the last of its kind."""
        return max(self._seconds[_like(spec)], default=ROW_SECONDS)


def _like(spec: Spec) -> str:
    """Name the rows that take about as long."""
    return f"{'large' if spec.hidden * spec.batch > 1 << 17 else 'small'} {spec.kind}"


def measure_row(
    spec: Spec,
    facts: Facts,
    rounds: int,
    make: Callable[[Spec], tuple[Any, Makers]],
    wrong: list[str],
) -> Row:
    """Verify and time a row; a column that fails or is wrong is left out by name, and one of qrnn is also noted in ``wrong``."""
    runners: dict[str, Runner] = {}
    sqnr: dict[str, float] = {}
    left_out: dict[str, str] = {}
    ready: dict[str, float] = {}
    data, makers = make(spec)
    want = data.of_verified(data.layer.want)
    for name, maker in makers.items():
        began = time.monotonic()
        try:
            runner = maker(data)
            found = verified_sqnr(want, runner)
        except Exception as error:  # noqa: BLE001  (a column that does not work must not cost the others)
            left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if name.startswith("qrnn"):
                wrong.append(f"{spec.name}: {name}: {left_out[name]}")
            continue
        ready[name], sqnr[name], runners[name] = time.monotonic() - began, found, runner
    times = take_samples(runners, spec.steps_a_call, rounds)
    notes = {name: runner.note for name, runner in runners.items() if runner.note}
    plan = plan_of(spec, facts.device)
    return Row(
        spec, times, sqnr, left_out, ready, notes, floor_of(spec, facts), "general" if plan is None else plan.name
    )


def compile_columns(
    bench: Benchmark,
    data_of: Callable[[Spec], Any],
    seconds: float,
    start: Callable[..., Any] | None = None,
) -> None:
    """Add the columns of torch.compile to the rows that get them; ``start`` is `gpu_check.benchmark_compile.measured`."""
    from gpu_check import benchmark_compile

    rows = [
        row for row in bench.result["rows"] if row["kind"] == SEQUENCE and (row["hidden"], row["batch"]) in COMPILED
    ]
    limit = min(seconds, COMPILE_SECONDS)
    if not rows or limit < LEAST_COMPILE_SECONDS:
        bench.result["compile"] = {"ended": f"not started: {len(rows)} rows, {max(0.0, limit):.0f} s left"}
        bench.publish()
        return
    bench.result["compile"] = {"limit": limit}
    with tempfile.TemporaryDirectory(prefix="gpu_check-compile-") as name:
        folder = Path(name)
        for number, row in enumerate(rows):
            data = data_of(Spec(row["kind"], row["cell"], row["hidden"], row["batch"], row["steps"]))
            want = data.of_verified(data.layer.want)
            benchmark_compile.save_row(folder, number, data.layer.arrays, data.x, want, data.verified)
        every, measured = len(rows) * len(benchmark_compile.PRECISIONS), 0
        for said in (start or benchmark_compile.measured)(folder, rows, limit):
            if "ended" in said:
                bench.result["compile"]["ended"] = f"{said['ended']}, {measured} of {every} columns measured"
            else:
                _add_column(rows[said["row"]], said)
                measured += 1
            bench.publish()


def _add_column(row: dict[str, Any], said: dict[str, Any]) -> None:
    column = said["column"]
    if "left_out" in said:
        row["left_out"][column] = said["left_out"]
        return
    times = said["times"]
    row["us_per_step"][column], row["host_us_per_call"][column] = times["us"], times["host_us"]
    row["quartiles"][column], row["samples"][column] = [times["low"], times["high"]], times["samples"]
    row["sqnr_db"][column], row["ready_seconds"][column] = said["sqnr_db"], said["ready_seconds"]
