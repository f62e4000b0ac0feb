"""The rows of the benchmark, the most telling first, the least that a step of each takes, and the aims; nothing here asks a device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qrnn.backends.cuda.choice import choose_plan
from qrnn.backends.cuda.costs import costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import BLOCK
from qrnn.backends.cuda.plan import Layout, StepPlan
from qrnn.backends.cuda.tuning import Tuning
from qrnn.model.cell_codes import GRU_RESET_AFTER, LSTM
from qrnn.model.parts import IndexArray

OURS = "qrnn int8"
OURS_LAUNCHED = "qrnn int8, launched"
"""qrnn as one captured graph a call, and through `Session.run` or `Session.step`, which launch each kernel."""

CELLS = ("lstm", "gru")
GATES = {"lstm": 4, "gru": 3}
CODES = {"lstm": LSTM, "gru": GRU_RESET_AFTER}
STEPS = 100

SEQUENCE, STEP, RAGGED = "sequence", "step", "ragged"

SIZES = (64, 128, 256, 512, 1024)
BATCHES = (1, 8, 32, 128, 1024)

TIERS: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
    (SEQUENCE, (128,), (1, 8, 32)),
    (STEP, (128,), (1,)),
    (SEQUENCE, (256, 512, 1024), (1, 32)),
    (SEQUENCE, (128, 512), (1024,)),
    (SEQUENCE, (256,), (128,)),
    (RAGGED, (256,), (128,)),
    (STEP, (512,), (1, 32)),
    (SEQUENCE, (256, 1024), (1024,)),
    (RAGGED, (256,), (1024,)),
    (SEQUENCE, (64,), (1, 32, 1024)),
    (SEQUENCE, SIZES, (8, 128)),
    (STEP, SIZES, (1, 32, 1024)),
    (RAGGED, (512,), (128, 1024)),
    (STEP, SIZES, (8, 128)),
)
"""Kind, hidden sizes and batches of the rows, the most telling first: what does not fit into the time is at the end."""

COMPILED = ((128, 1), (128, 32), (512, 32))
"""Hidden sizes and batches of the rows that get a column of torch.compile."""


@dataclass(frozen=True)
class Spec:
    """A row: a layer of ``hidden`` units on as many inputs.

    ``sequence`` runs whole sequences of ``steps``; ``step`` runs one step per call with the state carried; ``ragged`` runs sequences of 1
    to ``steps`` steps.
    """

    kind: str
    cell: Literal["lstm", "gru"]
    hidden: int
    batch: int
    steps: int = STEPS

    @property
    def label(self) -> str:
        """The layer in words, for tables."""
        return f"{self.cell.upper()} {self.hidden}"

    @property
    def name(self) -> str:
        """The layer and how it is run."""
        how = {SEQUENCE: f"{self.steps} steps", STEP: "one step a call", RAGGED: f"1 to {self.steps} steps"}[self.kind]
        return f"{self.label}, batch {self.batch}, {how}"

    @property
    def matrix_bytes(self) -> int:
        """The bytes of each of W and R at 8 bits, which is also the number of their elements."""
        return GATES[self.cell] * self.hidden * self.hidden

    @property
    def step_macs(self) -> int:
        """The multiply-adds of a step of all sequences."""
        return 2 * self.matrix_bytes * self.batch

    @property
    def lengths(self) -> IndexArray | None:
        """The steps of each sequence, [batch]; None where all have as many."""
        if self.kind != RAGGED:
            return None
        return np.random.default_rng(self.batch).integers(1, self.steps + 1, self.batch)

    @property
    def steps_a_call(self) -> float:
        """The steps that a sequence takes in a call, on average."""
        if self.kind == STEP:
            return 1.0
        lengths = self.lengths
        return float(self.steps if lengths is None else lengths.mean())


def all_rows() -> list[Spec]:
    """Return every row, the most telling first."""
    found: dict[Spec, None] = {}
    for kind, sizes, batches in TIERS:
        for batch in batches:
            for hidden in sizes:
                found.update({Spec(kind, cell, hidden, batch): None for cell in CELLS})  # type: ignore[arg-type]
    return list(found)


def dry_rows() -> list[Spec]:
    """Return one row of each kind, of the smallest sizes."""
    return [Spec(SEQUENCE, "gru", 8, 2, 3), Spec(STEP, "lstm", 8, 1, 3), Spec(RAGGED, "gru", 8, 2, 3)]


@dataclass(frozen=True)
class Facts:
    """The device, its clock, and measured barriers.

    The barriers are the µs that the 256 threads of a block, and a number of blocks of a grid, take to meet; they are empty where not
    measured.
    """

    device: Device
    megahertz: float
    block_barrier_us: float | None = None
    grid_barrier_us: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, device: Device, megahertz: float, latency: Mapping[str, Any]) -> Facts:
        """Return the facts of a device, with the barriers that `gpu_check.part_latency` has measured."""
        grid = {int(blocks): float(us) for blocks, us in latency.get("grid_barrier_us", {}).items()}
        return cls(device, megahertz, latency.get("block_barrier_us", {}).get("256"), grid)

    def barrier_us(self, plan: StepPlan) -> float:
        """Return the µs that a plan's blocks take to meet; 0 where none was measured.

        They are those of the least number of blocks measured that is not smaller.
        """
        if plan.kind.barrier == BLOCK:
            return self.block_barrier_us or 0.0
        blocks = plan.unit_blocks * plan.batch_blocks
        fits = [count for count in self.grid_barrier_us if count >= blocks]
        most = min(fits) if fits else max(self.grid_barrier_us, default=0)
        return self.grid_barrier_us.get(most, 0.0)


@dataclass(frozen=True)
class Floor:
    """The shortest time of a step in µs: the meeting, and the longer of reading R and of multiplying W and R."""

    barrier: float
    reading: float
    arithmetic: float

    @property
    def us(self) -> float:
        """The whole time in µs."""
        return self.barrier + max(self.reading, self.arithmetic)


def plan_of(spec: Spec, device: Device) -> StepPlan | None:
    """Return how qrnn runs a row, with operands of 8 bits; None stands for the general kernel."""
    layout = Layout(CODES[spec.cell], GATES[spec.cell], spec.hidden, 1)
    return choose_plan(layout, spec.batch, device, Tuning(unproved=True)).plan


def floor_of(spec: Spec, facts: Facts) -> Floor:
    """Return the floor by formulas.

    Whole sequences: the meeting is measured on the device; R's bytes of the fullest block are read at its shared memory's rate, or at the
    cache's where R does not stay (W·x is one product before the steps). A lone step: no meeting; W is read from the cache by all
    multiprocessors, R by the blocks that have units. All multiply-adds go at the tensor cores' rate by the data sheet.
    """
    device, hertz = facts.device, 1e6 * facts.megahertz
    plan, costs = plan_of(spec, device), costs_of(device.capability).constants
    macs_a_second = device.processors * hertz * 4096 / costs.tensor_cycles
    arithmetic = 1e6 * spec.step_macs / macs_a_second
    if spec.kind == STEP:
        blocks = device.processors if plan is None else plan.unit_blocks
        reading = spec.matrix_bytes * (1 / device.processors + 1 / blocks) / costs.cache_bytes_per_cycle
        return Floor(0.0, 1e6 * reading / hertz, arithmetic)
    if plan is None:
        reading = spec.matrix_bytes / device.processors / costs.cache_bytes_per_cycle
        return Floor(facts.block_barrier_us or 0.0, 1e6 * reading / hertz, arithmetic)
    share = spec.matrix_bytes / plan.unit_blocks
    reading = share / (costs.shared_bytes_per_cycle if plan.kind.resident else costs.cache_bytes_per_cycle)
    return Floor(plan.kind.barriers_per_step * facts.barrier_us(plan), 1e6 * reading / hertz, arithmetic)


@dataclass(frozen=True)
class Times:
    """A column of a row: µs per step on the device (median, and the quartiles), µs of the host per call, and how many samples there are."""

    us: float
    low: float
    high: float
    host_us: float
    samples: int


@dataclass(frozen=True)
class Row:
    """A row's figures by column, SQNR in dB, who was left out and why, and the seconds until a column was ready (compilation included)."""

    spec: Spec
    times: dict[str, Times]
    sqnr: dict[str, float]
    left_out: dict[str, str]
    ready_seconds: dict[str, float]
    notes: dict[str, str]
    floor: Floor
    plan: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            **vars(self.spec),
            "name": self.spec.name,
            "label": self.spec.label,
            "steps_a_call": self.spec.steps_a_call,
            "us_per_step": {name: t.us for name, t in self.times.items()},
            "quartiles": {name: [t.low, t.high] for name, t in self.times.items()},
            "host_us_per_call": {name: t.host_us for name, t in self.times.items()},
            "samples": {name: t.samples for name, t in self.times.items()},
            "sqnr_db": self.sqnr,
            "left_out": self.left_out,
            "ready_seconds": self.ready_seconds,
            "notes": self.notes,
            "plan": self.plan,
            "floor_us": {
                "barrier": self.floor.barrier,
                "reading": self.floor.reading,
                "arithmetic": self.floor.arithmetic,
                "all": self.floor.us,
            },
        }


