"""One small run of each kind of kernel: compute-sanitizer, which makes kernels slower by orders, goes through these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from models import Shape

from backends.cuda.on_device.common import CELLS, assert_same, planned, quantized
from backends.cuda.on_device.test_kinds import every_plan
from backends.generators import Case, assert_equal, integers
from qrnn import Session
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID

PLANS: dict[str, tuple[str, int, int, str, Callable[[Any], float]]] = {
    "block": ("lstm", 8, 9, BLOCK, lambda plan: plan.kind.resident),
    "block_cache": ("gru_before", 16, 9, BLOCK, lambda plan: not plan.kind.resident),
    "grid": ("gru_before", 8, 9, GRID, lambda plan: plan.unit_blocks),
    "grid_dp4a": ("lstm", 16, 2, GRID, lambda plan: plan.unit_blocks + 1000 * plan.kind.dp4a_sequences),
}
"""Cell, bits of operands, sequences, barrier, and which plan: the greatest by this."""


@pytest.mark.parametrize("name", PLANS)
def test_fused(name: str) -> None:
    cell, bits, size, barrier, greatest = PLANS[name]
    model = quantized(replace(CELLS[cell], hidden_size=20, directions=(False,)), bits)
    with planned(max(every_plan(model, size, barrier), key=greatest)):
        assert_same(model, size, 2)


def test_general() -> None:
    """The general kernel, and the layers that are not recurrent."""
    case = Case(Shape("lstm", 3, 7, projection=4, peephole=0.5), "softmax", lengths=(3, 0), steps=3, concat=True)
    model = case.quantized()
    batch = case.batch(model)
    assert_equal(*(integers(Session(model, name), batch)[0] for name in ("reference", "cuda")))
