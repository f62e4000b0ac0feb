"""Products of many operand vectors at once: the inputs of several steps, and the states of several sequences in one step.

Up to `VECTORS` vectors share each load of the weights: by AMX tiles where the processor has them, else `TILE` at a time in registers.
AMX reads the weights as the vector instructions do: a tile is 16 groups of one gate's rows, ``count`` gates apart. Weights of four bits
go through registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from qrnn.backends.cpu.blocks import PHASES, ROW_PARAMS, STEP_ARGS, Step, const, panel
from qrnn.backends.cpu.isa import Isa, load, store
from qrnn.backends.cpu.vector import vector_type

VECTORS = 16
"""Operand vectors of one `accumulate`: the rows of an AMX tile."""

TILE = 4
"""Operand vectors that share one load of the weights in registers: with four gates, half of AVX-512's."""

AMX_GROUPS = 16
"""Groups of four columns in a tile of operands."""

_I8 = ir.IntType(8)
_OPERANDS, _WEIGHTS = 4, 5
"""Tile registers; 0 to 3 are accumulators, 5 to 7 weights."""


def _amx(builder: Any, name: str, *arguments: Any) -> None:
    kinds = [a.type for a in arguments]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kinds), f"llvm.x86.{name}")
    builder.call(function, list(arguments))


def emit_configure(builder: Any, isa: Isa, config: Any) -> None:
    """Before any product of a thread: the tiles' shapes, from the 64 bytes at ``config`` (`tile_config`)."""
    if isa.amx:
        _amx(builder, "ldtilecfg", builder.inttoptr(config, _I8.as_pointer()))


def emit_release(builder: Any, isa: Isa) -> None:
    """After the last one."""
    if isa.amx:
        _amx(builder, "tilerelease")


def tile_config() -> list[int]:
    """64 bytes: palette 1, eight tiles of 16 rows of 64 bytes (Intel SDM, LDTILECFG)."""
    return [1] + [0] * 15 + [64, 0] * 8 + [0] * 16 + [16] * 8 + [0] * 8


def accumulate(step: Step, weights: Any, operands: Any, stride: Any, count: int, out: Any, vectors: Any) -> None:
    """Sums of ``count`` gates' rows of one block for ``vectors`` operand vectors, ``stride`` bytes apart, to int32 at ``out``.

    Of vector v, gate g: ``lanes`` values at out + 4 · lanes · (v · count + g). Sums of up to `VECTORS` vectors may be written.
    A vector alone shares nothing, and is multiplied as in a step.
    """
    b = step.builder
    with b.if_else(b.icmp_signed("==", vectors, const(1))) as (alone, together):
        with alone:
            _by_registers(1, step, weights, operands, stride, count, out, vectors)
        with together:
            _together(step, weights, operands, stride, count, out, vectors)


def _together(step: Step, weights: Any, operands: Any, stride: Any, count: int, out: Any, vectors: Any) -> None:
    """By tiles where the processor and the weights allow it."""
    b = step.builder
    if not step.isa.amx or step.panels.bits != 8:
        _by_registers(TILE, step, weights, operands, stride, count, out, vectors)
        return
    whole = b.icmp_signed("==", b.and_(step.args["groups"], const(AMX_GROUPS - 1)), const(0))
    bytes_only = b.icmp_signed("==", step.args["planes"], const(1))
    with b.if_else(b.and_(whole, bytes_only)) as (tiles, registers):
        with tiles:
            _by_tiles(step, weights, operands, stride, count, out)
        with registers:
            _by_registers(TILE, step, weights, operands, stride, count, out, vectors)


def _by_registers(
    size: int, step: Step, weights: Any, operands: Any, stride: Any, count: int, out: Any, vectors: Any
) -> None:
    """``size`` vectors at a time."""
    b, args, row_bytes = step.builder, step.args, 4 * step.isa.lanes
    tiles = b.sdiv(b.add(vectors, const(size - 1)), const(size))
    with cgutils.for_range_slice(b, const(0), tiles, const(1)) as (tile, _):
        rows = [b.add(b.mul(tile, const(size)), const(k)) for k in range(size)]
        addresses = [b.add(operands, b.mul(row, stride)) for row in rows]
        for row, accs in zip(rows, step.dots(weights, addresses, args["groups"], count, args["planes"]), strict=True):
            for gate, acc in enumerate(accs):
                store(b, acc, b.add(b.add(out, b.mul(row, const(row_bytes * count))), const(row_bytes * gate)))