def best_peer(row: dict[str, Any]) -> str | None:
    """Return the quickest column that is not qrnn's."""
    us = row["us_per_step"]
    return min((name for name in us if not name.startswith("qrnn")), key=us.__getitem__, default=None)


def ratio(row: dict[str, Any]) -> float | None:
    """Return the best peer's time over that of qrnn as a graph; above 1, qrnn is quicker."""
    peer, us = best_peer(row), row["us_per_step"]
    return None if peer is None or OURS not in us else float(us[peer] / us[OURS])


def over_floor(row: dict[str, Any]) -> float | None:
    """Return qrnn's time over the floor."""
    ours = row["us_per_step"].get(OURS)
    return None if ours is None else float(ours / row["floor_us"]["all"])


def padding_cost(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """Return a ragged row's time of a real step over that of the row whose sequences are all as long; None where that one is missing."""
    same = ("cell", "hidden", "batch", "steps")
    for other in rows:
        if other["kind"] == SEQUENCE and all(other[key] == row[key] for key in same):
            ours = [r["us_per_step"].get(OURS) for r in (row, other)]
            return None if None in ours else float(ours[0] / ours[1])
    return None


@dataclass(frozen=True)
class Aim:
    """An aim: a figure of some rows, and its bound."""

    text: str
    figure: str
    bound: float
    at_most: bool

    def applies(self, row: dict[str, Any]) -> bool:
        """Return whether a row counts."""
        kind, batch = row["kind"], row["batch"]
        if self.figure == "us":
            return bool(kind == SEQUENCE and row["hidden"] == 128 and batch <= 16)
        if self.figure == "padding":
            return bool(kind == RAGGED)
        return bool(kind == SEQUENCE and (batch == 1024 if self.bound == 1.0 else batch <= 32))

    def value(self, row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
        """Return a row's figure."""
        if self.figure == "us":
            found: float | None = row["us_per_step"].get(OURS)
            return found
        return padding_cost(row, rows) if self.figure == "padding" else ratio(row)

    def met(self, value: float) -> bool:
        """Return whether a figure is within the bound."""
        return value <= self.bound if self.at_most else value >= self.bound


AIMS = (
    Aim("H 128, batch up to 16: at most 1 µs a step", "us", 1.0, True),
    Aim("batch 1 to 32: at least 2 times as quick as the best peer", "ratio", 2.0, False),
    Aim("batch 1024: not slower than the best peer", "ratio", 1.0, False),
    Aim("ragged batches: a real step costs at most 1.05 times one of a full batch", "padding", 1.05, True),
)


def aims(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each aim the rows that have its figure, how many of them meet it, and the worst of them."""
    found = []
    for aim in AIMS:
        values = [(aim.value(row, rows), row["name"]) for row in rows if aim.applies(row)]
        known = [(value, name) for value, name in values if value is not None]
        worst = (max if aim.at_most else min)(known, default=None)
        found.append(
            {
                "aim": aim.text,
                "rows": len(known),
                "met": sum(aim.met(value) for value, _ in known),
                "worst": None if worst is None else worst[0],
                "worst_row": None if worst is None else worst[1],
            }
        )
    return found


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, by kind and batch, the geometric mean of the ratios, the worst, and how many are below 1."""
    found = []
    for kind, batch in sorted({(row["kind"], row["batch"]) for row in rows}):
        ratios = [(ratio(row), row) for row in rows if (row["kind"], row["batch"]) == (kind, batch)]
        known = [(value, row) for value, row in ratios if value is not None]
        if known:
            worst, row = min(known, key=lambda one: one[0])
            found.append(
                {
                    "kind": kind,
                    "batch": batch,
                    "rows": len(known),
                    "geometric_mean": math.exp(sum(math.log(value) for value, _ in known) / len(known)),
                    "worst": worst,
                    "worst_row": row["label"],
                    "worst_peer": best_peer(row),
                    "behind": sum(value < 1.0 for value, _ in known),
                }
            )
    return found
