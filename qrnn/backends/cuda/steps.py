"""The fused steps keep R packed in fragments and take the whole sequence in one launch, by one kernel for small H, large H and large batches.

A block has some groups of 8 units and some tiles of 8 sequences; a warp multiplies all gates of a group at once, and its lanes then hold
all sums of their units, so a cell is updated in registers. What varies is fixed when a kernel is made (`StepKind`):

- *barrier*: BLOCK, where one block has all units of its sequences; their operands pass through its shared memory, and no block waits for
  another. GRID, where units are spread over blocks, which exchange operands through global memory and meet once a step. LAUNCH, the same
  with a launch a step in place of the meeting.
- *resident*: the block's weights stay in its shared memory for the whole sequence, or are read from the second-level cache each step.
- *product*: the tensor cores, or `dp4a` for one or two sequences.

A tick is what lies between two barriers: a step, or half of one where linear_before_reset = 0 (r and z, then n from all of r·h).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int8, int32, int64

from qrnn.backends.cuda.cells import (
    gru_after_unit,
    gru_before_reset,
    gru_before_unit,
    lstm_unit,
    requantized,
    rnn_unit,
    to_operand,
)
from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID, LAUNCH, MOST_THREADS, StepKind
from qrnn.backends.cuda.launch import kernel
from qrnn.backends.cuda.products import dot_product, picker, tensor_product
from qrnn.model.cell_codes import GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM
from qrnn.model.cell_formats import H_LIMIT, H_SHIFT


@cuda.jit(device=True)
def block_barrier() -> None:
    """Wait for all threads of the block."""
    cuda.syncthreads()


@cuda.jit(device=True)
def grid_barrier() -> None:
    """Wait for all blocks of the grid."""
    cuda.cg.this_grid().sync()


@cuda.jit(device=True)
def no_barrier() -> None:
    """Do nothing: the launch ends here."""


_BARRIERS = {BLOCK: block_barrier, GRID: grid_barrier, LAUNCH: no_barrier}


@cuda.jit(device=True)
def place_byte(octets: Any, base: Any, depth: Any, k: Any, column: Any, value: Any) -> None:
    """Write byte k of the operand of column 0 … 7 of a tile whose fragments (B of m16n8k32) begin at word ``base``."""
    word = base + (k >> 5) * B_WORDS + ((k >> 4) & 1) * 32 + column * 4 + ((k >> 2) & 3)
    octets[word * 4 + (k & 3)] = int8(value)


def operand_writer(planes: int) -> Any:
    """Return a function that puts one operand into a tile's fragments."""

    @cuda.jit(device=True)
    def put(octets: Any, base: Any, depth: Any, k: Any, column: Any, value: Any) -> None:
        if planes == 1:
            place_byte(octets, base, depth, k, column, value)
        else:
            low = value & 255
            place_byte(octets, base, depth, k, column, value >> 8)
            place_byte(octets, base + depth * B_WORDS, depth, k, column, low - 256 if low > 127 else low)

    return put


def _input_sum(gates: int, early: bool) -> Any:
    """Return a function that reads a gate's W·x for column m: out of the registers ``ahead`` of one tile, or out of memory."""
    if early:

        @cuda.jit(device=True)
        def read(ahead: Any, xs: Any, at: Any, n: Any, gate: Any, H: Any, u: Any, m: Any) -> Any:
            return int64(ahead[gate]) if m == 0 else int64(ahead[gates + gate])
    else:

        @cuda.jit(device=True)
        def read(ahead: Any, xs: Any, at: Any, n: Any, gate: Any, H: Any, u: Any, m: Any) -> Any:
            return int64(xs[at, n, gate * H + u])

    return read


def _hidden_sum(tiles: int, planes: int) -> Any:
    """Return a function that reads a gate's R·h for column m; place is the gate's number among those of the tick."""
    pick = picker(tiles, planes)

    @cuda.jit(device=True)
    def read(acc: Any, rows: Any, place: Any, gate: Any, H: Any, u: Any, m: Any) -> Any:
        return requantized(pick(acc, place >> 1, place & 1, m), rows, gate * H + u)

    return read


