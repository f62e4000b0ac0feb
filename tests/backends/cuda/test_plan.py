"""The choice of kernels: whatever is chosen fits the device and covers every unit and sequence. When it goes over is an estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qrnn.backends.cuda.choice import Choice, choose_plan
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID, LAUNCH, MOST_THREADS, StepKind, shared_words
from qrnn.backends.cuda.plan import Layout, StepPlan, plans
from qrnn.backends.cuda.proofs import Proofs
from qrnn.backends.cuda.tuning import Tuning
from qrnn.model.cell_codes import GRU_RESET_BEFORE, LSTM

T4 = Device("T4", (7, 5), 40, 64 << 10, 64 << 10, cooperative=True)
A100 = Device("A100", (8, 0), 108, 163 << 10, 164 << 10, cooperative=True)
H100 = Device("H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)
DEVICES = (T4, A100, H100)


def best(layout: Layout, batch: int, device: Device) -> StepPlan:
    plan = choose_plan(layout, batch, device, Tuning(unproved=True)).plan
    assert plan is not None
    return plan


def check(plan: StepPlan, layout: Layout, batch: int, device: Device) -> None:
    kind = plan.kind
    groups = -(-layout.groups // plan.unit_blocks)
    assert plan.shared_bytes == 4 * shared_words(kind, groups, layout.depth) <= device.shared_per_block
    assert 1 <= plan.warps <= MOST_THREADS // 32
    assert kind.tiles * kind.operand_bytes <= 4
    assert kind.dp4a_sequences in (0, batch) if batch <= 2 else kind.dp4a_sequences == 0
    assert not kind.dp4a_sequences or kind.tiles == 1
    assert (kind.cell, kind.gates, kind.operand_bytes, kind.capability) == (
        layout.cell, layout.gates, layout.operand_bytes, device.capability
    )  # fmt: skip
    if kind.barrier == BLOCK:
        assert plan.unit_blocks == 1
        assert plan.batch_blocks == min(-(-batch // (8 * kind.tiles)), 65535)
    else:
        assert 1 <= plan.unit_blocks * plan.batch_blocks <= device.processors


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
@pytest.mark.parametrize("hidden", [1, 64, 100, 256, 1024, 2048])
def test_every_plan_fits(hidden: int, device: Device) -> None:
    for layout in (Layout(LSTM, 4, hidden, 1), Layout(GRU_RESET_BEFORE, 3, hidden, 2)):
        for batch in (1, 2, 3, 32, 1000, 1 << 20):
            every = list(plans(layout, batch, device))
            for plan in every:
                check(plan, layout, batch, device)
            assert best(layout, batch, device).cycles == min(plan.cycles for plan in every)


def test_small_layers_stay_in_one_block() -> None:
    plan = best(Layout(LSTM, 4, 64, 1), 1, H100)
    assert (plan.kind.barrier, plan.kind.resident, plan.unit_blocks) == (BLOCK, True, 1)
    assert plan.shared_bytes == 4 * (8 * 2 * 2 * A_WORDS + 2 * 2 * B_WORDS)


def test_large_layers_are_spread_and_stay_in_shared_memory() -> None:
    """R of H 1024 is 4 MiB: more than a block holds, less than all of them do."""
    plan = best(Layout(LSTM, 4, 1024, 1), 1, H100)
    assert (plan.kind.barrier, plan.kind.resident) == (GRID, True)
    assert plan.unit_blocks > 4 << 20 // H100.shared_per_block


def test_what_fits_nowhere_is_read_each_step() -> None:
    """R of H 8192 is 256 MiB."""
    assert not best(Layout(LSTM, 4, 8192, 1), 8, H100).kind.resident


def test_one_sequence_uses_dot_products() -> None:
    for hidden in (64, 1024):
        assert best(Layout(LSTM, 4, hidden, 1), 1, H100).kind.dp4a_sequences == 1


def test_large_batches_use_the_tensor_cores() -> None:
    for hidden in (64, 512, 2048):
        plan = best(Layout(LSTM, 4, hidden, 1), 1024, H100)
        assert not plan.kind.dp4a_sequences
        assert plan.batch_blocks > 1


def test_a_device_whose_blocks_cannot_meet_gets_launches() -> None:
    layout = Layout(LSTM, 4, 1024, 1)
    alone = replace(H100, cooperative=False)
    assert {plan.kind.barrier for plan in plans(layout, 8, alone)} == {BLOCK, LAUNCH}
    assert {plan.kind.barrier for plan in plans(layout, 8, H100)} == {BLOCK, GRID}


def test_nothing_fits_a_tiny_device() -> None:
    """The operands of one tile alone are too much: the general kernel runs then."""
    tiny = replace(T4, shared_per_block=1024)
    choice = choose_plan(Layout(LSTM, 4, 4096, 1), 1, tiny, Tuning(unproved=True))
    assert choice == Choice(None, "no step kernel fits the device's shared memory")


def test_without_proofs_the_general_kernel_runs() -> None:
    """Whatever the shape; the choice says so and names what would have run."""
    for layout in (Layout(LSTM, 4, 64, 1), Layout(GRU_RESET_BEFORE, 3, 2048, 2)):
        for batch in (1, 32, 1024):
            for device in DEVICES:
                choice = choose_plan(layout, batch, device, Tuning(proofs=Proofs()))
                assert choice.plan is None
                assert "no GPU has confirmed it" in choice.why
                assert best(layout, batch, device).name in choice.why


def test_a_proved_kernel_runs_although_it_is_not_the_best() -> None:
    layout = Layout(LSTM, 4, 1024, 1)
    every = sorted(plans(layout, 32, H100), key=lambda plan: plan.cycles)
    slow = next(plan for plan in every if plan.kind.barrier == BLOCK)
    assert slow.kind != every[0].kind
    choice = choose_plan(layout, 32, H100, Tuning(proofs=Proofs(frozenset({slow.kind}))))
    assert choice.plan is not None
    assert choice.plan.kind == slow.kind
    assert choice.plan.cycles == min(plan.cycles for plan in every if plan.kind == slow.kind)
    assert f"{every[0].name} is unproved" in choice.why
    both = choose_plan(layout, 32, H100, Tuning(proofs=Proofs(frozenset({slow.kind, every[0].kind}))))
    assert both.plan == every[0]
    assert both.why.endswith("proved")


def test_a_proof_holds_for_its_compute_capability_alone() -> None:
    layout = Layout(LSTM, 4, 64, 1)
    kinds = frozenset(plan.kind for plan in plans(layout, 8, H100))
    assert choose_plan(layout, 8, A100, Tuning(proofs=Proofs(kinds))).plan is None


def test_a_lapsed_proof_is_none() -> None:
    layout = Layout(LSTM, 4, 64, 1)
    kinds = frozenset(plan.kind for plan in plans(layout, 8, H100))
    choice = choose_plan(layout, 8, H100, Tuning(proofs=Proofs(lapsed=kinds)))
    assert choice.plan is None
    assert "its code has changed since a GPU confirmed it" in choice.why


def test_a_tuning_may_choose_itself() -> None:
    layout = Layout(LSTM, 4, 64, 1)
    plan = best(layout, 8, H100)
    assert choose_plan(layout, 8, H100, Tuning(choose=lambda *_: plan)).plan == plan
    assert choose_plan(layout, 8, H100, Tuning(unproved=True, choose=lambda *_: None)).plan is None


def test_costs_rise_with_the_work() -> None:
    for device in DEVICES:
        for batch in (1, 32, 1024):
            cycles = [best(Layout(LSTM, 4, hidden, 1), batch, device).cycles for hidden in (32, 128, 512, 2048)]
            assert cycles == sorted(cycles)
        for hidden in (64, 1024):
            cycles = [best(Layout(LSTM, 4, hidden, 1), batch, device).cycles for batch in (1, 64, 1024, 65536)]
            assert cycles == sorted(cycles)


def test_names_say_what_runs() -> None:
    assert best(Layout(LSTM, 4, 64, 1), 1, H100).name.startswith("block barrier, 1 × 1 blocks")
    kind = StepKind(LSTM, 4, 1, 2, GRID, False, 0, (9, 0))
    assert StepPlan(kind, 3, 4, 8, 0, 1.0).name == "grid barrier, 3 × 4 blocks, tensor cores, R in cache"


PAGE = Path(__file__).parents[3] / "docs" / "cuda.md"


def table() -> list[str]:
    """The page's table of what is chosen for an LSTM on something like an H100."""
    batches = (1, 8, 32, 128, 1024)
    lines = ["| H | " + " | ".join(f"batch {batch}" for batch in batches) + " |", "|---" * (len(batches) + 1) + "|"]
    for hidden in (64, 128, 256, 512, 1024, 2048):
        cells = []
        for batch in batches:
            plan = best(Layout(LSTM, 4, hidden, 1), batch, H100)
            product = "dp4a" if plan.kind.dp4a_sequences else "mma"
            where = "" if plan.kind.resident else ", R in cache"
            cells.append(f"{plan.kind.barrier} {plan.unit_blocks}×{plan.batch_blocks} {product}{where}")
        lines.append(f"| {hidden} | " + " | ".join(cells) + " |")
    return lines


def test_the_page_says_what_is_chosen() -> None:
    assert "\n".join(table()) in PAGE.read_text(encoding="utf-8"), "\n".join(table())
