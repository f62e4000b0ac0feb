"""Max pools: the largest over the taps of a window in time, row by row, then over those of a window over lines, and over bands.

Rows are read where they lie: those of a call's own steps in x, and earlier ones in the ring of past steps.
"""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.isa import copy_int16
from qrnn.backends.cpu.jit import emitted, jit
from qrnn.backends.cpu.largest import emit_largest, emit_zeros
from qrnn.backends.cpu.memory import address
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.copying import copy_row
from qrnn.backends.cpu.rows.windows import slot_of, wait_after, windows_in

largest = emitted(emit_largest, 1)
"""largest(values): `emit_largest`."""

copy_units = emitted(lambda b, values: copy_int16(b, *values), 1)
"""copy_units((to, at, count)): `copy_int16`."""

zero_units = emitted(emit_zeros, 1)
"""zero_units((to, count)): `emit_zeros`."""


@jit
def passes(axis: Any) -> bool:
    """Return whether every band, or line, is a place of the output alone; ``axis`` is as for `pool_bands`."""
    count, taps, stride, _, before, places = axis
    return bool(count == places and taps == 1 and stride == 1 and before == 0)


@jit
def pool_bands(bands: Any, channels: int, at: int, to: int) -> None:
    """Write the largest values over bands of the step at an address; bands: `qrnn.model.windowed.QuantWindowed.band_numbers`."""
    count, taps, stride, dilation, before, places = bands
    row = 2 * channels
    # The taps of these places are all inside of the bands.
    first = min(places, (before + stride - 1) // stride)
    reach = count - 1 - (taps - 1) * dilation + before
    last = max(first, min(places, reach // stride + 1)) if reach >= 0 else first
    if first < last:
        largest(
            (
                at + (first * stride - before) * row,
                to + first * row,
                channels,
                last - first,
                stride * row,
                taps,
                dilation * row,
            )
        )
    for k in range(places - (last - first)):
        place = k if k < first else k + last - first
        begin = place * stride - before
        b0 = (-begin + dilation - 1) // dilation if begin < 0 else 0
        b1 = min(taps, (count - 1 - begin) // dilation + 1) if count - 1 >= begin else 0
        if b0 < b1:
            largest((at + (begin + b0 * dilation) * row, to + place * row, channels, 1, row, b1 - b0, dilation * row))
        else:
            zero_units((to + place * row, channels))


@jit
def pool_lines(bands: Any, lines: Any, channels: int, at: int, to: int, of_line: Any) -> None:
    """Write the largest values over lines and bands of the step at an address; ``lines`` is as ``bands``, ``of_line`` room for a line."""
    count, taps, stride, dilation, before, places = lines
    if count == 1 and taps == 1 and places == 1:
        pool_bands(bands, channels, at, to)
        return
    features, own = bands[0] * channels, bands[5] * channels
    row = 2 * features
    for place in range(places):
        begin = place * stride - before
        first = (-begin + dilation - 1) // dilation if begin < 0 else 0
        last = min(taps, (count - 1 - begin) // dilation + 1) if count - 1 >= begin else 0
        if first < last:
            source = at + (begin + first * dilation) * row
            if last - first > 1:
                largest((source, address(of_line), features, 1, row, last - first, dilation * row))
                source = address(of_line)
            pool_bands(bands, channels, source, to + 2 * place * own)
        else:
            zero_units((to + 2 * place * own, own))


@jit
def pool(
    place: Any, share: Any, past_end: int, time: Any, bands: Any, lines: Any, lengths: Any, _out_lengths: Any, x: Any, out: Any, past: Any,
    real: Any, at: Any, wait: Any, scratch: Any, of_line: Any,
) -> None:  # fmt: skip
    """Compute the outputs of sequences place[`FIRST`] … place[`LAST`] - 1; states stay as they are.

    ``share`` (me, of) says which part of them is computed. time (taps, stride, dilation); arrays as for
    `qrnn.backends.cpu.rows.conv.convolve`, with ``real`` [N, span], 1 for the slots of the ring that hold steps; scratch [F] int16; of_line as
    for `pool_lines`.
    """
    me, of = share
    taps, stride, dilation = time
    F, span, channels = x.shape[2], past.shape[1], x.shape[2] // (lines[0] * bands[0])
    row, alone = 2 * F, passes(bands) and passes(lines)
    for n in range(place[FIRST], place[LAST]):
        length, first_wait = lengths[n], wait[n, 0]
        count = min(out.shape[1], windows_in(length + past_end, first_wait, stride))
        begin, end = count * me // of, count * (me + 1) // of
        # The taps of these windows are all steps of x. One call takes them where nothing but time is pooled.
        inner = max(begin, (span - 1 - first_wait + stride - 1) // stride)
        outer = min(end, (length - 1 - first_wait) // stride + 1) if alone else inner
        if inner < outer:
            source = address(x) + n * x.strides[0] + (first_wait + inner * stride - (span - 1)) * row
            to = address(out) + n * out.strides[0] + inner * out.strides[1]
            largest((source, to, F, outer - inner, stride * row, taps, dilation * row))
        for number in range(end - begin - max(0, outer - inner)):
            window = begin + number if begin + number < inner else begin + number + max(0, outer - inner)
            oldest = first_wait + window * stride - (span - 1)
            # The taps from t0 on, up to t1, are steps of x.
            t0 = min(taps, (-oldest + dilation - 1) // dilation) if oldest < 0 else 0
            t1 = max(t0, min(taps, (length - 1 - oldest) // dilation + 1) if length - 1 >= oldest else 0)
            source = address(x) + n * x.strides[0] + (oldest + t0 * dilation) * row
            found = t0 < t1
            if t1 - t0 > 1:
                largest((source, address(scratch), F, 1, row, t1 - t0, dilation * row))
                source = address(scratch)
            for tap in range(t0):
                slot = slot_of(at, n, oldest + tap * dilation, span)
                if real[n, slot] > 0:
                    source = with_row(found, source, address(past) + (n * span + slot) * row, scratch)
                    found = True
            write_place(
                found,
                bands,
                lines,
                channels,
                source,
                address(out) + n * out.strides[0] + window * out.strides[1],
                out.shape[2],
                of_line,
            )


@jit
def with_row(found: bool, source: int, row: int, scratch: Any) -> Any:
    """Return the address of the largest values of the row ``source``, where there is one (``found``), and of another."""
    if not found:
        return row
    F = scratch.shape[0]
    if source != address(scratch):
        copy_units((address(scratch), source, F))
    largest((address(scratch), address(scratch), F, 1, 0, 2, row - address(scratch)))
    return address(scratch)


@jit
def write_place(
    found: bool, bands: Any, lines: Any, channels: int, source: int, to: int, features: int, of_line: Any
) -> None:
    """Write a step of the output from the largest values over time, or zeros where no step was ``found``."""
    if found:
        pool_lines(bands, lines, channels, source, to, of_line)
    else:
        zero_units((to, features))


@jit
def step_streams(
    before: Any,
    after: Any,
    time: Any,
    bands: Any,
    lines: Any,
    x: Any,
    out: Any,
    past: Any,
    real: Any,
    at: Any,
    wait: Any,
    scratch: Any,
    of_line: Any,
) -> None:
    """Compute one step of the streams of the flow ``before``. Those that give a row of the output are the flow ``after``.

    Of the stream with the state in row rows[k], the input is x[k] [F]. The outputs are rows of out one after the other.
    """
    place, rows, origins = before
    after_place, after_rows, after_origins = after
    taps, stride, dilation = time
    F, span, channels = x.shape[1], past.shape[1], x.shape[1] // (lines[0] * bands[0])
    row, given = 2 * F, place[FIRST]
    for k in range(place[FIRST], place[LAST]):
        n = rows[k]
        ring, newest = address(past) + n * span * row, at[n, 0]
        copy_units((ring + newest * row, address(x) + k * row, F))
        real[n, newest] = 1
        oldest = newest + 1
        if oldest == span:
            oldest = 0
        at[n, 0] = oldest
        if wait[n, 0] > 0:
            wait[n, 0] -= 1
            continue
        wait[n, 0] = stride - 1
        source, found = ring + newest * row, True
        for tap in range(taps - 1):
            slot = slot_of(at, n, tap * dilation, span)
            if real[n, slot] > 0:
                source = with_row(found, source, ring + slot * row, scratch)
        write_place(found, bands, lines, channels, source, address(out) + given * out.strides[0], out.shape[1], of_line)
        after_rows[given], after_origins[given] = n, origins[k]
        given += 1
    after_place[FIRST], after_place[LAST] = place[FIRST], given


@jit
def advance(
    place: Any,
    past_end: int,
    stride: int,
    lengths: Any,
    out_lengths: Any,
    x: Any,
    _out: Any,
    past: Any,
    real: Any,
    at: Any,
    wait: Any,
) -> None:
    """Compute the state after all steps of sequences place[`FIRST`] … place[`LAST`] - 1.

    Steps past the end leave what the ring holds, as no step.
    """
    span = past.shape[1]
    for n in range(place[FIRST], place[LAST]):
        length = lengths[n]
        total = length + past_end
        for step in range(max(0, length - span), length):
            slot = slot_of(at, n, step, span)
            copy_row(past[n, slot], x[n, step])
            real[n, slot] = 1
        for step in range(max(length, total - span), total):
            real[n, slot_of(at, n, step, span)] = 0
        at[n, 0] = slot_of(at, n, total, span)
        out_lengths[n] = windows_in(total, wait[n, 0], stride)
        wait[n, 0] = wait_after(total, wait[n, 0], stride)
