"""Whole sequences by fused steps: the loops around `qrnn.backends.cpu.blocks`, compiled once for each cell and instruction set.

`run` goes through one sequence after the other; a gang of ``threads`` may share it, each with blocks of hidden units of its own, meeting once
a step. `run_group` takes up to `VECTORS` sequences a step further at once. Both are templates: the functions that raise
NotImplementedError here are put in place by `compiled`.

Every other step goes through the blocks in the opposite order: of weights that are a little larger than a cache, most then stay in it, where
the same order would evict each block just before it is needed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qrnn.arithmetic.fixedpoint import to_operand
from qrnn.backends.cpu import blocks, matrix
from qrnn.backends.cpu.barrier import wait_for_all
from qrnn.backends.cpu.isa import ISAS
from qrnn.backends.cpu.jit import jit, jit_entry, renamed
from qrnn.backends.cpu.matrix import VECTORS

AHEAD = 64
"""Steps whose input products are computed ahead in one go, of a sequence alone; of a group `VECTORS`."""


@intrinsic
def address(_context: Any, array: Any) -> Any:
    """The address of an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), codegen


def _emitted(emit: Callable[..., None], arity: int) -> Any:
    """``emit(builder, *arguments)`` as a function for compiled code; arguments that are tuples arrive as lists of values."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        unpacked = [
            cgutils.unpack_tuple(builder, a) if isinstance(kind, types.BaseTuple) else a
            for kind, a in zip(signature.args, args, strict=True)
        ]
        emit(builder, *unpacked)
        return context.get_dummy_value()

    if arity == 1:
        return intrinsic(lambda _context, a: (types.void(a), codegen))
    if arity == 2:
        return intrinsic(lambda _context, a, b: (types.void(a, b), codegen))
    if arity == 4:
        return intrinsic(lambda _context, a, b, c, d: (types.void(a, b, c, d), codegen))
    return intrinsic(lambda _context, a, b, c, d, e: (types.void(a, b, c, d, e), codegen))


@jit
def encode(x: Any, first: int, shift: int, limit: int, out: Any, words: bool, planes: int, offset: int) -> None:
    """Operands of x [K] int16, from ``first`` on, as the instruction set reads them, into out (bytes); see `Isa`. Padding stays as it is."""
    plane = out.shape[0] // planes
    for k in range(first, x.shape[0]):
        value = to_operand(x[k], shift, limit)
        if words:
            out[2 * k] = np.uint8(value & 255)
            out[2 * k + 1] = np.uint8((value >> 8) & 255)
        elif planes == 1:
            out[k] = np.uint8((value + offset) & 255)
        else:
            out[k] = np.uint8(((value >> 8) + offset) & 255)
            out[plane + k] = np.uint8(value & 255)


def step_blocks(values: Any, first: int, last: int, back: int) -> None:
    """`blocks.emit_step` of the first phase."""
    raise NotImplementedError


def second_phase(values: Any, first: int, last: int, back: int) -> None:
    """`blocks.emit_step` of the second phase of a GRU with linear_before_reset = 0."""
    raise NotImplementedError


def group_step(values: Any, strides: Any, sums: int, active: int, last: int) -> None:
    """`matrix.emit_group_step` of the first phase."""
    raise NotImplementedError


def group_second_phase(values: Any, strides: Any, sums: int, active: int, last: int) -> None:
    """`matrix.emit_group_step` of the second."""
    raise NotImplementedError


def encode_blocks(values: Any, count: int) -> None:
    """`blocks.emit_encode`."""
    raise NotImplementedError


def input_product(values: Any, vectors: int, first: int, last: int) -> None:
    """`matrix.emit_product`."""
    raise NotImplementedError


def configure(config: int) -> None:
    """`matrix.emit_configure`."""
    raise NotImplementedError


def release(config: int) -> None:
    """`matrix.emit_release`."""
    raise NotImplementedError


def encode_steps(
    x: Any, length: int, step: int, count: int, reverse: bool, coding: Any, formats: Any, groups: int, planes: int, out: Any
) -> None:  # fmt: skip
    """The operands of ``count`` steps of x [T, I] from ``step`` on, in the order of processing, into the rows of ``out``."""
    words, offset, lanes = coding
    whole = x.shape[1] // lanes
    for ahead in range(count):
        t = length - 1 - step - ahead if reverse else step + ahead
        encode_blocks((address(x[t]), address(out[ahead]), formats[2], formats[3], groups, planes), whole)
        if whole * lanes < x.shape[1]:
            encode(x[t], whole * lanes, formats[2], formats[3], out[ahead], words, planes, offset)


TWO_PHASES = False
"""Whether a step has a second phase."""


def run(
    reverse: bool, coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, x: Any, lengths: Any, h: Any, c: Any, y: Any,
    scratch: Any, place: Any,
) -> None:  # fmt: skip
    """Sequences place[0] … place[1] - 1 of one direction, as thread place[2] of place[3].

    coding (words, offset, lanes); ih, hh (weights, params, groups, planes); functions, formats: packed; x [N, T, I] int16; h [N, H],
    c [N, H or 0] replaced by the final states; y [N, T, H]; scratch: `qrnn.backends.cpu.packed.scratch`.
    """
    n0, n1, me, threads = place
    operands, reset, z, h_now, c_now, xs, x_operands, sums, config, flags = scratch
    words, offset, lanes = coding
    hh_weights, hh_params, groups, planes = hh
    H, last = h.shape[1], h_now.shape[0] // lanes
    first_block, last_block = me * last // threads, (me + 1) * last // threads
    u0, u1 = first_block * lanes, min(last_block * lanes, H)
    own_xs, own_operands = xs[me], x_operands[me]
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    places = (address(reset), address(z))
    product = (
        address(ih[0]), address(ih[1]), address(own_operands), own_operands.shape[1], address(own_xs), 4 * own_xs.shape[1],
        ih[2], ih[3], address(sums[me]),
    )  # fmt: skip
    epoch = 0
    configure(address(config))
    for n in range(n0, n1):
        length = lengths[n]
        if me == 0:
            h_now[:H] = h[n]
            encode(h[n], 0, formats[0], formats[1], operands[0], words, planes, offset)
            for u in range(c.shape[1]):
                c_now[u] = c[n, u]
        now, following = address(operands[0]), address(operands[1])
        epoch += 1
        wait_for_all(flags, me, threads, epoch)
        for step in range(length):
            slot = step % AHEAD
            if slot == 0:
                count = min(AHEAD, length - step)
                encode_steps(x[n], length, step, count, reverse, coding, formats, ih[2], ih[3], own_operands)
                input_product(product, count, first_block, last_block)
            states = (address(own_xs[slot]), address(h_now), address(c_now), groups, planes)
            step_blocks((*fixed, now, following, *places, *states), first_block, last_block, step & 1)
            if TWO_PHASES:
                epoch += 1
                wait_for_all(flags, me, threads, epoch)
                second_phase((*fixed, places[0], following, *places, *states), first_block, last_block, step & 1)
            t = length - 1 - step if reverse else step
            y[n, t, u0:u1] = h_now[u0:u1]
            now, following = following, now
            epoch += 1
            wait_for_all(flags, me, threads, epoch)
        if me == 0:
            h[n] = h_now[:H]
            for u in range(c.shape[1]):
                c[n, u] = c_now[u]
    release(0)


def run_group(
    reverse: bool, coding: Any, ih: Any, hh: Any, functions: Any, formats: Any, x: Any, lengths: Any, h: Any, c: Any, y: Any,
    scratch: Any, place: Any,
) -> None:  # fmt: skip
    """Sequences place[0] … place[1] - 1, `VECTORS` at a time in lockstep, the longest first: those that still run are the first ``active``.

    Arguments as for `run`; scratch: `qrnn.backends.cpu.packed.group_scratch`.
    """
    n0, n1, _, _ = place
    operands, reset, z, h_now, c_now, xs, x_operands, sums, config, order = scratch
    words, offset, lanes = coding
    hh_weights, hh_params, groups, planes = hh
    H, last = h.shape[1], h_now.shape[1] // lanes
    fixed = (address(hh_weights), address(hh_params), address(functions), address(formats))
    places = (address(reset), address(z))
    states = (address(h_now), address(c_now), groups, planes)
    row = operands.shape[2]
    strides = (row, row, row, 4 * z.shape[1], 4 * xs.shape[1] * xs.shape[2], 2 * h_now.shape[1], 4 * c_now.shape[1])
    configure(address(config))
    for g0 in range(n0, n1, VECTORS):
        active = min(VECTORS, n1 - g0)
        for k in range(active):  # by falling length: insertion sort
            at = k
            while at > 0 and lengths[order[at - 1]] < lengths[g0 + k]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = g0 + k
        for k in range(active):
            n = order[k]
            h_now[k, :H] = h[n]
            encode(h[n], 0, formats[0], formats[1], operands[0, k], words, planes, offset)
            for u in range(c.shape[1]):
                c_now[k, u] = c[n, u]
        count = active
        now, following = address(operands[0]), address(operands[1])
        for step in range(lengths[order[0]]):
            while lengths[order[active - 1]] <= step:
                active -= 1
            slot = step % VECTORS
            if slot == 0:
                for k in range(active):
                    n = order[k]
                    ahead = min(VECTORS, lengths[n] - step)
                    encode_steps(x[n], lengths[n], step, ahead, reverse, coding, formats, ih[2], ih[3], x_operands)
                    product = (
                        address(ih[0]), address(ih[1]), address(x_operands), x_operands.shape[1], address(xs[k]), 4 * xs.shape[2],
                        ih[2], ih[3], address(sums),
                    )  # fmt: skip
                    input_product(product, ahead, 0, last)
            at_step = address(xs[0, slot])
            group_step((*fixed, now, following, *places, at_step, *states), strides, address(sums), active, last)
            if TWO_PHASES:
                again = (*fixed, places[0], following, *places, at_step, *states)
                group_second_phase(again, strides, address(sums), active, last)
            for k in range(active):
                n = order[k]
                y[n, lengths[n] - 1 - step if reverse else step] = h_now[k, :H]
            now, following = following, now
        for k in range(count):
            n = order[k]
            h[n] = h_now[k, :H]
            for u in range(c.shape[1]):
                c[n, u] = c_now[k, u]
    release(0)


CELLS = {
    ("lstm", False): ("lstm",),
    ("lstm", True): ("lstm",),
    ("gru", True): ("gru_reset_after",),
    ("gru", False): ("gru_reset_before_r", "gru_reset_before_n"),
    ("rnn", False): ("rnn",),
    ("rnn", True): ("rnn",),
}
"""(cell, linear_before_reset) → the phases of a step."""


@cache
def compiled(
    template: str, isa_name: str, cell: str, linear_before_reset: bool, simple: bool, bits: tuple[int, int]
) -> Any:
    """`run` or `run_group` for one cell and instruction set: the same code, with the emitted functions put in place.

    ``simple``: see `qrnn.backends.cpu.packed.is_simple`; ``bits``: of the packed weights of the inputs and of h.
    """
    isa = next(i for i in ISAS if i.name == isa_name)
    phases = CELLS[cell, linear_before_reset]
    first, second = phases[0], phases[-1]
    space = dict(globals())
    space["step_blocks"] = _emitted(lambda b, *a: blocks.emit_step(b, isa, first, simple, bits[1], *a), 4)
    space["second_phase"] = _emitted(lambda b, *a: blocks.emit_step(b, isa, second, simple, bits[1], *a), 4)
    space["group_step"] = _emitted(lambda b, *a: matrix.emit_group_step(b, isa, first, simple, bits[1], *a), 5)
    space["group_second_phase"] = _emitted(lambda b, *a: matrix.emit_group_step(b, isa, second, simple, bits[1], *a), 5)
    space["encode_blocks"] = _emitted(lambda b, *a: blocks.emit_encode(b, isa, *a), 2)
    gates = blocks.PHASES[first].gates
    space["input_product"] = _emitted(lambda b, *a: matrix.emit_product(b, isa, gates, bits[0], *a), 4)
    space["configure"] = _emitted(lambda b, config: matrix.emit_configure(b, isa, config), 1)
    space["release"] = _emitted(lambda b, _: matrix.emit_release(b, isa), 1)
    space["TWO_PHASES"] = len(phases) == 2
    space["encode_steps"] = jit(renamed(encode_steps, f"encode_steps_{isa_name}", space))
    name = f"{template}_{first}_{isa_name}_{'simple' if simple else 'general'}_{bits[0]}{bits[1]}"
    return jit_entry(renamed(globals()[template], name, space))
