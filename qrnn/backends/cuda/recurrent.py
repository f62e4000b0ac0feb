"""One direction over whole sequences: W·x of all steps, then the steps, by the kernel that the plan names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda import heads, work
from qrnn.backends.cuda.fragments import B_WORDS, TILE_COLUMNS, depth_tiles
from qrnn.backends.cuda.general import run_general
from qrnn.backends.cuda.inputs import (
    PRODUCT_PAIRS,
    PRODUCT_TILES,
    order_operands,
    pack_operands,
    product_kernel,
    run_plain_product,
)
from qrnn.backends.cuda.kernel_variants import GRID, LAUNCH, ProductKind
from qrnn.backends.cuda.launch import THREADS, configured, for_each, most_blocks_that_meet, sized
from qrnn.backends.cuda.plan import MOST_GRID_Y, Plan
from qrnn.backends.cuda.proofs import note_launch
from qrnn.backends.cuda.steps import step_kernel
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import DirectionWeights, ProductWeights
from qrnn.backends.cuda.work import device_array, new_array
from qrnn.model.batch import shortest

GENERAL_THREADS = 32 if THREADS < 128 else 256
PRODUCT_WARPS = 1 if THREADS < 128 else 4


@dataclass(frozen=True)
class Lengths:
    """The lengths of N sequences on the device, as many ones, and the shortest and the longest."""

    device: Any
    ones: Any
    count: int
    shortest: int
    longest: int

    @classmethod
    def of(cls, lengths: Any) -> Lengths:
        """From the host."""
        return cls(
            cuda.to_device(np.ascontiguousarray(lengths, np.int64)),
            ones(len(lengths)),
            len(lengths),
            shortest(lengths),
            int(lengths.max(initial=0)),
        )


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of zeros on the device.

    In a run that is done again, what the run before wrote is still there: whoever writes into it writes the same places in every run.
    """
    array, new = new_array(shape, dtype)
    if new:
        for_each(heads.fill_zero, array.size, array.reshape(array.size))
    return array


def ones(count: int) -> Any:
    """[count] int64 on the device."""
    array, new = new_array(count, np.int64)
    if new:
        for_each(heads.fill_one, count, array)
    return array


@dataclass(frozen=True)
class Traces:
    """What `general` traces into, of no steps when not wanted: pre [N, T or 0, R] int16, c [N, T or 0, H or 0] int32."""

    pre: Any
    c: Any


