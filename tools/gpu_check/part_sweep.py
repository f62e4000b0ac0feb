"""Find the best kernel for each shape: plans of `qrnn.backends.cuda.plan` are run, compared bit for bit with the reference, and timed.

`python tools/gpu_check --fit FOLDER` makes the constants of the estimate from the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gpu_check.frame import CheckError
from gpu_check.sweep_jobs import COMPILE_SECONDS, RUN_SECONDS, Case, Job, cases, dry_cases, jobs
from qrnn.backends.cuda.costs import Costs, costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import Kind, StepKind
from qrnn.backends.cuda.plan import StepPlan
from qrnn.backends.cuda.proofs import Evidence, kind_record

ORDER = 60
SECONDS = 85.0
TITLE = "Which kernel for which shape"

Write = Callable[[dict[str, Any]], None]

MARGIN = 3.0
"""Seconds that are left unused before the part's limit."""

DRY_RUNS = 3
"""Runs of a dry run."""


class Options(Protocol):
    """What `gpu_check.frame` gives a part."""

    dry_run: bool
    results: dict[str, dict[str, Any]]

    def left(self) -> float:
        """Return the seconds until the part is killed."""


@dataclass(frozen=True)
class Timing:
    """The outcome of a run.

    It holds the µs per step by the slope between two numbers of steps, the spread of its repetitions, whether all bits were right, and
    which kernels ran: the step kernel is not the plan's where the device does not hold all blocks of a grid at once.
    """

    exact: bool
    us_per_step: float | None
    steps: tuple[int, int]
    spread: float | None
    kinds: tuple[Kind, ...]


class Runner(Protocol):
    """Runs a plan on a device."""

    def prepare(self, kind: StepKind, case: Case, plan: StepPlan) -> None:
        """Compile the kernel."""

    def run(self, case: Case, plan: StepPlan) -> Timing:
        """Verify and time a plan."""

    def alive(self) -> bool:
        """Return whether the device still works: after some errors it runs nothing more in this process."""


@dataclass
class Sweep:
    """The loop over jobs: it stops where the next run would not end in time, and says what is left."""

    device: Device
    costs: Costs
    megahertz: float
    runner: Runner
    left: Callable[[], float]
    now: Callable[[], float] = time.monotonic
    evidence: Evidence = field(default_factory=Evidence)
    runs: list[dict[str, Any]] = field(default_factory=list)
    compiled: dict[StepKind, float] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)
    run_seconds: list[float] = field(default_factory=list)

    def go(self, wanted: list[Job], most: int | None, write: Callable[[dict[str, Any]], None]) -> None:
        """Run the jobs, at most ``most`` runs of them; ``write`` gets `result` after each run."""
        waiting = {k: list(job.runs) for k, job in enumerate(wanted)}
        broken = set[StepKind]()
        for k, job in enumerate(wanted):
            if job.kind in broken:
                continue
            while waiting[k]:
                needed = self._expected_run() + (0.0 if job.kind in self.compiled else self._expected_compile())
                if self.left() < needed + MARGIN or len(self.runs) == most:
                    write(self.result(wanted, waiting))
                    return
                case, plan = waiting[k].pop(0)
                try:
                    if job.kind not in self.compiled:
                        began = self.now()
                        self.runner.prepare(job.kind, case, plan)
                        self.compiled[job.kind] = self.now() - began
                    began = self.now()
                    timing = self.runner.run(case, plan)
                    self.run_seconds.append(self.now() - began)
                except Exception as error:  # noqa: BLE001  (whatever a driver says of one kernel, the others are tried)
                    self.failed.append(_run_record(case, plan) | {"why": _one_line(error)})
                    self.evidence.add(job.kind, False)
                    broken.add(job.kind)
                    write(self.result(wanted, waiting))
                    if not self.runner.alive():
                        return
                    break
                for kind in timing.kinds:
                    if timing.exact or isinstance(kind, StepKind):  # the product before the steps is not suspected
                        self.evidence.add(kind, timing.exact)
                        plan = replace(plan, kind=kind) if isinstance(kind, StepKind) else plan
                self.runs.append(self._record(case, plan, timing))
                if not timing.exact:
                    broken.add(job.kind)
                    break
                write(self.result(wanted, waiting))
        write(self.result(wanted, waiting))

    def _expected_compile(self) -> float:
        """Return the time of the longest compilation so far."""
        return max(self.compiled.values(), default=COMPILE_SECONDS)

    def _expected_run(self) -> float:
        """Return the time of the longest of the last runs."""
        return max(self.run_seconds[-20:], default=RUN_SECONDS)

    def _record(self, case: Case, plan: StepPlan, timing: Timing) -> dict[str, Any]:
        return _run_record(case, plan) | {
            "estimate_us": plan.cycles / self.megahertz,
            "us_per_step": timing.us_per_step,
            "steps": list(timing.steps),
            "spread": timing.spread,
            "exact": timing.exact,
        }

    def result(self, wanted: list[Job], waiting: dict[int, list[tuple[Case, StepPlan]]]) -> dict[str, Any]:
        """Return what the part writes."""
        return {
            "device": vars(self.device) | {"megahertz": self.megahertz},
            "costs": self.costs.to_dict(),
            "kernels": self.evidence.records(),
            "compiled": [{"kernel": kind_record(kind), "seconds": s} for kind, s in self.compiled.items()],
            "runs": self.runs,
            "failed": self.failed,
            "left": [
                {"kernel": job.kind.name, "runs": len(waiting[k]), "compiled": job.kind in self.compiled}
                for k, job in enumerate(wanted)
                if waiting[k]
            ],
        }


def _run_record(case: Case, plan: StepPlan) -> dict[str, Any]:
    return {
        "cell": case.cell,
        "hidden": case.hidden,
        "batch": case.batch,
        "operand_bytes": case.operand_bytes,
        "kernel": kind_record(plan.kind),
        "plan": plan.name,
        "unit_blocks": plan.unit_blocks,
        "batch_blocks": plan.batch_blocks,
        "warps": plan.warps,
        "shared_bytes": plan.shared_bytes,
        "estimate_cycles": plan.cycles,
    }


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def measure(options: Options, write: Write) -> None:
    """Measure the part; see `gpu_check.frame`."""
    from gpu_check.adopt import evidence_head
    from gpu_check.sweep_device import DeviceRunner, clock_megahertz
    from qrnn.backends.cuda.device import find_device

    device = find_device()
    costs = costs_of(device.capability)
    wanted = jobs(dry_cases() if options.dry_run else cases(), device, costs)
    sweep = Sweep(device, costs, clock_megahertz(), DeviceRunner(device, options.dry_run), options.left)
    head = evidence_head(device)
    sweep.go(wanted, DRY_RUNS if options.dry_run else None, lambda result: write(head | result))
    wrong = [run["plan"] for run in sweep.runs if not run["exact"]] + [run["why"] for run in sweep.failed]
    if wrong:
        raise CheckError(f"{len(wrong)} kernels failed or gave other bits than the reference; the first: {wrong[0]}")


def page(result: dict[str, Any]) -> str:
    """Return the Markdown section."""
    from gpu_check.sweep_page import section

    return section(result)
