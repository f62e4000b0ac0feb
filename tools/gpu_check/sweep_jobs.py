"""What the sweep runs, and in which order; nothing here asks a device or a clock.

A step kernel takes seconds to compile and a run of it takes milliseconds, so runs are grouped by kernel, and the kernels that tell most for
their time come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qrnn.backends.cuda.costs import Costs
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import BLOCK, StepKind
from qrnn.backends.cuda.plan import Layout, StepPlan, plans
from qrnn.model.cell_codes import GRU_RESET_AFTER, LSTM

CELLS = {"lstm": (LSTM, 4), "gru": (GRU_RESET_AFTER, 3)}
"""The cells that are swept: their code, and gates with rows."""

HIDDEN = (64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 8, 32, 128, 1024)
OPERAND_BYTES = (1, 2)

WORTH = {"lstm": 1.0, "gru": 0.6}
"""What a run of a cell tells: the two share every constant of the estimate, so the second one tells less."""

WORTH_OF_BYTES = {1: 1.0, 2: 0.5}
"""How much a run tells, by the bytes of its operands: 8-bit ones, the default of a conversion, tell more than 16-bit ones."""

FARTHEST = 6.0
"""Kernels whose best estimate for a shape is this many times the shape's best are left out."""

CLOSE = 2.0
"""Runs whose estimate is within this many times their case's best come before all others."""

COMPILE_SECONDS, RUN_SECONDS = 2.0, 0.1
"""What a kernel's compilation and a run are taken to cost before the first ones are timed; they decide the order, and no result."""


@dataclass(frozen=True)
class Case:
    """A layer and a batch."""

    cell: str
    hidden: int
    batch: int
    operand_bytes: int

    @property
    def layout(self) -> Layout:
        """The layer's layout, as `choose_plan` takes it."""
        return Layout(*CELLS[self.cell], self.hidden, self.operand_bytes)

    @property
    def worth(self) -> float:
        """How much a run of the case tells, at most 1."""
        return WORTH[self.cell] * WORTH_OF_BYTES[self.operand_bytes]

    @property
    def name(self) -> str:
        """The case in words, for tables."""
        return f"{self.cell.upper()} {self.hidden}, batch {self.batch}, {8 * self.operand_bytes}-bit operands"


@dataclass(frozen=True)
class Job:
    """One kernel and all runs of it, the most telling first."""

    kind: StepKind
    runs: tuple[tuple[Case, StepPlan], ...]


def cases() -> list[Case]:
    """Return every case of the sweep."""
    return [Case(cell, H, N, size) for size in OPERAND_BYTES for cell in CELLS for H in HIDDEN for N in BATCHES]


def dry_cases() -> list[Case]:
    """Return the smallest cases, for the simulator."""
    return [Case("lstm", 8, 1, 1), Case("gru", 16, 3, 2)]


def candidates(case: Case, device: Device, costs: Costs) -> list[StepPlan]:
    """Return the plans of a case that are worth a run, the best by estimate first.

    These are the best plan of each kernel whose estimate is within `FARTHEST` of the best of all, and, of a kernel that spreads units over
    blocks, also the best ones with about half and about twice as many blocks of units.
    """
    every = sorted(plans(case.layout, case.batch, device, costs), key=lambda plan: plan.cycles)
    by_kind: dict[StepKind, list[StepPlan]] = {}
    for plan in every:
        by_kind.setdefault(plan.kind, []).append(plan)
    found: list[StepPlan] = []
    for kind, several in by_kind.items():
        best = several[0]
        if best.cycles > FARTHEST * every[0].cycles:
            continue
        found.append(best)
        if kind.barrier != BLOCK:
            halves = [plan for plan in several if plan.unit_blocks <= 0.6 * best.unit_blocks]
            doubles = [plan for plan in several if plan.unit_blocks >= 1.7 * best.unit_blocks]
            found += [some[0] for some in (halves, doubles) if some]
    return sorted(found, key=lambda plan: plan.cycles)


def jobs(
    wanted: Sequence[Case],
    device: Device,
    costs: Costs,
    compile_seconds: float = COMPILE_SECONDS,
    run_seconds: float = RUN_SECONDS,
) -> list[Job]:
    """Return every run, grouped by kernel, the kernel that tells most for its time first.

    A run tells as much as its case is worth, less the farther its estimate is from the case's best, and less the more kernels before it
    have run the case already. Each kernel first runs each case once, where its estimate is within `CLOSE` of the case's best. When all
    kernels have done so, they run what is left, which needs no further compilation.
    """
    first: dict[StepKind, list[_Run]] = {}
    rest: dict[StepKind, list[_Run]] = {}
    for case in wanted:
        found, seen = candidates(case, device, costs), set()
        for plan in found:
            share = found[0].cycles / plan.cycles
            close = plan.kind not in seen and share * CLOSE >= 1.0
            seen.add(plan.kind)
            (first if close else rest).setdefault(plan.kind, []).append(_Run(case, plan, case.worth * share))
    served = dict.fromkeys(wanted, 0)
    ordered = []

    def telling(kind: StepKind) -> float:
        value = sum(run.worth / (1 + served[run.case]) for run in first[kind])
        return value / (compile_seconds + run_seconds * len(first[kind]))

    while first:
        kind = max(first, key=telling)
        runs = first.pop(kind)
        for run in runs:
            served[run.case] += 1
        ordered.append(_job(kind, runs))
    known = {job.kind: place for place, job in enumerate(ordered)}
    later = sorted(rest, key=lambda kind: known.get(kind, len(known)))
    return ordered + [_job(kind, rest[kind]) for kind in later]


@dataclass(frozen=True)
class _Run:
    case: Case
    plan: StepPlan
    worth: float


def _job(kind: StepKind, runs: list[_Run]) -> Job:
    ordered = sorted(runs, key=lambda run: -run.worth)
    return Job(kind, tuple((run.case, run.plan) for run in ordered))
