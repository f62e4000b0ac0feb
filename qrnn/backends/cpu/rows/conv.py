"""Convolutions by the dot products of the fused steps: the loops around them are templates, as in `qrnn.backends.cpu.fused`.

The operands of the steps that windows read are encoded into a history, one row for each step, with zeros for the padding of bands. A position
is the address of the first operand that a vector of a product reads there. `AHEAD` of them are multiplied at once, of whatever sequences.
Operands are multiplied where they lie (`qrnn.backends.cpu.conv_products`), or put together in vectors for the products that need them in order.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from qrnn.arithmetic.fixedpoint import to_operand
from qrnn.backends.cpu import matrix, operands
from qrnn.backends.cpu.block_sizes import AMX_LEAST
from qrnn.backends.cpu.conv_products import Placed, by_channels, emit_placed
from qrnn.backends.cpu.isa import Isa, isa_named
from qrnn.backends.cpu.jit import emitted, jit, renamed
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.windows import slot_of, wait_after, windows_in
from qrnn.backends.cpu.steps import KernelVariant
from qrnn.backends.cpu.templates import configure, encode_vectors, input_product, release, shared_parts


def narrow(values: Any, count: int) -> None:
    """Run what `operands.emit_narrow` emits."""
    raise NotImplementedError


def gather(values: Any, count: int) -> None:
    """Run what `operands.emit_gather` emits."""
    raise NotImplementedError


def scatter(values: Any, count: int) -> None:
    """Run what `operands.emit_scatter` emits."""
    raise NotImplementedError


def placed_product(values: Any, count: int, blocks: int) -> None:
    """Run what `conv_products.emit_placed` emits."""
    raise NotImplementedError


def encode_steps(values: Any, count: int, lines: int, line_bytes: int) -> None:
    """Encode ``count`` steps of so many lines, each ``line_bytes`` behind the one before it; see `blocks.emit_encode`."""
    source, step, features, tail, to, row, shift, limit, part_groups, byte_parts = values
    if lines == 1:
        encode_vectors(values, count)
        return
    columns = features // lines
    for k in range(count):
        own = (
            source + k * step,
            2 * columns,
            columns,
            tail,
            to + k * row,
            line_bytes,
            shift,
            limit,
            part_groups,
            byte_parts,
        )
        encode_vectors(own, lines)


def place_products(
    at: int, to: int, step: Any, positions: Any, filled: int, packed: Any, product: Any, scratch: Any
) -> int:
    """Add the positions of a window's products, and multiply wherever `AHEAD` of them are there; return how many are left to multiply.

    ``at`` and ``to`` are the addresses of the window in the history, and of its step of the output.
    """
    pieces, piece_step, piece_features, piece_rows, last_rows, _, _, _, _, line_places, line_step, line_features = step
    for line in range(line_places):
        for piece in range(pieces):
            positions[0, filled] = at + line * line_step + piece * piece_step
            positions[1, filled] = to + 2 * (line * line_features + piece * piece_features)
            positions[2, filled] = piece_rows if piece + 1 < pieces else last_rows
            filled += 1
            if filled == AHEAD:
                multiply(filled, packed, product, scratch)
                filled = 0
    return filled


def multiply(filled: int, packed: Any, product: Any, scratch: Any) -> None:
    """Multiply the first ``filled`` positions, and write their outputs."""
    if filled == 0:
        return
    _, vectors, results, positions, _, _, sums, _ = scratch
    weights, params, groups, byte_parts = packed
    places, size, _, chunks, chunk_step, chunk_rows = product
    blocks, of_results, row = params.shape[0] // chunks, 2 * results.shape[1], vectors.shape[1]
    out_block = of_results // blocks
    for chunk in range(chunks):
        segments = (address(places), places.shape[0], size)
        gather((address(positions), chunk * chunk_step, address(vectors), row, *segments), filled)
        first = chunk * blocks
        made = (
            address(weights), address(params), address(vectors), row, address(results) - first * out_block, of_results, out_block, groups,
            byte_parts, address(sums),
        )  # fmt: skip
        input_product(made, filled, first, first + blocks)
        to = (address(positions[1]), address(positions[2]), 2 * chunk * chunk_rows)
        scatter((*to, address(results), of_results), filled)


def multiply_placed(filled: int, packed: Any, product: Any, scratch: Any) -> None:
    """Do what `multiply` does, with operands read where they lie."""
    if filled == 0:
        return
    _, _, results, positions, _, _, _, _ = scratch
    weights, params, groups, _ = packed
    places, _, part, chunks, chunk_step, chunk_rows = product
    blocks = params.shape[0] // chunks
    for chunk in range(chunks):
        made = (
            address(weights), address(params), groups, address(positions), address(positions[1]), address(positions[2]), chunk * chunk_step,
            2 * chunk * chunk_rows, address(places), places.shape[0], part, address(results), chunk * blocks,
        )  # fmt: skip
        placed_product(made, filled, blocks)


def convolve(
    place: Any, share: Any, past_end: int, packed: Any, formats: Any, time: Any, step: Any, product: Any, lengths: Any,
    _out_lengths: Any, x: Any, out: Any, past: Any, at: Any, wait: Any, scratch: Any,
) -> None:  # fmt: skip
    """Compute the outputs of sequences place[`FIRST`] … place[`LAST`] - 1; states stay as they are.

    ``share`` (me, of) says which part of them is computed. packed: `packed.PackedMatrix`; formats (shift, limit) of the operand; time (taps,
    stride, dilation); step, product: `qrnn.backends.cpu.kinds.conv.StepPlan`, `ProductPlan`; x [N, T, F] int16, of each sequence lengths[n]
    steps and then ``past_end`` of zeros; out [N, T', F'] int16; past, at, wait: the state; scratch:
    `qrnn.backends.cpu.kinds.conv.ConvScratch`.
    """
    history, _, _, positions, tails, zeros, _, config = scratch
    (me, of), (_, stride, _), (shift, limit) = share, time, formats
    front, part_groups, lines, line_bytes = step[5:9]
    F, span, most, row = x.shape[2], past.shape[1], history.shape[0], history.shape[1]
    begin, tail = address(history) + front, address(tails)
    used, filled = 0, 0
    configure(address(config))
    for n in range(place[FIRST], place[LAST]):
        length, first_wait = lengths[n], wait[n, 0]
        count = min(out.shape[1], windows_in(length + past_end, first_wait, stride))
        window, last = count * me // of, count * (me + 1) // of
        while window < last:
            # As many windows are taken as the history has room for. The history begins anew where that is for few of them.
            if used + span + (min(last - window, 16) - 1) * stride > most and used > 0:
                multiply(filled, packed, product, scratch)
                used, filled = 0, 0
            many = min(last - window, (most - used - span) // stride + 1)
            oldest = first_wait + window * stride - (span - 1)
            newest = oldest + (many - 1) * stride + span
            here = begin + used * row
            for r in range(oldest, min(0, newest)):
                slot = at[n, 0] + r
                if slot < 0:
                    slot += span
                to = here + (r - oldest) * row
                source = address(past) + 2 * F * (n * span + slot)
                encode_steps((source, 2 * F, F, tail, to, row, 0, limit, part_groups, packed[3]), 1, lines, line_bytes)
            first, end = max(0, oldest), min(length, newest)
            if first < end:
                to, source = here + (first - oldest) * row, address(x) + n * x.strides[0] + first * x.strides[1]
                own = (source, 2 * F, F, tail, to, row, shift, limit, part_groups, packed[3])
                encode_steps(own, end - first, lines, line_bytes)
            for r in range(max(length, oldest), newest):
                to = here + (r - oldest) * row
                own = (address(zeros), 2 * F, F, tail, to, row, 0, limit, part_groups, packed[3])
                encode_steps(own, 1, lines, line_bytes)
            for k in range(many):
                from_row = address(history) + (used + k * stride) * row
                to_row = address(out) + n * out.strides[0] + (window + k) * out.strides[1]
                filled = place_products(from_row, to_row, step, positions, filled, packed, product, scratch)
            used += newest - oldest
            window += many
    multiply(filled, packed, product, scratch)
    release(0)


def step_streams(
    before: Any, after: Any, packed: Any, formats: Any, time: Any, step: Any, product: Any, x: Any, out: Any, past: Any, at: Any, wait: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Compute one step of the streams of the flow ``before``. Those that give a row of the output are the flow ``after``.

    Of the stream with the state in row rows[k], the input is x[k] [F]. The outputs are rows of out [streams, F'] one after the other. The
    other arguments are as for `convolve`.
    """
    history, _, _, positions, tails, _, _, config = scratch
    place, rows, origins = before
    after_place, after_rows, after_origins = after
    (taps, stride, dilation), (shift, limit) = time, formats
    front, part_groups, lines, line_bytes = step[5:9]
    F, span, most, row = x.shape[1], past.shape[1], history.shape[0], history.shape[1]
    begin, tail = address(history) + front, address(tails)
    used, filled, given = 0, 0, place[FIRST]
    together = (place[LAST] - place[FIRST]) * step[0] * step[9] >= AMX_LEAST
    if together:
        configure(address(config))
    for k in range(place[FIRST], place[LAST]):
        n = rows[k]
        ring = address(past) + 2 * F * span * n
        narrow((address(x) + k * x.strides[0], ring + 2 * F * at[n, 0], F, tail + tails.strides[0], shift, limit), 1)
        oldest = at[n, 0] + 1
        if oldest == span:
            oldest = 0
        at[n, 0] = oldest
        if wait[n, 0] > 0:
            wait[n, 0] -= 1
            continue
        wait[n, 0] = stride - 1
        if used + taps > most:
            multiply(filled, packed, product, scratch)
            used, filled = 0, 0
        for tap in range(taps):
            slot = oldest + tap * dilation
            if slot >= span:
                slot -= span
            to = begin + (used + tap) * row
            own = (ring + 2 * F * slot, 2 * F, F, tail, to, row, 0, limit, part_groups, packed[3])
            encode_steps(own, 1, lines, line_bytes)
        from_row, to_row = address(history) + used * row, address(out) + given * out.strides[0]
        filled = place_products(from_row, to_row, step, positions, filled, packed, product, scratch)
        used += taps
        after_rows[given], after_origins[given] = n, origins[k]
        given += 1
    after_place[FIRST], after_place[LAST] = place[FIRST], given
    multiply(filled, packed, product, scratch)
    if together:
        release(0)


