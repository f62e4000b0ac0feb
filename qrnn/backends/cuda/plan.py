"""A direction can be laid over the device in several ways, each with an estimate of its time (docs/cuda.md); `choice` takes one.

The estimate counts bytes, operations and barriers; what each costs is data (`costs`), which says whether it was measured. Which plan runs
never changes a bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from qrnn.backends.cuda.costs import Costs, Term, Work, costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS, TILE_COLUMNS, depth_tiles
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID, LAUNCH, MOST_THREADS, StepKind, shared_words

MOST_DP4A_SEQUENCES = 2
"""The largest batch for which `dp4a` is considered: its kernel has a sum for each sequence, written out for 1 and 2."""

MOST_REGISTER_TILES = 4
"""The largest product of tiles and operand bytes: a lane keeps their sums in registers."""

MOST_GRID_Y = 65535
"""CUDA's limit of blocks on a grid's second axis; more batch blocks go in several launches."""

MOST_BLOCKS_TOGETHER = 8
"""Blocks that a multiprocessor holds at once by the estimate, where shared memory would allow more."""


@dataclass(frozen=True)
class Layout:
    """The properties of a direction that the choice depends on: its cell, gates with rows, hidden size and bytes of h's operands."""

    cell: int
    gates: int
    hidden: int
    operand_bytes: int

    @property
    def groups(self) -> int:
        """Return the number of groups of 8 units."""
        return -(-self.hidden // TILE_COLUMNS)

    @property
    def depth(self) -> int:
        """Return the number of tiles of 32 columns of R."""
        return depth_tiles(self.hidden)


@dataclass(frozen=True)
class StepPlan:
    """A step kernel and its launch: blocks of [32, warps] threads, unit_blocks × batch_blocks of them at a time."""

    kind: StepKind
    unit_blocks: int
    batch_blocks: int
    warps: int
    shared_bytes: int
    cycles: float
    """The estimated cycles of a step of the whole batch."""

    @property
    def name(self) -> str:
        """Return one line that describes the plan."""
        where = "shared memory" if self.kind.resident else "cache"
        product = "dp4a" if self.kind.dp4a_sequences else "tensor cores"
        return f"{self.kind.barrier} barrier, {self.unit_blocks} × {self.batch_blocks} blocks, {product}, R in {where}"


def plans(layout: Layout, batch: int, device: Device, costs: Costs | None = None) -> Iterator[StepPlan]:
    """Iterate over every plan that fits the device, with its estimate by ``costs`` or by those of the device's family."""
    prices = (costs or costs_of(device.capability)).constants.prices()
    every_tile = -(-batch // TILE_COLUMNS)
    for dp4a in (batch, 0) if batch <= MOST_DP4A_SEQUENCES else (0,):
        for tiles in (1,) if dp4a else (1, 2, 4):
            if tiles * layout.operand_bytes > MOST_REGISTER_TILES or tiles >= 2 * every_tile:
                continue
            for resident in (True, False):
                for barrier in (BLOCK, GRID if device.cooperative else LAUNCH):
                    kind = StepKind(
                        layout.cell,
                        layout.gates,
                        layout.operand_bytes,
                        tiles,
                        barrier,
                        resident,
                        dp4a,
                        device.capability,
                    )
                    for plan in _launches(kind, layout, every_tile, device):
                        cycles = work_of(plan, layout, batch, device).cycles(prices)
                        yield StepPlan(kind, plan.unit_blocks, plan.batch_blocks, plan.warps, plan.shared_bytes, cycles)


def _launches(kind: StepKind, layout: Layout, every_tile: int, device: Device) -> Iterator[StepPlan]:
    """Iterate over the ways to spread units over blocks, without an estimate."""
    batch_blocks = -(-every_tile // kind.tiles)
    most = 1 if kind.barrier == BLOCK else min(layout.groups, device.processors)
    least = 1 if kind.barrier == BLOCK else 2
    seen = set()
    for unit_blocks in range(least, most + 1):
        groups = -(-layout.groups // unit_blocks)
        if groups in seen:  # more blocks with as many groups in the largest
            continue
        seen.add(groups)
        shared = 4 * shared_words(kind, groups, layout.depth)
        if shared > device.shared_per_block:
            continue
        together = min(batch_blocks, MOST_GRID_Y if kind.barrier == BLOCK else device.processors // unit_blocks)
        yield StepPlan(kind, unit_blocks, together, min(MOST_THREADS // 32, groups), shared, 0.0)


def work_of(plan: StepPlan, layout: Layout, batch: int, device: Device) -> Work:
    """Return what a step of a plan does, in units of the constants of `costs`: the block with the most units is counted."""
    kind, depth = plan.kind, layout.depth
    operand_bytes, tiles = layout.operand_bytes, kind.tiles
    groups = -(-layout.groups // plan.unit_blocks)
    every_tile = -(-batch // TILE_COLUMNS)
    batch_blocks = -(-every_tile // tiles)
    fragments = groups * kind.pairs * depth
    rounds = -(-groups // plan.warps)
    weights = "shared_bytes_per_cycle" if kind.resident else "cache_bytes_per_cycle"
    reading = (
        (weights, 4.0 * fragments * A_WORDS),
        ("shared_bytes_per_cycle", 4.0 * groups * depth * operand_bytes * tiles * B_WORDS),
    )
    multiplying: tuple[Term, ...]
    waiting: tuple[Term, ...]
    rest: tuple[Term, ...]
    if kind.dp4a_sequences:
        multiplying = (("dp4a_cycles", 4.0 * fragments * operand_bytes * kind.dp4a_sequences),)
        waiting = (("dp4a_latency_cycles", float(rounds * depth)), ("shuffle_latency_cycles", float(rounds)))
    else:
        multiplying = (("tensor_cycles", float(fragments * operand_bytes * tiles)),)
        waiting = (("tensor_latency_cycles", float(rounds * depth)),)
    update = ("update_cycles", float(rounds * (kind.dp4a_sequences or 2 * tiles)))
    barriers = float(kind.barriers_per_step)
    if kind.barrier == BLOCK:
        fit = device.shared_per_processor // max(plan.shared_bytes, 1)
        at_once = device.processors * max(1, min(MOST_BLOCKS_TOGETHER, fit))
        waves, rest = math.ceil(batch_blocks / at_once), (update, ("block_barrier_cycles", barriers))
    else:
        meeting = "grid_barrier_cycles" if kind.barrier == GRID else "launch_cycles"
        exchanged = ("cache_bytes_per_cycle", 4.0 * barriers * tiles * operand_bytes * depth * B_WORDS)
        waves, rest = math.ceil(batch_blocks / plan.batch_blocks), (update, (meeting, barriers), exchanged)
    return Work(waves, reading, multiplying, waiting, rest)