def multiply_inputs(
    weights: ProductWeights, x: Any, lengths: Any, reverse: bool, begin: int, steps: int, kind: ProductKind, tuning: Tuning
) -> Any:  # fmt: skip
    """W·x of steps begin … begin + steps - 1, [steps · N, R]: int32, or int16 of a dense layer. x [N, T, K] int16.

    On the tensor cores by the kernel ``kind`` where the tuning allows it, by plain loops elsewhere.
    """
    planes, depth, dense = weights.planes, weights.depth, kind.dense
    items = steps * x.shape[0]
    operand = weights.operand
    if weights.plain_only or not tuning.allows(kind):
        operands = device_array((items, x.shape[2]), np.int16)
        for_each(order_operands, operands.size, x, lengths, reverse, operand.shift, operand.limit, begin, operands)
        out = device_array((items, weights.size), np.int16 if dense else np.int32)
        for_each(run_plain_product, out.size, weights.columns, weights.rows, operands, dense, out)
        return out
    note_launch(kind)
    tiles = PRODUCT_TILES // planes
    blocks = -(-items // (TILE_COLUMNS * tiles))
    words = device_array(blocks * tiles * planes * depth * B_WORDS, np.int32)
    for_each(pack_operands, words.size, x, lengths, reverse, operand.shift, operand.limit, planes, begin, depth, words)
    out = device_array((items, weights.size), np.int16 if dense else np.int32)
    pairs = -(-weights.size // (16 * PRODUCT_PAIRS))
    for first in range(0, blocks, MOST_GRID_Y):
        count = min(MOST_GRID_Y, blocks - first)
        done = first * TILE_COLUMNS * tiles
        part = out[done : done + count * TILE_COLUMNS * tiles]
        grid, block = (-(-pairs // PRODUCT_WARPS), count), (32, PRODUCT_WARPS)
        configured(product_kernel(planes, dense, kind.capability), grid, block)(
            weights.fragments,
            weights.rows,
            words[first * tiles * planes * depth * B_WORDS :],
            depth,
            part.shape[0],
            part,
        )
    return out


def run_direction(
    w: DirectionWeights, plan: Plan | None, x: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, traces: Traces,
    capability: tuple[int, int], tuning: Tuning,
) -> None:  # fmt: skip
    """One direction of a layer: x [N, T, I] → y [N, T, …] from feature ``column`` on; h [N, P], c [N, H or 0] are replaced.

    By the general kernel where there is no ``plan``.
    """
    N, R = lengths.count, w.size
    piece = max(1, min(lengths.longest, tuning.input_bytes // (4 * N * R)))
    run = _general(w, N, traces, tuning) if plan is None else FusedSteps(w, plan, N, tuning)
    kind = ProductKind(w.inputs.planes, False, capability)
    for begin, end in work.pieces(lengths.longest, piece):
        xs = multiply_inputs(w.inputs, x, lengths.device, w.reverse, begin, end - begin, kind, tuning)
        arguments = xs.reshape(end - begin, N, R), h, c, lengths, y, column, begin, end
        try:
            run(*arguments)
        except CannotMeetError:  # nothing has been launched
            run = _general(w, N, traces, tuning)
            run(*arguments)


def _general(w: DirectionWeights, N: int, traces: Traces, tuning: Tuning) -> Any:
    H, P, R = w.hidden, w.fed_back, w.size
    row_bytes = 2 * H + 8 * max(P, H) + 4 * max(R, P)
    M = max(1, min(N, tuning.scratch_bytes // row_bytes))  # sequences of one launch
    hidden, operand = device_array((M, H), np.int16), device_array((M, 2, max(P, H)), np.int32)
    sums, nothing = device_array((M, max(R, P)), np.int32), device_array(0, np.int16)
    v = w.projection

    def run(xs: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, begin: int, end: int) -> None:
        for first in range(0, N, M):
            configured(run_general, min(M, N - first), GENERAL_THREADS)(
                w.cell, w.forget, w.reverse, w.columns, w.rows, w.params, w.tables, w.peephole, w.formats,
                v.weight, v.rows, v.params, v.tables, v.formats, xs, lengths.device, h, c, y, column,
                traces.pre, traces.c, nothing, hidden, operand, sums, first, begin, end,
            )  # fmt: skip

    return run


class CannotMeetError(Exception):
    """The device does not hold all blocks of a grid at once, and the kernel that takes a launch a step may not run."""


class FusedSteps:
    """The fused steps of a direction, launched as its plan says."""

    def __init__(self, w: DirectionWeights, plan: Plan, N: int, tuning: Tuning) -> None:
        self.w, self.plan, self.kind, self.tuning = w, plan, plan.kind, tuning
        depth = depth_tiles(w.hidden)
        self.depth, tile = depth, w.planes * depth * B_WORDS
        self.batch_blocks = -(-N // (TILE_COLUMNS * self.kind.tiles))
        self.half = self.batch_blocks * self.kind.tiles * tile
        self.operands = zeros((2 * self.half,), np.int32)
        self.z = device_array((N, w.hidden if self.kind.barriers_per_step == 2 else 0), np.int32)
        self.nothing = device_array(0, np.int16)

    def __call__(self, xs: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, begin: int, end: int) -> None:
        """Steps begin … end - 1. CannotMeetError comes before the first launch, which has the most blocks."""
        w, ticks = self.w, self.kind.barriers_per_step
        first, operand = begin * ticks, w.h_operand
        now = self.operands[(first & 1) * self.half : ((first & 1) + 1) * self.half]
        # h as a sequence of one step; the bytes of sequences that do not exist stay zero, since no step of theirs does.
        for_each(
            pack_operands, self.half, h.reshape(h.shape[0], 1, h.shape[1]), lengths.ones, False,
            operand.shift, operand.limit, w.planes, 0, self.depth, now,
        )  # fmt: skip
        for batch_begin in range(0, self.batch_blocks, self.plan.batch_blocks):
            blocks = min(self.plan.batch_blocks, self.batch_blocks - batch_begin)

            def arguments(tick: int, last: int, at: int = batch_begin) -> tuple[Any, ...]:
                return (
                    w.fragments, w.rows, w.params, w.tables, w.peephole, w.formats, xs, lengths.device, h, c,
                    self.operands, self.operands.view(np.int8), self.z, y, column, self.nothing, w.forget, w.reverse,
                    self.depth, at, begin, tick, last,
                )  # fmt: skip

            last = end * ticks
            kernel = self._kernel(arguments(first, last), blocks)
            grid, block = (self.plan.unit_blocks, blocks), (32, self.plan.warps)
            note_launch(self.kind)
            run = configured(kernel, grid, block, self.plan.shared_bytes)
            stride = 1 if self.kind.barrier == LAUNCH else last - first
            for tick in range(first, last, stride):
                run(*arguments(tick, tick + stride))

    def _kernel(self, arguments: tuple[Any, ...], blocks: int) -> Any:
        """The plan's kernel; with a launch a step where the device does not hold all blocks at once."""
        plan = self.plan
        made = sized(step_kernel(self.kind), plan.shared_bytes, arguments)
        wanted = plan.unit_blocks * blocks
        if self.kind.barrier == GRID and wanted > most_blocks_that_meet(made, 32 * plan.warps, plan.shared_bytes):
            launched = replace(self.kind, barrier=LAUNCH)
            if not self.tuning.allows(launched):
                raise CannotMeetError
            self.kind = launched
            made = sized(step_kernel(self.kind), plan.shared_bytes, arguments)
        return made