@jit
def advance(
    place: Any,
    past_end: int,
    formats: Any,
    stride: int,
    lengths: Any,
    out_lengths: Any,
    x: Any,
    _out: Any,
    past: Any,
    at: Any,
    wait: Any,
) -> None:
    """Compute the state after all steps of sequences place[`FIRST`] … place[`LAST`] - 1.

    Their outputs were computed from the state before.
    """
    shift, limit = formats
    span = past.shape[1]
    for n in range(place[FIRST], place[LAST]):
        total = lengths[n] + past_end
        for step in range(max(0, total - span), total):
            row = past[n, slot_of(at, n, step, span)]
            for k in range(row.shape[0]):
                row[k] = to_operand(x[n, step, k], shift, limit) if step < lengths[n] else 0
        at[n, 0] = slot_of(at, n, total, span)
        out_lengths[n] = windows_in(total, wait[n, 0], stride)
        wait[n, 0] = wait_after(total, wait[n, 0], stride)


def _emit_product(isa: Isa, parts: int, builder: Any, values: Any, vectors: Any, first: Any, last: Any) -> None:
    matrix.emit_product(builder, isa, parts, values, vectors, first, last, variant=KernelVariant(), dense=True)


def _emit_placed(isa: Isa, how: Placed, builder: Any, values: Any, vectors: Any, blocks: Any) -> None:
    emit_placed(builder, isa, how, values, vectors, blocks)


@cache
def compiled(template: str, isa_name: str, parts: int, placed: Placed | None) -> Any:
    """Return `convolve` or `step_streams` for an instruction set, with so many blocks of rows that are multiplied together.

    Operands are read where they lie as ``placed`` says, or put together.
    """
    isa = isa_named(isa_name)
    if placed is not None and placed.own:
        isa = by_channels(isa)
    space = globals() | shared_parts(isa)
    space["narrow"] = emitted(lambda b, *a: operands.emit_narrow(b, isa, *a), 2)
    product = multiply
    if placed is None:
        space["input_product"] = emitted(partial(_emit_product, isa, parts), 4)
        space |= {"gather": emitted(operands.emit_gather, 2), "scatter": emitted(operands.emit_scatter, 2)}
    else:
        space["placed_product"] = emitted(partial(_emit_placed, isa, placed), 3)
        product = multiply_placed
    mark = f"{isa_name}_{parts if placed is None else placed.name}"
    space["multiply"] = jit(renamed(product, f"conv_multiply_{mark}", space))
    for part in (encode_steps, place_products):
        space[part.__name__] = jit(renamed(part, f"conv_{part.__name__}_{mark}", space))
    return jit(renamed(globals()[template], f"conv_{template}_{mark}", space))
