"""The constants of the estimate: their files, their families, and the formula that they stand in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qrnn.backends.cuda.costs import NAMES, RATES, Constants, Costs, costs_of, costs_path, family, load_costs
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID
from qrnn.backends.cuda.plan import Layout, plans, work_of
from qrnn.backends.cuda.records import DATA, as_json
from qrnn.errors import BackendError
from qrnn.model.cell_codes import GRU_RESET_BEFORE, LSTM

H100 = Device("H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)


@pytest.mark.parametrize("path", sorted(DATA.glob("costs_*.json")), ids=lambda path: path.stem)
def test_every_file_says_where_it_is_from(path: Path) -> None:
    costs = load_costs(path)
    assert (costs.device is None) == costs.source.startswith("estimate, no device")
    assert (costs.device is None) == (costs.date is None) == (costs.revision is None)


def test_families() -> None:
    assert family((7, 5)) == "sm_7x"
    assert costs_of((8, 6)) == load_costs(costs_path((8, 0)))
    assert costs_of((12, 0)) == costs_of((9, 0)), "a newer device has the newest family's until it has its own"
    with pytest.raises(BackendError, match=r"no constants for compute capability 6\.1"):
        costs_of((6, 1))


def test_prices_are_cycles_for_one() -> None:
    constants = costs_of((9, 0)).constants
    prices = constants.prices()
    assert tuple(prices) == NAMES
    assert prices["shared_bytes_per_cycle"] * constants.shared_bytes_per_cycle == 1.0
    assert set(RATES) < set(NAMES)
    back = Constants.of_prices(prices)
    assert all(math.isclose(getattr(back, name), getattr(constants, name)) for name in NAMES)


def test_the_formula_of_a_block() -> None:
    """LSTM 64 in one block: 8 groups of 2 tiles of 16 rows and 2 of 32 columns, a warp each."""
    layout = Layout(LSTM, 4, 64, 1)
    plan = next(
        p for p in plans(layout, 8, H100) if p.kind.barrier == BLOCK and p.kind.resident and not p.kind.dp4a_sequences
    )
    c = costs_of((9, 0)).constants
    bytes_read = 8 * 2 * 2 * 512 + 8 * 2 * 256
    assert work_of(plan, layout, 8, H100).reading[0] == ("shared_bytes_per_cycle", 8 * 2 * 2 * 512)
    longest = max(bytes_read / c.shared_bytes_per_cycle, 32 * c.tensor_cycles, 2 * c.tensor_latency_cycles)
    assert plan.cycles == pytest.approx(longest + 2 * c.update_cycles + c.block_barrier_cycles)


def test_the_formula_of_a_grid() -> None:
    """GRU with the reset before, 16-bit operands, R in the cache: two barriers, two exchanges of both bytes of every operand."""
    layout = Layout(GRU_RESET_BEFORE, 3, 256, 2)
    plan = next(
        p for p in plans(layout, 64, H100) if p.kind.barrier == GRID and not p.kind.resident and p.kind.tiles == 2 and p.unit_blocks == 8
    )  # fmt: skip
    c = costs_of((9, 0)).constants
    fragments = 4 * 2 * 8
    reading = fragments * 512 / c.cache_bytes_per_cycle + 4 * 8 * 2 * 2 * 256 / c.shared_bytes_per_cycle
    longest = max(reading, fragments * 4 * c.tensor_cycles, 8 * c.tensor_latency_cycles)
    exchange = 2 * 2 * 2 * 8 * 256 / c.cache_bytes_per_cycle
    waves = math.ceil(4 / plan.batch_blocks)
    assert plan.cycles == pytest.approx(waves * (longest + 4 * c.update_cycles + 2 * c.grid_barrier_cycles + exchange))


def test_other_constants_give_other_choices() -> None:
    layout = Layout(LSTM, 4, 256, 1)
    costs = costs_of((9, 0))
    for cycles, barrier in ((1.0, GRID), (1e8, BLOCK)):
        changed = replace(costs, constants=replace(costs.constants, grid_barrier_cycles=cycles))
        assert min(plans(layout, 1, H100, changed), key=lambda plan: plan.cycles).kind.barrier == barrier


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "schema": (lambda d: d.update(schema=7), "schema is 7, expected 1"),
    "missing": (lambda d: d["constants"].pop("launch_cycles"), "constants: 'launch_cycles' is missing"),
    "unknown": (lambda d: d["constants"].update(more=1), "constants: 'more' is unknown"),
    "zero": (lambda d: d["constants"].update(tensor_cycles=0), "tensor_cycles is 0, expected a number above 0"),
    "negative": (lambda d: d["constants"].update(tensor_cycles=-1.5), "tensor_cycles is -1.5"),
    "text": (lambda d: d["constants"].update(tensor_cycles="1"), "tensor_cycles is '1', expected float"),
    "infinite": (lambda d: d["constants"].update(tensor_cycles=math.inf), "tensor_cycles is inf, expected float"),
    "date": (lambda d: d.update(date="1.2.2026"), "date is '1.2.2026'"),
    "source": (lambda d: d.update(source=None), "source is None, expected str"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, says = BROKEN[name]
    document: dict[str, Any] = json.loads(costs_path((9, 0)).read_text(encoding="utf-8"))
    change(document)
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BackendError, match=says):
        load_costs(path)


def test_a_file_goes_to_json_and_back(tmp_path: Path) -> None:
    costs = Costs(costs_of((8, 0)).constants, "made up", "A100", "2026-01-31", "0123456")
    path = tmp_path / "costs.json"
    path.write_bytes(as_json(costs.to_dict()))
    assert load_costs(path) == costs
