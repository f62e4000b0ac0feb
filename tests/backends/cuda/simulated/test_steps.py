"""Every kind of fused step equals the reference: cells, planes of operands, products, barriers, where R lies, pieces and waves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from models import Shape

from backends.generators import Case, assert_equal, integers
from qrnn.backends.cuda import plan
from qrnn.backends.cuda.device import SIMULATED_DEVICE, Device
from qrnn.backends.cuda.kernel_variants import BLOCK, LAUNCH
from qrnn.backends.cuda.plan import Layout, StepPlan
from qrnn.backends.cuda.tuning import Tuning
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

Pick = Callable[[StepPlan], bool]
FAST = Tuning(unproved=True)
CELLS = {
    "lstm": Shape("lstm", 3),
    "gru_after": Shape("gru", 3),
    "gru_before": Shape("gru", 3, linear_before_reset=False),
    "rnn": Shape("rnn", 3),
}
PLANS: dict[str, tuple[int, tuple[int, ...], Pick]] = {
    "dp4a": (13, (3, 1), lambda p: p.kind.dp4a_sequences == 2 and p.kind.barrier == BLOCK and p.kind.resident),
    "dp4a_one": (9, (2,), lambda p: p.kind.dp4a_sequences == 1 and p.kind.barrier == LAUNCH and p.unit_blocks == 2),
    "block": (9, (2, 0, 3), lambda p: not p.kind.dp4a_sequences and p.kind.barrier == BLOCK and p.kind.resident),
    "streamed": (34, (2,), lambda p: not p.kind.dp4a_sequences and p.kind.barrier == BLOCK and not p.kind.resident),
    "blocks": (20, (2, *[1] * 8), lambda p: p.kind.tiles == 2 and p.kind.barrier == LAUNCH and p.unit_blocks == 3),
}
"""Hidden size (none a multiple of what a tile holds), lengths, and which plans. LAUNCH stands for the grid's barrier: there is none here."""

KINDS = [
    (name, bits)
    for name in PLANS
    for bits in (8, 16)
    if (name, bits) not in (("block", 16), ("streamed", 8), ("dp4a_one", 16))
]
"""Plans, and the bits of operands: one plane of bytes or two."""


def check(case: Case, pick: Pick, tuning: Tuning = FAST, **changes: Any) -> None:
    """By the best plan among those picked, in the place of the best of all."""

    def choose(layout: Layout, batch: int, device: Device) -> StepPlan:
        return replace(min(filter(pick, plan.plans(layout, batch, device)), key=lambda p: p.cycles), **changes)

    model = case.quantized()
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    session = Session(model, "cuda", tuning=replace(tuning, choose=choose))
    assert_equal(want, integers(session, batch)[0])


def case_of(shape: Shape, lengths: tuple[int, ...], activations: int = 8) -> Case:
    return Case(
        shape, sequences=len(lengths), steps=max(lengths), lengths=lengths, scheme=Scheme(activations, input="8")
    )


@pytest.mark.wide("cell", "name")
@pytest.mark.parametrize(("name", "activations"), KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_kinds(cell: str, name: str, activations: int) -> None:
    hidden, lengths, pick = PLANS[name]
    check(case_of(replace(CELLS[cell], hidden_size=hidden), lengths, activations), pick)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("block", Shape("lstm", 3, directions=(True,), forget="one", peephole=2.0)),
        ("blocks", Shape("lstm", 3, forget="coupled")),
        ("block", Shape("lstm", 3, directions=(False, True), peephole=0.5, states=True)),
        ("block", Shape("gru", 3, directions=(True,), linear_before_reset=False, states=True)),
    ],
    ids=["one", "coupled", "peepholes", "reset_before"],
)
def test_variants(name: str, shape: Shape) -> None:
    hidden, lengths, pick = PLANS[name]
    check(case_of(replace(shape, hidden_size=hidden), lengths), pick)


@pytest.mark.matrix
@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_turing_has_smaller_products(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qrnn.backends.cuda.engine.find_device", lambda: replace(SIMULATED_DEVICE, capability=(7, 5)))
    _, lengths, pick = PLANS["block"]
    check(case_of(replace(CELLS[cell], hidden_size=33), lengths, 16), pick)


@pytest.mark.matrix
@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_long_inputs_go_through_in_pieces(cell: str) -> None:
    """W·x of one step at a time: the state goes from launch to launch, and odd steps begin in the other half of the operands."""
    for name, reverse in (("block", True), ("blocks", False)):
        hidden, lengths, pick = PLANS[name]
        check(
            case_of(replace(CELLS[cell], hidden_size=hidden, directions=(reverse,)), lengths),
            pick,
            replace(FAST, input_bytes=1),
        )


@pytest.mark.matrix
def test_large_batches_go_through_in_waves() -> None:
    """One batch block at a time, as where units take most of the device's processors."""
    _, _, pick = PLANS["blocks"]
    check(case_of(replace(CELLS["lstm"], hidden_size=20), (1, 2) * 10), pick, batch_blocks=1)


def test_the_best_plan_of_a_whole_network() -> None:
    shape = Shape("gru", 3, 12, (False, True), layers=2)
    case = replace(case_of(shape, (3, 2)), head="softmax", last_step=True, concat=True)
    model = case.quantized()
    session, batch = Session(model, "cuda", tuning=FAST), case.batch(model)
    assert all(choice.plan for choice in session.engine.plans(2).values())  # type: ignore[attr-defined]
    assert_equal(integers(Session(model, "reference"), batch)[0], integers(session, batch)[0])