@cache
def step_kernel(kind: StepKind) -> Any:
    """Return the kernel of a kind.

    It is launched with [unit blocks, batch blocks] blocks of [32, warps] threads and `shared_bytes` of shared memory.
    """
    cell, gates, planes, tiles, pairs = kind.cell, kind.gates, kind.operand_bytes, kind.tiles, kind.pairs
    per_tick = pairs // kind.barriers_per_step
    staged, resident = kind.barrier != BLOCK, kind.resident
    multiply = (
        dot_product(per_tick, planes, kind.dp4a_sequences)
        if kind.dp4a_sequences
        else tensor_product(per_tick, tiles, planes, kind.capability)
    )
    put, meet = operand_writer(planes), _BARRIERS[kind.barrier]
    columns, acc_size, ahead_size = 2 * tiles, per_tick * tiles * planes * 4, 2 * gates
    # With more tiles other columns and warps are at work while a read is under way, and registers are short.
    early = tiles == 1
    x_sum, h_sum = _input_sum(gates, early), _hidden_sum(tiles, planes)

    @kernel(MOST_THREADS)
    def run_steps(
        weight: Any, rows: Any, params: Any, tables: Any, peephole: Any, formats: Any, xs: Any, lengths: Any, h: Any, c: Any,
        operands: Any, operand_octets: Any, z: Any, y: Any, column: Any, nothing: Any, forget: Any, reverse: Any,
        depth: Any, batch_begin: Any, begin: Any, first_tick: Any, last_tick: Any,
    ) -> None:  # fmt: skip
        """Take ticks first_tick … last_tick - 1 of the sequences of gridDim.y batch blocks from ``batch_begin`` on, for one direction.

        weight as `fragments.pack_weights` of `fragments.gate_order`; xs [steps, N, R] int32 from step ``begin`` on; h [N, H] int16,
        c [N, H or 0] int32: states, replaced; operands [2 · tiles · planes · depth · 64] int32, of which tick k reads half k % 2: the first
        tick's fragments given, all else zero; the same as bytes; z [N, H or 0] int32 scratch; y [N, T, …] int16, written from feature
        ``column`` on; nothing [0] int16.
        """
        words = cuda.shared.array(0, int32)
        octets = words.view(np.int8)  # not an array of its own: the compiler would take the two for different memory
        lane, warp, warps = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.y
        me, threads = warp * 32 + lane, warps * 32
        N, H = h.shape[0], h.shape[1]
        groups = (H + 7) >> 3
        g0 = cuda.blockIdx.x * groups // cuda.gridDim.x
        g1 = (cuda.blockIdx.x + 1) * groups // cuda.gridDim.x
        first_tile = (batch_begin + cuda.blockIdx.y) * tiles
        group_words = pairs * depth * A_WORDS
        tile_words = planes * depth * B_WORDS
        half, all_half = tiles * tile_words, operands.shape[0] >> 1  # of this block, of all
        kept = (g1 - g0) * group_words if resident else 0
        acc = cuda.local.array(acc_size, int32)
        ahead = cuda.local.array(ahead_size, int32)
        h_shift, h_limit = formats[H_SHIFT], formats[H_LIMIT]
        if resident:
            for i in range(me, kept, threads):
                words[i] = weight[g0 * group_words + i]
        if not staged:
            used, unused = kept + (first_tick & 1) * half, kept + (1 - (first_tick & 1)) * half
            source = (first_tick & 1) * all_half + first_tile * tile_words
            for i in range(me, half, threads):
                words[used + i], words[unused + i] = operands[source + i], 0
        cuda.syncthreads()
        for tick in range(first_tick, last_tick):
            now = kept
            if staged:
                source = (tick & 1) * all_half + first_tile * tile_words
                for i in range(me, half, threads):
                    words[kept + i] = operands[source + i]
                cuda.syncthreads()
            else:
                now += (tick & 1) * half
            step, phase = tick, 0
            if cell == GRU_RESET_BEFORE:
                step, phase = tick >> 1, tick & 1
            following = (1 - (tick & 1)) * (all_half if staged else half)
            following += first_tile * tile_words if staged else kept
            for group in range(g0 + warp, g1, warps):
                u = group * 8 + (lane >> 2)
                at = step - begin
                if early:  # reads that take long are begun before the products
                    for m in range(2):
                        n = first_tile * 8 + 2 * (lane & 3) + m
                        there = u < H and n < N and step < lengths[n]
                        for q in range(gates):
                            ahead[m * gates + q] = xs[at, n, q * H + u] if there else int32(0)
                base = (group - g0 if resident else group) * group_words + phase * depth * A_WORDS
                if resident:
                    multiply(words, base, depth * A_WORDS, words, now, depth, lane, acc)
                else:
                    multiply(weight, base, depth * A_WORDS, words, now, depth, lane, acc)
                for m in range(columns):
                    n = (first_tile + (m >> 1)) * 8 + 2 * (lane & 3) + (m & 1)
                    if u >= H or n >= N:
                        continue
                    length = lengths[n]
                    if step >= length:
                        continue
                    h_next, operand = int64(0), int64(0)
                    if cell == LSTM:
                        x0, h0 = x_sum(ahead, xs, at, n, 0, H, u, m), h_sum(acc, rows, 0, 0, H, u, m)
                        x1, h1 = x_sum(ahead, xs, at, n, 1, H, u, m), h_sum(acc, rows, 1, 1, H, u, m)
                        x2, h2 = x_sum(ahead, xs, at, n, 2, H, u, m), h_sum(acc, rows, 2, 2, H, u, m)
                        x3, h3 = int64(0), int64(0)
                        if gates == 4:
                            x3, h3 = x_sum(ahead, xs, at, n, 3, H, u, m), h_sum(acc, rows, 3, 3, H, u, m)
                        c[n, u], h_next = lstm_unit(
                            forget, x0, x1, x2, x3, h0, h1, h2, h3, int64(c[n, u]), u, H,
                            rows, params, tables, peephole, formats, nothing,
                        )  # fmt: skip
                    elif cell == GRU_RESET_AFTER:
                        x0, h0 = x_sum(ahead, xs, at, n, 0, H, u, m), h_sum(acc, rows, 0, 0, H, u, m)
                        x1, h1 = x_sum(ahead, xs, at, n, 1, H, u, m), h_sum(acc, rows, 1, 1, H, u, m)
                        x2, h2 = x_sum(ahead, xs, at, n, 2, H, u, m), h_sum(acc, rows, 2, 2, H, u, m)
                        h_next = gru_after_unit(
                            x0, x1, x2, h0, h1, h2, int64(h[n, u]), u, H, rows, params, tables, formats, nothing
                        )
                    elif cell == GRU_RESET_BEFORE:
                        if phase == 0:
                            x0, h0 = x_sum(ahead, xs, at, n, 0, H, u, m), h_sum(acc, rows, 0, 0, H, u, m)
                            x1, h1 = x_sum(ahead, xs, at, n, 1, H, u, m), h_sum(acc, rows, 1, 1, H, u, m)
                            z[n, u], operand = gru_before_reset(
                                x0, x1, h0, h1, int64(h[n, u]), u, H, rows, params, tables, formats, nothing
                            )
                        else:
                            x2, h2 = x_sum(ahead, xs, at, n, 2, H, u, m), h_sum(acc, rows, 0, 2, H, u, m)
                            h_next = gru_before_unit(
                                x2, h2, int64(z[n, u]), int64(h[n, u]), u, H, rows, params, tables, formats, nothing
                            )
                    else:
                        x0, h0 = x_sum(ahead, xs, at, n, 0, H, u, m), h_sum(acc, rows, 0, 0, H, u, m)
                        h_next = rnn_unit(x0, h0, u, rows, params, tables, formats, nothing)
                    if cell != GRU_RESET_BEFORE or phase == 1:
                        h[n, u] = h_next
                        y[n, length - 1 - step if reverse else step, column + u] = h_next
                        operand = to_operand(h_next, h_shift, h_limit)
                    place = following + (m >> 1) * tile_words
                    if staged:
                        put(operand_octets, place, depth, u, 2 * (lane & 3) + (m & 1), operand)
                    else:
                        put(octets, place, depth, u, 2 * (lane & 3) + (m & 1), operand)
            meet()

    return run_steps
