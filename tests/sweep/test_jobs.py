"""The order in which the sweep of tools/gpu_check runs plans, and how it keeps to its time: with a made-up device and a made-up clock."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from gpu_check.part_sweep import MARGIN, ORDER, SECONDS, Sweep, Timing, page
from gpu_check.sweep_jobs import BATCHES, CLOSE, FARTHEST, HIDDEN, Case, Job, candidates, cases, dry_cases, jobs

from qrnn.backends.cuda.costs import costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import BLOCK, LAUNCH, Kind, ProductKind, StepKind
from qrnn.backends.cuda.plan import StepPlan, plans

H100 = Device("Made-up H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)
COSTS = costs_of((9, 0))
PRODUCT = ProductKind(1, False, (9, 0))


class Clock:
    """Seconds that pass when a runner says so."""

    def __init__(self, seconds: float) -> None:
        self.now, self.end = 0.0, seconds

    def left(self) -> float:
        return self.end - self.now


class Runner:
    """Compiles in ``compile_seconds`` and runs in ``run_seconds``; answers what ``outcome`` says of a plan."""

    def __init__(self, clock: Clock, compile_seconds: float = 2.0, run_seconds: float = 0.1) -> None:
        self.clock, self.compile_seconds, self.run_seconds = clock, compile_seconds, run_seconds
        self.done: list[tuple[str, StepKind]] = []
        self.wrong: set[StepKind] = set()
        self.failing: set[StepKind] = set()
        self.works = True

    def prepare(self, kind: StepKind, case: Case, plan: StepPlan) -> None:
        self.clock.now += self.compile_seconds
        self.done.append(("compiled", kind))
        if kind in self.failing:
            raise RuntimeError("CUDA_ERROR\nof the driver")

    def run(self, case: Case, plan: StepPlan) -> Timing:
        self.clock.now += self.run_seconds
        self.done.append(("ran", plan.kind))
        kinds: tuple[Kind, ...] = (PRODUCT, plan.kind)
        if plan.kind in self.wrong:
            return Timing(False, None, (2, 8), None, kinds)
        return Timing(True, plan.cycles / 1000.0, (2, 8), 0.01, kinds)

    def alive(self) -> bool:
        return self.works


def sweep(seconds: float, **speeds: float) -> tuple[Sweep, Runner, list[dict[str, Any]]]:
    clock = Clock(seconds)
    runner = Runner(clock, **speeds)
    return Sweep(H100, COSTS, 1000.0, runner, clock.left, lambda: clock.now), runner, []


WANTED = jobs(cases(), H100, COSTS)


def test_every_case_is_there() -> None:
    every = cases()
    assert len(every) == len(set(every)) == 2 * 2 * len(HIDDEN) * len(BATCHES)
    assert (min(HIDDEN), max(HIDDEN), max(BATCHES)) == (64, 2048, 1024)
    assert {case for job in WANTED for case, _ in job.runs} == set(every)
    assert (ORDER, SECONDS) == (60, 85.0)


def test_candidates_are_of_different_kinds_and_near_the_best() -> None:
    for case in cases():
        found = candidates(case, H100, COSTS)
        every = sorted(plans(case.layout, case.batch, H100, COSTS), key=lambda plan: plan.cycles)
        assert found[0] == every[0]
        assert set(found) <= set(every)
        assert len(found) == len(set(found)) < len(every) or len(every) < 10
        assert all(a.cycles <= b.cycles for a, b in pairwise(found))
        assert max(min(p.cycles for p in found if p.kind == kind) for kind in {p.kind for p in found}) <= (
            FARTHEST * found[0].cycles
        )
    spread = candidates(Case("lstm", 512, 8, 1), H100, COSTS)
    assert len({plan.unit_blocks for plan in spread if plan.kind == spread[0].kind}) == 3
    assert {plan.kind.barrier for plan in candidates(Case("lstm", 256, 1, 1), H100, COSTS)} == {"block", "grid"}


def test_no_run_comes_twice_and_none_is_left_out() -> None:
    runs = [run for job in WANTED for run in job.runs]
    assert len(runs) == len(set(runs))
    assert set(runs) == {(case, plan) for case in cases() for plan in candidates(case, H100, COSTS)}
    assert all(plan.kind == job.kind for job in WANTED for _, plan in job.runs)


def test_each_kernel_is_in_turn_before_any_runs_what_is_left() -> None:
    close = [
        all(plan.cycles <= CLOSE * candidates(case, H100, COSTS)[0].cycles for case, plan in job.runs) for job in WANTED
    ]
    first = [job.kind for job in WANTED[: close.index(False)]]
    assert len(set(first)) == len(first) > 40
    near = {
        plan.kind
        for case in cases()
        for plan in candidates(case, H100, COSTS)
        if plan.cycles <= CLOSE * candidates(case, H100, COSTS)[0].cycles
    }
    assert set(first) == near


def test_few_kernels_tell_of_most_cases() -> None:
    """The times of an 8-bit LSTM are known early, and every case has run once after a part of the kernels."""
    kinds = len({job.kind for job in WANTED})
    seen: set[Case] = set()
    for job in WANTED[: kinds // 2]:
        seen |= {case for case, _ in job.runs}
    assert seen == set(cases())
    assert WANTED[0].kind.cell == 0
    assert WANTED[0].kind.operand_bytes == 1


@pytest.mark.parametrize("seconds", [5.0, 20.0, 100.0, 10_000.0])
def test_it_ends_in_time_and_says_what_is_left(seconds: float) -> None:
    one, runner, written = sweep(seconds)
    one.go(WANTED, None, written.append)
    last = json.loads(json.dumps(written[-1]))
    assert runner.clock.left() >= MARGIN - 0.1 or seconds == 10_000.0
    assert runner.clock.left() < MARGIN + 2.5 or seconds == 10_000.0
    total = sum(len(job.runs) for job in WANTED)
    assert len(last["runs"]) + sum(one["runs"] for one in last["left"]) == total
    assert (last["left"] == []) == (seconds == 10_000.0)
    assert len(written) == len(last["runs"]) + 1
    compiled = [kind for what, kind in runner.done if what == "compiled"]
    assert len(compiled) == len(set(compiled)) == len(last["compiled"])
    if last["left"]:
        assert "Not run: " in page(last)


def test_a_slow_compiler_is_noticed() -> None:
    """The longest compilation so far is kept free for the next one."""
    one, runner, written = sweep(100.0, compile_seconds=30.0)
    one.go(WANTED, None, written.append)
    assert runner.clock.left() >= MARGIN - 0.1
    assert len(written[-1]["compiled"]) == 3


def test_a_kernel_with_wrong_bits_runs_no_more() -> None:
    one, runner, written = sweep(10_000.0)
    bad = WANTED[0].kind
    runner.wrong = {bad}
    one.go(WANTED, None, written.append)
    last = written[-1]
    assert runner.done.count(("ran", bad)) == 1
    assert [run["plan"] for run in last["runs"] if not run["exact"]] == [WANTED[0].runs[0][1].name]
    assert one.evidence.wrong == {bad: 1}, "the product before it is not suspected"
    assert bad not in one.evidence.exact
    assert "1 not, 0 failed" in page(last)
    assert "Gave other bits than the reference:\n\n- LSTM" in page(last)


def test_a_kernel_that_fails_is_left_out_and_named() -> None:
    one, runner, written = sweep(10_000.0)
    bad = WANTED[1].kind
    runner.failing = {bad}
    one.go(WANTED, None, written.append)
    last = written[-1]
    assert runner.done.count(("compiled", bad)) == 1
    assert [run["why"] for run in last["failed"]] == ["RuntimeError: CUDA_ERROR of the driver"]
    assert one.evidence.wrong == {bad: 1}
    assert len(last["runs"]) > 100


def test_nothing_more_is_blamed_when_the_device_is_lost() -> None:
    one, runner, written = sweep(10_000.0)
    runner.failing, runner.works = {WANTED[0].kind}, False
    one.go(WANTED, None, written.append)
    assert one.evidence.wrong == {WANTED[0].kind: 1}
    assert written[-1]["runs"] == []
    assert len(written[-1]["failed"]) == 1


def test_the_kernel_that_ran_is_the_one_that_is_recorded() -> None:
    """A grid that cannot meet runs by launches: that kernel is exact then, and the run is of it."""
    one, runner, written = sweep(10_000.0)
    grid = next(job for job in WANTED if job.kind.barrier == "grid")
    launched = replace(grid.kind, barrier=LAUNCH)
    runner.run = lambda *_: Timing(True, 1.0, (2, 8), 0.0, (PRODUCT, launched))  # type: ignore[method-assign]
    one.go([Job(grid.kind, grid.runs[:2])], None, written.append)
    assert one.evidence.exact == {PRODUCT: 2, launched: 2}
    assert {run["kernel"]["barrier"] for run in written[-1]["runs"]} == {LAUNCH}


def test_a_dry_run_has_the_smallest_sizes() -> None:
    small = replace(H100, processors=4, cooperative=False)
    wanted = jobs(dry_cases(), small, COSTS)
    assert {job.kind.barrier for job in wanted} <= {BLOCK, LAUNCH}
    one, _, written = sweep(10_000.0)
    one.go(wanted, 3, written.append)
    assert len(written[-1]["runs"]) == 3


def test_the_page() -> None:
    one, _, written = sweep(10_000.0)
    wanted = jobs([Case("gru", 64, 8, 1)], H100, COSTS)
    one.go(wanted, None, written.append)
    text = page(json.loads(json.dumps(written[-1])))
    best = candidates(Case("gru", 64, 8, 1), H100, COSTS)[0]
    us = f"{best.cycles / 1000:.2f}"
    assert f"| {best.name} | {us} | {us} | {best.name} | {us} | 1.00 |" in text
    assert "GRU 64, batch 8, 8-bit operands" in text
    assert "A kernel took 2.00 s to compile, at most 2.00 s." in text
    assert COSTS.source in text
