"""Whole sequences by fused steps: the loops around `qrnn.backends.cpu.blocks`, compiled once for each cell and instruction set.

`run` goes through one sequence after the other, which a thread team may share: each worker has blocks of hidden units of its own, and all meet
once in every step. `run_group` takes up to `VECTORS` sequences a step further at once. Both are templates, as the steps of streams
are: `compiled` puts the functions of `qrnn.backends.cpu.templates` in place.

Every other step goes through the blocks in the opposite order: of weights that are a little larger than a cache, most then stay in it, where
the same order would evict each block just before it is needed again.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from qrnn.arithmetic.fixedpoint import to_operand
from qrnn.backends.cpu import blocks, gate_steps, group_steps, matrix, step_parts
from qrnn.backends.cpu.beside import Tiles
from qrnn.backends.cpu.isa import Isa, isa_named
from qrnn.backends.cpu.jit import emitted, jit, renamed
from qrnn.backends.cpu.matrix import AHEAD, GROUP_LEAST, LARGE_AHEAD, ROWS_AHEAD, VECTORS
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.steps import KernelVariant
from qrnn.backends.cpu.templates import (
    BESIDE,
    BY_GATES,
    GATES,
    PIECE,
    TRACED,
    TWO_PHASES,
    UNITS,
    configure,
    copy_units,
    encode_vectors,
    fetch_row,
    fetch_row_ahead,
    group_second_phase,
    group_step,
    input_product,
    into_rows,
    out_of_rows,
    release,
    second_phase,
    shared_parts,
    step_beside,
    step_blocks,
)
from qrnn.backends.cpu.threads.team_loops import arrive, wait, wait_for_all


@jit
def encode(x: Any, first: int, shift: int, limit: int, out: Any, wide: bool, byte_parts: int, offsets: Any) -> None:
    """Write the operands of x [K] int16, from ``first`` on, as the instruction set reads them, into out (bytes); see `Isa`.

    Padding stays as it is.
    """
    part = out.shape[0] // byte_parts
    for k in range(first, x.shape[0]):
        value = to_operand(x[k], shift, limit)
        if wide:
            out[2 * k] = np.uint8(value & 255)
            out[2 * k + 1] = np.uint8((value >> 8) & 255)
        elif byte_parts == 1:
            out[k] = np.uint8((value + offsets[0]) & 255)
        else:
            out[k] = np.uint8(((value >> 8) + offsets[0]) & 255)
            out[part + k] = np.uint8((value + offsets[1]) & 255)


def product_pieces(product: Any, count: int, size: int, first_block: int, first: int, last: int) -> None:
    """Compute pieces first … last - 1 of a product (`matrix.PRODUCT_ARGS`) of ``count`` vectors.

    A piece is ``size`` vectors of a block. Pieces are counted block by block.
    """
    weights, params, operands, row, out, out_row, out_block, groups, byte_parts, sums = product
    of_block = -(-count // size)
    for piece in range(first, last):
        block, begin = first_block + piece // of_block, piece % of_block * size
        own = (
            weights, params, operands + begin * row, row, out + begin * out_row, out_row, out_block, groups, byte_parts, sums,
        )  # fmt: skip
        input_product(own, min(size, count - begin), block, block + 1)


@jit
def joined(before: Any, value: int, after: Any) -> Any:
    """Return one tuple. Numba wants a variable that holds several tuples in turn to be given each by a call."""
    return (*before, value, *after)


def run(
    place: Any, team: Any, reverse: bool, coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, x: Any, lengths: Any, h: Any, c: Any,
    y: Any, _pre: Any, _cells: Any, scratch: Any,
) -> None:  # fmt: skip
    """Run sequences place[FIRST] … place[LAST] - 1 of one direction, as thread team[0] of team[1].

    Behind these two, ``team`` has `Tuning.beside_bytes` and `Tuning.ahead_bytes`.

    coding: `packed.OperandCoding`; ih, hh: `packed.PackedMatrix`; functions, formats: packed; x [N, T, I] int16; h [N, H],
    c [N, H or 0] replaced by the final states; y [N, T, H]; scratch: `packed.TeamScratch`. Only `run_group` writes traces.
    """
    n0, n1 = place[FIRST], place[LAST]
    me, threads, beside_bytes, ahead_bytes = team
    operands, reset, z, h_now, c_now, xs, x_operands, tails, sums, c_places, config, flags = scratch
    wide, offsets = coding
    hh_weights, hh_params, groups, byte_parts = hh
    H, last = h.shape[1], h_now.shape[0] // UNITS
    first_block, last_block = me * last // threads, (me + 1) * last // threads
    u0, u1 = first_block * UNITS, min(last_block * UNITS, H)
    own_xs, own_operands = xs[me], x_operands[me]
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    places = (address(reset), address(z))
    at_xs, xs_step, at_h = address(own_xs), 4 * own_xs.shape[1], address(h_now)
    xs_block, xs_buffer, h_row = xs_step // last, AHEAD * xs_step, operands.shape[1]
    inputs = (address(ih[0]), address(ih[1]), address(own_operands), own_operands.shape[1])
    made = (xs_step, xs_block, ih[2], ih[3], address(sums[me]))
    x_format = (
        x.shape[2], address(tails[me]), address(own_operands), own_operands.shape[1], formats[2], formats[3], ih[2], ih[3],
    )  # fmt: skip
    x_step = -x.strides[1] if reverse else x.strides[1]
    epoch = 0
    # Weights of h that are read from beyond the first-level cache leave time for the inputs' part of later steps.
    beside = BESIDE > 0 and ih[3] == 1 and hh_weights.shape[0] * (last_block - first_block) >= last * beside_bytes
    at_once = AHEAD if AHEAD * xs_step <= ahead_bytes else LARGE_AHEAD
    steps_ahead, buffers = (BESIDE, 2) if beside else (at_once, min(threads, 2))
    configure(address(config))
    for n in range(n0, n1):
        length = lengths[n]
        if me == 0:
            copy_units((at_h, address(h) + n * h.strides[0], H))
            encode(h[n], 0, formats[0], formats[1], operands[0], wide, byte_parts, offsets)
            for u in range(c.shape[1]):
                c_now[c_places[u]] = c[n, u]
        now, following = address(operands[0]), address(operands[1])
        epoch += 1
        wait_for_all(flags, me, threads, epoch)
        product, count, pieces, tiles = joined(inputs, at_xs, made), 0, 0, 0
        for step in range(length):
            slot = step % steps_ahead
            if slot == 0:
                # With one buffer the inputs' part of these steps is computed here.
                # With two it is that of the next steps, in the course of these.
                begin = step + steps_ahead if buffers > 1 and step > 0 else step
                for ahead in range(begin, step + (buffers - 1) * steps_ahead + 1, steps_ahead):
                    count = max(0, min(steps_ahead, length - ahead))
                    at_x = address(x) + n * x.strides[0] + (length - 1 - ahead if reverse else ahead) * x.strides[1]
                    encode_vectors((at_x, x_step, *x_format), count)
                    product = joined(inputs, at_xs + ahead // steps_ahead % buffers * xs_buffer, made)
                    pieces = (last_block - first_block) * (-(-count // PIECE))
                    if ahead == step:
                        product_pieces(product, count, steps_ahead, first_block, 0, last_block - first_block)
                        pieces = 0
                if beside:
                    tiles, pieces = (last_block - first_block) * GATES if count > 0 else 0, 0
            xs_now = at_xs + step // steps_ahead % buffers * xs_buffer + slot * xs_step
            states = (xs_now, xs_block, at_h, address(c_now), groups, byte_parts)
            values = (*fixed, now, following, *places, *states)
            if BESIDE > 0:
                numbers = (first_block, tiles * slot // steps_ahead, tiles * (slot + 1) // steps_ahead)
                step_beside(values, (*product[:8], *numbers), first_block, last_block, step & 1)
            else:
                step_blocks(values, first_block, last_block, step & 1)
            first, end = pieces * slot // steps_ahead, pieces * (slot + 1) // steps_ahead
            if TWO_PHASES:
                epoch += 1
                arrive(flags, me, threads, epoch)
                if pieces > 0:
                    product_pieces(product, count, PIECE, first_block, first, (first + end) // 2)
                    first = (first + end) // 2
                wait(flags, threads, epoch)
                fetch_row(address(reset), h_row, threads)
                second_phase((*fixed, places[0], following, *places, *states), first_block, last_block, step & 1)
            epoch += 1
            arrive(flags, me, threads, epoch)
            t = length - 1 - step if reverse else step
            copy_units((address(y) + n * y.strides[0] + t * y.strides[1] + 2 * u0, at_h + 2 * u0, max(0, u1 - u0)))
            if pieces > 0:
                product_pieces(product, count, PIECE, first_block, first, end)
            now, following = following, now
            wait(flags, threads, epoch)
            fetch_row(now, h_row, threads)
        if me == 0:
            copy_units((address(h) + n * h.strides[0], at_h, H))
            for u in range(c.shape[1]):
                c[n, u] = c_now[c_places[u]]
    release(0)


def run_group(
    place: Any, _team: Any, reverse: bool, coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, x: Any, lengths: Any, h: Any, c: Any,
    y: Any, pre: Any, cells: Any, scratch: Any,
) -> None:  # fmt: skip
    """Run sequences place[FIRST] … place[LAST] - 1, `VECTORS` at a time in lockstep.

    The longest come first: those that still run are the first ``active``.

    Arguments are as for `run`; scratch: `packed.GroupScratch`. A traced run writes the arguments of the gates to pre [N, T, G·H] int16, and
    c after each step to cells [N, T, H or 0] int32.
    """
    n0, n1 = place[FIRST], place[LAST]
    operands, reset, z, h_now, c_now, xs, x_operands, tails, sums, c_places, config, order = scratch
    wide, offsets = coding
    hh_weights, hh_params, groups, byte_parts = hh
    H, last = h.shape[1], h_now.shape[1] // UNITS
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    places = (address(reset), address(z))
    states = (address(h_now), address(c_now), groups, byte_parts)
    row = operands.shape[2]
    h_step = 2 * h_now.shape[1]
    # Rows of one block lie together, since the steps go through them block by block.
    xs_row = 4 * xs.shape[1] // last
    xs_block = xs.shape[0] * xs_row
    strides = (row, row, row, 4 * z.shape[1], xs_row, h_step, 4 * c_now.shape[1])
    at_xs, at_x_operands, x_row = address(xs), address(x_operands), x_operands.shape[1]
    product = (
        address(ih[0]), address(ih[1]), at_x_operands, x_row, at_xs, xs_row, xs_block, ih[2], ih[3], address(sums),
    )  # fmt: skip
    x_step = -x.strides[1] if reverse else x.strides[1]
    x_format = (formats[2], formats[3], ih[2], ih[3])
    configure(address(config))
    for g0 in range(n0, n1, VECTORS):
        active = min(VECTORS, n1 - g0)
        for k in range(active):  # An insertion sort puts the longest first.
            at = k
            while at > 0 and lengths[order[at - 1]] < lengths[g0 + k]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = g0 + k
        for k in range(active):
            n = order[k]
            copy_units((address(h_now) + k * h_step, address(h) + n * h.strides[0], H))
            encode(h[n], 0, formats[0], formats[1], operands[0, k], wide, byte_parts, offsets)
            for u in range(c.shape[1]):
                c_now[k, c_places[u]] = c[n, u]
        count, width, begun, done = active, active, 0, 0
        now, following = address(operands[0]), address(operands[1])
        for step in range(lengths[order[0]]):
            while lengths[order[active - 1]] <= step:
                active -= 1
            if step == done:  # xs has rows of the steps ahead, and for each of them of the sequences that run now.
                ahead, width = ROWS_AHEAD // active, active
                for k in range(width):
                    n = order[k]
                    at_x = address(x) + n * x.strides[0] + (lengths[n] - 1 - step if reverse else step) * x.strides[1]
                    rows = (x.shape[2], address(tails), at_x_operands + k * x_row, width * x_row)
                    encode_vectors((at_x, x_step, *rows, *x_format), min(ahead, lengths[n] - step))
                if not BY_GATES:
                    input_product(product, ahead * width, 0, last)
                begun, done = step, step + ahead
            at_step = at_xs + (step - begun) * width * xs_row
            of_step = at_x_operands + (step - begun) * width * x_row
            inputs = (address(ih[0]), address(ih[1]), of_step, x_row, ih[2], ih[3], address(sums))
            group_step((*fixed, now, following, *places, at_step, xs_block, *states), strides, inputs, active, last)
            if TWO_PHASES:
                again = (*fixed, places[0], following, *places, at_step, xs_block, *states)
                group_second_phase(again, strides, inputs, active, last)
            for k in range(active):
                n = order[k]
                t = lengths[n] - 1 - step if reverse else step
                copy_units((address(y) + n * y.strides[0] + t * y.strides[1], address(h_now) + k * h_step, H))
                if TRACED:
                    at_pre = address(pre) + n * pre.strides[0] + t * pre.strides[1]
                    for block in range(last):
                        units = min(UNITS, H - block * UNITS)
                        of_block = at_step + k * xs_row + block * xs_block
                        for gate in range(GATES):
                            to = at_pre + 2 * (gate * H + block * UNITS)
                            copy_units((to, of_block + 4 * UNITS * gate, units))
                    for u in range(c.shape[1]):
                        cells[n, t, u] = c_now[k, c_places[u]]
            now, following = following, now
        for k in range(count):
            n = order[k]
            copy_units((address(h) + n * h.strides[0], address(h_now) + k * h_step, H))
            for u in range(c.shape[1]):
                c[n, u] = c_now[k, c_places[u]]
    release(0)


def step_streams(
    coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, scratch: Any, place: Any, rows: Any, x: Any, h: Any, c: Any, y: Any
) -> None:  # fmt: skip
    """Compute one step of streams rows[place[0]] … rows[place[1] - 1], `VECTORS` at a time.

    Of the stream whose number is rows[k], the input is x[k] [I] and the output y[k] [H]; its state lies in rows of h [R, H] and c [R, H or 0].
    The other arguments are as for `run`; scratch: `packed.GroupScratch`.
    """
    operands, reset, z, h_now, c_now, xs, x_operands, tails, sums, c_places, config, _ = scratch
    hh_weights, hh_params, groups, byte_parts = hh
    H, I, last = h.shape[1], x.shape[1], h_now.shape[1] // UNITS
    whole = c.shape[1] // UNITS
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    row, x_row = operands.shape[2], x_operands.shape[1]
    z_row, xs_row, h_row, c_row = 4 * z.shape[1], 4 * xs.shape[1], 2 * h_now.shape[1], 4 * c_now.shape[1]
    xs_block = xs_row // last
    strides = (row, row, row, z_row, xs_row, h_row, c_row)
    at_now, at_following, at_reset = address(operands[0]), address(operands[1]), address(reset)
    at_z, at_xs, at_h, at_c, at_x = address(z), address(xs), address(h_now), address(c_now), address(x_operands)
    h_encoding = (at_h, h_row, H, address(tails), at_now, row, formats[0], formats[1], groups, byte_parts)
    x_encoding = (2 * I, I, address(tails), at_x, x_row, formats[2], formats[3], ih[2], ih[3])
    product = (address(ih[0]), address(ih[1]), at_x, x_row, at_xs, xs_row, xs_block, ih[2], ih[3], address(sums))
    together = place[1] - place[0] >= GROUP_LEAST
    if together:
        configure(address(config))
    for first in range(place[0], place[1], VECTORS):
        active = min(VECTORS, place[1] - first)
        for k in range(active):
            n = rows[first + k]
            copy_units((at_h + k * h_row, address(h) + n * h.strides[0], H))
            into_rows((address(c) + n * c.strides[0], at_c + k * c_row), whole)
            for u in range(whole * UNITS, c.shape[1]):
                c_now[k, c_places[u]] = c[n, u]
        encode_vectors(h_encoding, active)
        encode_vectors((address(x) + first * 2 * I, *x_encoding), active)
        after = first + VECTORS
        following = max(0, min(VECTORS, place[1] - after))
        lone = active if active < GROUP_LEAST else 0
        for block in range(last):
            for k in range(after + following * block // last, after + following * (block + 1) // last):
                fetch_row_ahead(address(h) + rows[k] * h.strides[0], h.strides[0])
                fetch_row_ahead(address(c) + rows[k] * c.strides[0], c.strides[0])
            if lone > 0 or not BY_GATES:
                input_product(product, active, block, block + 1)
        for k in range(lone):
            own = (at_following + k * row, at_reset + k * row, at_z + k * z_row, at_xs + k * xs_row)
            states = (xs_block, at_h + k * h_row, at_c + k * c_row, groups, byte_parts)
            step_blocks((*fixed, at_now + k * row, *own, *states), 0, last, 0)
            if TWO_PHASES:
                second_phase((*fixed, own[1], *own, *states), 0, last, 0)
        if lone == 0:
            everyone = (at_following, at_reset, at_z, at_xs, xs_block, at_h, at_c, groups, byte_parts)
            inputs = (address(ih[0]), address(ih[1]), at_x, x_row, ih[2], ih[3], address(sums))
            group_step((*fixed, at_now, *everyone), strides, inputs, active, last)
            if TWO_PHASES:
                group_second_phase((*fixed, at_reset, *everyone), strides, inputs, active, last)
        for k in range(active):
            n = rows[first + k]
            copy_units((address(y) + (first + k) * y.strides[0], at_h + k * h_row, H))
            copy_units((address(h) + n * h.strides[0], at_h + k * h_row, H))
            out_of_rows((at_c + k * c_row, address(c) + n * c.strides[0]), whole)
            for u in range(whole * UNITS, c.shape[1]):
                c[n, u] = c_now[k, c_places[u]]
    if together:
        release(0)


def _step_beside(
    builder: Any, isa: Isa, name: str, ih: KernelVariant, hh: KernelVariant, values: Any, product: Any, *rest: Any
) -> None:
    first, last, back = rest
    tiles = Tiles(builder, isa, product, blocks.PHASES[name].gates, ih)
    blocks.emit_step(builder, isa, name, hh, values, first, last, back, tiles)


def _group_step(
    builder: Any,
    *values: Any,
    isa: Isa,
    name: str,
    variants: tuple[KernelVariant, KernelVariant],
) -> None:
    if variants[1].by_gates:
        gate_steps.emit_gate_step(builder, isa, name, variants, *values)
        return
    of_step, strides, inputs, active, last = values
    group_steps.emit_group_step(builder, isa, name, variants[1], of_step, strides, inputs[-1], active, last)


@cache
def compiled(template: str, isa_name: str, phases: tuple[str, ...], ih: KernelVariant, hh: KernelVariant) -> Any:
    """Return `run`, `run_group`, `step_streams` or `step_parts.step_part` for one cell and instruction set.

    It is the same code, with the emitted functions put in place.

    KernelVariant ``ih`` is that of the inputs' products, ``hh`` that of the steps.
    """
    isa = hh.instructions(isa_named(isa_name))
    first, second = phases[0], phases[-1]
    space = vars(step_parts) | globals() | shared_parts(isa)
    step = blocks.emit_step
    space["step_blocks"] = emitted(lambda b, *a: step(b, isa, first, hh, *a), 4)
    if isa.beside and ih.bits == hh.bits == 8 and isa.halves == 2:
        space["step_beside"] = emitted(lambda b, *a: _step_beside(b, isa, first, ih, hh, *a), 5)
        space["BESIDE"] = isa.beside
    space["second_phase"] = emitted(lambda b, *a: step(b, isa, second, hh, *a), 4)
    space["BY_GATES"] = hh.by_gates
    group = partial(_group_step, isa=isa, variants=(ih, hh))
    space["group_step"] = emitted(partial(group, name=first), 5)
    space["group_second_phase"] = emitted(partial(group, name=second), 5)
    space["into_rows"] = emitted(lambda b, values, count: blocks.emit_reorder(b, isa, values, count, False), 2)
    space["out_of_rows"] = emitted(lambda b, values, count: blocks.emit_reorder(b, isa, values, count, True), 2)
    gates = blocks.PHASES[first].gates
    space["input_product"] = emitted(lambda b, *a: matrix.emit_product(b, isa, gates, *a, variant=ih), 4)
    piece = VECTORS if isa.amx else matrix.TILE
    space |= {"UNITS": isa.units, "GATES": gates, "TWO_PHASES": len(phases) == 2, "PIECE": piece, "TRACED": hh.traced}
    space["product_pieces"] = jit(renamed(product_pieces, f"product_{first}_{isa_name}_{ih.name}", space))
    return jit(renamed(space[template], f"{template}_{first}_{isa_name}_{hh.name}_{ih.name}", space))
