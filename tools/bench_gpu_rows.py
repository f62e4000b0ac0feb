"""The rows of tools/bench_gpu.py and what a step of each needs at least; nothing here asks a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_workloads import Case

from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kinds import BLOCK
from qrnn.backends.cuda.plan import CACHE_BYTES, SHARED_BYTES, Layout, Plan, choose_plan, tensor_cycles
from qrnn.model.cell_codes import GRU_RESET_AFTER, LSTM

OURS = "qrnn int8"
SIZES = (128, 256, 512, 1024, 2048)
BATCHES = (1, 8, 32, 128, 1024)
STEPS = 100

CODES = {"lstm": (LSTM, 4), "gru": (GRU_RESET_AFTER, 3)}
"""Cell and gates for the plan."""


@dataclass(frozen=True)
class Facts:
    """The device, its clock, and what was measured on it: µs that a block and a grid take to meet."""

    device: Device
    megahertz: float
    block_barrier_us: float
    grid_barrier_us: float


@dataclass(frozen=True)
class Floor:
    """The shortest time of a step in µs: the meeting, and the longer of reading R and of multiplying W and R."""

    barrier: float
    reading: float
    arithmetic: float

    @property
    def us(self) -> float:
        return self.barrier + max(self.reading, self.arithmetic)


@dataclass(frozen=True)
class Row:
    """µs a step by runtime, SQNR in dB, who was left out and why, the floor, and the plan that qrnn ran by."""

    case: Case
    us: dict[str, float]
    sqnr: dict[str, float]
    floor: Floor
    plan: str
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def peer(self) -> str | None:
        """The quickest of the others."""
        return min((name for name in self.us if name != OURS), key=self.us.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """That one's time over qrnn's: above 1, qrnn is quicker."""
        peer = self.peer
        return None if peer is None or OURS not in self.us else self.us[peer] / self.us[OURS]

    @property
    def over_floor(self) -> float | None:
        """qrnn's time over the floor."""
        return self.us[OURS] / self.floor.us if OURS in self.us else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        c = self.case
        return {
            "cell": c.cell,
            "hidden": c.hidden,
            "batch": c.batch,
            "steps": c.steps,
            "us_per_step": self.us,
            "sqnr_db": self.sqnr,
            "left_out": self.left_out,
            "plan": self.plan,
            "floor_us": {
                "barrier": self.floor.barrier,
                "reading": self.floor.reading,
                "arithmetic": self.floor.arithmetic,
            },
            "best_peer": self.peer,
            "ratio": self.ratio,
            "qrnn_over_floor": self.over_floor,
        }


def cases(cells: Sequence[str], sizes: Sequence[int], batches: Sequence[int], steps: int = STEPS) -> list[Case]:
    """The rows asked for: a batch after the other, in it a cell after the other."""
    return [Case(cell, H, N, steps) for N in batches for cell in cells for H in sizes]  # type: ignore[arg-type]


def plan_of(case: Case, device: Device) -> Plan | None:
    """How qrnn runs a case, operands of 8 bits."""
    code, gates = CODES[case.cell]
    return choose_plan(Layout(code, gates, case.hidden, 1), case.batch, device)


def floor_of(case: Case, facts: Facts) -> Floor:
    """Formulas: the meeting measured on the device; R's bytes of the fullest block at its shared memory's rate, or the cache's where R
    does not stay; all multiply-adds at the tensor cores' rate by the data sheet.

    Of R alone: W·x of all steps is one product before them, whose multiply-adds count and whose bytes are read once.
    """
    device, hertz = facts.device, 1e6 * facts.megahertz
    plan = plan_of(case, device)
    macs_a_second = device.processors * hertz * 4096 / tensor_cycles(device.capability)
    arithmetic = 1e6 * case.step_macs / macs_a_second
    if plan is None:
        reading = case.matrix_bytes / device.processors / CACHE_BYTES
        return Floor(facts.block_barrier_us, 1e6 * reading / hertz, arithmetic)
    share = case.matrix_bytes / plan.unit_blocks
    reading = share / (SHARED_BYTES if plan.kind.resident else CACHE_BYTES)
    barrier = facts.block_barrier_us if plan.kind.barrier == BLOCK else facts.grid_barrier_us
    return Floor(plan.kind.ticks * barrier, 1e6 * reading / hertz, arithmetic)


def slope_us(short: float, long: float, short_count: int, long_count: int) -> float:
    """µs of one barrier from the ms of two kernels with so many each: what both share falls out."""
    return 1000.0 * (long - short) / (long_count - short_count)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures that the page begins with, by batch."""
    found: dict[str, Any] = {}
    for batch in sorted({row.case.batch for row in rows}):
        ratios = [(row.ratio, row) for row in rows if row.case.batch == batch and row.ratio is not None]
        if not ratios:
            continue
        worst, row = min(ratios, key=lambda one: one[0])
        found[str(batch)] = {
            "rows": len(ratios),
            "geometric_mean": math.exp(sum(math.log(ratio) for ratio, _ in ratios) / len(ratios)),
            "worst": worst,
            "worst_row": row.case.label,
            "worst_peer": row.peer,
            "behind": sum(ratio < 1.0 for ratio, _ in ratios),
        }
    return found