def _by_tiles(step: Step, weights: Any, operands: Any, stride: Any, count: int, out: Any) -> None:
    """tdpbusd: unsigned operand bytes times signed weights, as in the vector instructions."""
    b = step.builder

    def pointer(address: Any) -> Any:
        return b.inttoptr(address, _I8.as_pointer())

    def tile(number: int) -> Any:
        return ir.Constant(_I8, number)

    for gate in range(count):
        _amx(b, "tilezero", tile(gate))
    steps = b.sdiv(step.args["groups"], const(AMX_GROUPS))
    with cgutils.for_range_slice(b, const(0), steps, const(1)) as (k, _):
        _amx(b, "tileloadd64", tile(_OPERANDS), pointer(b.add(operands, b.mul(k, const(64)))), stride)
        part = b.add(weights, b.mul(k, const(64 * AMX_GROUPS * count)))
        for gate in range(count):
            register = tile(_WEIGHTS + gate % 3)
            _amx(b, "tileloadd64", register, pointer(b.add(part, const(64 * gate))), const(64 * count))
            _amx(b, "tdpbusd", tile(gate), tile(_OPERANDS), register)
    for gate in range(count):
        _amx(b, "tilestored64", tile(gate), pointer(b.add(out, const(64 * gate))), const(64 * count))


PRODUCT_ARGS = ("weights", "params", "operands", "stride", "out", "out_stride", "groups", "planes", "sums")
"""What `emit_product` takes by name; ``sums``: the address of int32 [VECTORS, gates, lanes] to work with."""


def emit_product(
    builder: Any, isa: Isa, gate_count: int, bits: int, values: Sequence[Any], vectors: Any, first: Any, last: Any
) -> None:
    """requantize(W·x + bias) of blocks first … last - 1 for ``vectors`` operand vectors, ``stride`` bytes apart, as int32.

    Of vector t, block k, gate g: ``lanes`` values at out + t · out_stride + 4 · lanes · (k · gate_count + g). The operands' buffer has room
    for a multiple of `VECTORS`.
    """
    args = dict(zip(PRODUCT_ARGS, values, strict=True))
    step = Step(builder, isa, args, gate_count, bits=bits)
    b, lanes = builder, isa.lanes
    kind = vector_type(lanes, 32)
    with cgutils.for_range_slice(b, first, last, const(1)) as (block, _):
        weights = panel(step, block, 0)
        params = step.at(args["params"], block, 4 * ROW_PARAMS * gate_count * lanes)
        with cgutils.for_range_slice(b, const(0), vectors, const(VECTORS)) as (start, _):
            left = b.sub(vectors, start)
            here = b.select(b.icmp_signed("<", left, const(VECTORS)), left, const(VECTORS))
            operands = b.add(args["operands"], b.mul(start, args["stride"]))
            accumulate(step, weights, operands, args["stride"], gate_count, args["sums"], here)
            with cgutils.for_range_slice(b, const(0), here, const(1)) as (row, _):
                out = b.add(args["out"], b.mul(b.add(start, row), args["out_stride"]))
                out = b.add(out, b.mul(block, const(4 * lanes * gate_count)))
                sums = b.add(args["sums"], b.mul(row, const(4 * lanes * gate_count)))
                for gate in range(gate_count):
                    acc = load(b, b.add(sums, const(4 * lanes * gate)), kind)
                    store(b, step.requantized(acc, params, gate).value, b.add(out, const(4 * lanes * gate)))


MOVING = ("now", "following", "reset", "z", "xs", "h", "c")
"""The arguments of a step that each sequence of a group has of its own, a stride apart."""


def emit_group_step(
    builder: Any,
    isa: Isa,
    name: str,
    simple: bool,
    bits: int,
    values: Sequence[Any],
    strides: Sequence[Any],
    sums: Any,
    active: Any,
    last: Any,
) -> None:
    """One time step of the first ``active`` sequences of a group, all blocks below ``last``.

    ``strides``: bytes between two sequences, for each of `MOVING`; ``sums`` as for `emit_product`.
    """
    phase = PHASES[name]
    given = dict(zip(STEP_ARGS, values, strict=True))
    stride = dict(zip(MOVING, strides, strict=True))
    step = Step(builder, isa, given, phase.gates, simple, bits)
    step.read_ahead(phase.roles)
    b = builder
    with cgutils.for_range_slice(b, const(0), last, const(1)) as (block, _):
        step.args = given
        accumulate(step, panel(step, block, phase.first), given["now"], stride["now"], phase.count, sums, active)
        with cgutils.for_range_slice(b, const(0), active, const(1)) as (n, _):
            step.args = given | {key: b.add(given[key], b.mul(n, stride[key])) for key in MOVING}
            step.accumulators = b.add(sums, b.mul(n, const(4 * isa.lanes * phase.count)))
            phase.block(step, block)
