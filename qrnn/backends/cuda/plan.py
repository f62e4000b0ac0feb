"""Which kernel runs a layer: one function of its shape, the batch and the device (docs/cuda.md).

Every way to lay a direction over the device that fits its shared memory is given a cost in cycles a step, and the least is taken. The
formulas count bytes and operations; the constants beside them are what data sheets say or guesses of a barrier's latency. NOTHING HERE HAS
BEEN MEASURED: no GPU was to be had. Where the choice goes over from one kernel to another is an estimate until tools/gpu_check has run.
The choice never changes a bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS, TILE_COLUMNS, depth_tiles
from qrnn.backends.cuda.kinds import BLOCK, GRID, LAUNCH, MOST_THREADS, StepKind, shared_words

DOT_SEQUENCES = 2
"""A batch of so many has the choice of `dp4a`."""

MOST_REGISTER_TILES = 4
"""Of tiles times planes: sums that a lane keeps in registers."""

MOST_GRID_Y = 65535
"""Blocks on a grid's second axis; more batch blocks go in several launches."""

SHARED_BYTES, CACHE_BYTES = 128, 40
"""Bytes a cycle that a multiprocessor reads from its shared memory, and from the second-level cache when all of them do."""

BLOCK_CYCLES, GRID_CYCLES, EXCHANGE_CYCLES, LAUNCH_CYCLES = 40, 1500, 700, 6000
"""A block's barrier; a grid's; the latency of a read of what another block has written; a launch."""

UPDATE_CYCLES = 500
"""A warp's requantizations, gates and cell of one column of its unit."""

DOT_CYCLES = 0.5
"""A warp's `dp4a`, where a multiprocessor does nothing else."""

TENSOR_LATENCY, DOT_LATENCY, SHUFFLE_LATENCY = 33, 10, 60
"""From one product of a row to the next, which adds to it: `mma.sync`; two of `dp4a`. And the shuffles that end the latter."""


def tensor_cycles(capability: tuple[int, int]) -> float:
    """Of one m16n8k32 (4096 multiply-adds), where a multiprocessor's tensor cores have nothing else to do."""
    return 4096 / {7: 1024, 8: 2048}.get(capability[0], 4096)


@dataclass(frozen=True)
class Layout:
    """What of a direction matters: its cell, gates with rows, hidden size and the planes of h's operands."""

    cell: int
    gates: int
    hidden: int
    planes: int

    @property
    def groups(self) -> int:
        """Of 8 units."""
        return -(-self.hidden // TILE_COLUMNS)

    @property
    def depth(self) -> int:
        return depth_tiles(self.hidden)


@dataclass(frozen=True)
class Plan:
    """A step kernel and its launch: blocks of [32, warps] threads, unit_blocks × batch_blocks of them at a time."""

    kind: StepKind
    unit_blocks: int
    batch_blocks: int
    warps: int
    shared_bytes: int
    cycles: float
    """A step of the whole batch, by the estimate."""

    @property
    def name(self) -> str:
        """For people."""
        where = "shared memory" if self.kind.resident else "cache"
        product = "dp4a" if self.kind.dot else "tensor cores"
        return f"{self.kind.barrier} barrier, {self.unit_blocks} × {self.batch_blocks} blocks, {product}, R in {where}"


@lru_cache(maxsize=1024)
def choose_plan(layout: Layout, batch: int, device: Device) -> Plan | None:
    """The plan of least cost for ``batch`` sequences; None where none fits: the general kernel then."""
    return min(plans(layout, batch, device), key=lambda plan: plan.cycles, default=None)


def plans(layout: Layout, batch: int, device: Device) -> Iterator[Plan]:
    """Every plan that fits the device."""
    every_tile = -(-batch // TILE_COLUMNS)
    for dot in (batch, 0) if batch <= DOT_SEQUENCES else (0,):
        for tiles in (1,) if dot else (1, 2, 4):
            if tiles * layout.planes > MOST_REGISTER_TILES or tiles >= 2 * every_tile:
                continue
            for resident in (True, False):
                for barrier in (BLOCK, GRID if device.cooperative else LAUNCH):
                    kind = StepKind(
                        layout.cell, layout.gates, layout.planes, tiles, barrier, resident, dot, device.capability
                    )
                    yield from _layouts(kind, layout, every_tile, device)


def _layouts(kind: StepKind, layout: Layout, every_tile: int, device: Device) -> Iterator[Plan]:
    """The ways to spread units over blocks."""
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
        warps = min(MOST_THREADS // 32, groups)
        cycles = _cycles(kind, layout, groups, warps, shared, batch_blocks, together, device)
        yield Plan(kind, unit_blocks, together, warps, shared, cycles)


def _cycles(
    kind: StepKind, layout: Layout, groups: int, warps: int, shared: int, batch_blocks: int, together: int, device: Device
) -> float:  # fmt: skip
    depth, planes, tiles = layout.depth, layout.planes, kind.tiles
    fragments = groups * kind.pairs * depth
    weights = 4 * fragments * A_WORDS / (SHARED_BYTES if kind.resident else CACHE_BYTES)
    operands = 4 * groups * depth * planes * tiles * B_WORDS / SHARED_BYTES
    if kind.dot:
        multiply, latency = fragments * planes * 4 * kind.dot * DOT_CYCLES, depth * DOT_LATENCY + SHUFFLE_LATENCY
    else:
        multiply, latency = fragments * planes * tiles * tensor_cycles(kind.capability), depth * TENSOR_LATENCY
    rounds = -(-groups // warps)
    update = rounds * (kind.dot or 2 * tiles) * UPDATE_CYCLES
    step = max(weights + operands, multiply, rounds * latency) + update
    if kind.barrier == BLOCK:
        at_once = device.processors * max(1, min(8, device.shared_per_processor // max(shared, 1)))
        return math.ceil(batch_blocks / at_once) * (step + kind.ticks * BLOCK_CYCLES)
    exchange = EXCHANGE_CYCLES + 4 * tiles * planes * depth * B_WORDS / CACHE_BYTES
    meeting = GRID_CYCLES if kind.barrier == GRID else LAUNCH_CYCLES
    return math.ceil(batch_blocks / together) * (step + kind.ticks * (exchange + meeting))
