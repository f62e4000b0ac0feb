"""Every kernel that can be made for a cell, also those that are never the best, for few blocks and for many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.cuda.on_device.common import (
    CELLS,
    SIMULATED,
    assert_same,
    compiled_together,
    drawn,
    expected,
    planned,
    quantized,
    ragged,
)
from backends.generators import assert_equal, integers
from qrnn import Session
from qrnn.backends.cuda import plan as plans
from qrnn.backends.cuda.device import find_device
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID, LAUNCH
from qrnn.backends.cuda.kinds import recurrent
from qrnn.backends.cuda.plan import StepPlan
from qrnn.backends.cuda.tuning import Tuning
from qrnn.model.quant_model import QuantModel

BATCHES = (2, 9) if SIMULATED else (1, 2, 40)
"""Batches for `dp4a` with one sequence and with two, and for blocks with one tile of sequences, two and four."""

STEPS = 2 if SIMULATED else 4
KINDS = [(cell, bits, barrier) for cell in CELLS for bits in (8, 16) for barrier in (BLOCK, GRID)]
"""Cells, bits of operands (one plane of bytes or two), and the barrier, which is a launch a step where blocks cannot meet."""


def layout_of(model: QuantModel) -> plans.Layout:
    session = Session(model, "cuda")
    found: plans.Layout = next(iter(session.engine.on_device.directions.values())).layout  # type: ignore[attr-defined]
    return found


def every_plan(model: QuantModel, size: int, barrier: str) -> Iterator[StepPlan]:
    """Yield, for each kind of kernel, the plan of fewest blocks and that of most."""
    device = find_device()
    wanted = BLOCK if barrier == BLOCK else GRID if device.cooperative else LAUNCH
    kinds: dict[Any, list[StepPlan]] = {}
    for plan in plans.plans(layout_of(model), size, device):
        if plan.kind.barrier == wanted:
            kinds.setdefault(plan.kind, []).append(plan)
    for several in kinds.values():
        yield from {several[0], several[-1]}


@pytest.mark.parametrize(
    ("cell", "bits", "barrier"), [pytest.param(*kind, marks=compiled_together(*kind)) for kind in KINDS]
)
@pytest.mark.parametrize("hidden", [9, 40, 300])
def test_every_kind(cell: str, bits: int, barrier: str, hidden: int) -> None:
    model, seen = quantized(replace(CELLS[cell], hidden_size=hidden), bits), set()
    for size in BATCHES:
        for plan in every_plan(model, size, barrier):
            seen.add(plan.kind)
            with planned(plan):
                found = integers(Session(model, "cuda"), ragged(model, size, STEPS))[0]
                assert_equal(expected(model, size, STEPS), found)
    assert len(seen) >= (4 if SIMULATED or hidden == 300 else 7), seen


@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_where_blocks_cannot_meet(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch a step stands in for the grid's barrier: on a device without it, and where the device does not hold all blocks at once."""
    model = quantized(replace(CELLS[cell], hidden_size=40))
    for plan in plans.plans(layout_of(model), 9, replace(find_device(), cooperative=False)):
        if plan.kind.barrier == LAUNCH and plan.kind.tiles == 1 and plan.kind.resident:
            with planned(plan):
                assert_same(model, 9, 3)
    monkeypatch.setattr(recurrent, "most_blocks_that_meet", lambda *_: 1)
    for plan in every_plan(model, 9, GRID):
        if plan.kind.tiles == 1 and plan.kind.resident:
            with planned(plan):
                assert_same(model, 9, 3)


@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_long_inputs_go_through_in_pieces(cell: str) -> None:
    """The state goes from launch to launch, and odd steps begin in the other half of the operands."""
    model = quantized(replace(CELLS[cell], hidden_size=40))
    for barrier in (BLOCK, GRID):
        for plan in every_plan(model, 9, barrier):
            if plan.kind.tiles == 1 and plan.kind.resident:
                with planned(plan):
                    assert_same(model, 9, 5, tuning=Tuning(unproved=True, input_bytes=1))


def test_large_batches_go_through_in_waves() -> None:
    """One batch block at a time, as where units take most of the device's processors."""
    model = quantized(replace(CELLS["lstm"], hidden_size=40))
    for plan in every_plan(model, 40, GRID):
        if plan.kind.tiles == 1:
            with planned(replace(plan, batch_blocks=1)):
                assert_same(model, 40, 3)


@compiled_together("cpu")
@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_the_grid_meets_for_long(cell: str) -> None:
    """Thousands of barriers of as many blocks as the device has processors: a block ahead of the others would spoil all that follows."""
    hidden, steps = (17, 3) if SIMULATED else (8 * find_device().processors, 3000)
    model = quantized(replace(CELLS[cell], hidden_size=hidden))
    plan = max(every_plan(model, 2, GRID), key=lambda plan: plan.unit_blocks)
    x = drawn(model, 2, steps)
    want = Session(model, "cpu", threads=2).run(x).outputs["y"]
    with planned(plan):
        for _ in range(1 if SIMULATED else 5):
            np.testing.assert_array_equal(Session(model, "cuda").run(x).outputs["y"], want)
