"""Products of many operand vectors at once: the inputs of several steps, and the states of several sequences in one step.

Up to `VECTORS` vectors share each load of the weights: by AMX tiles where the processor has them, else `TILE` at a time in registers.
AMX reads the weights as the vector instructions do: a tile is 16 groups of one gate's rows, ``count`` gates apart. Weights of four bits
go through registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from llvmlite import ir

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.block_sizes import AMX_LEAST
from qrnn.backends.cpu.isa import Isa, const, load, store
from qrnn.backends.cpu.parts import constant, for_range, function_of, vector_type
from qrnn.backends.cpu.steps import BIAS, INT32, KernelVariant, Step, block_params, half_blocks
from qrnn.backends.cpu.vector import lift

TILE_ROWS = 16
"""Operand vectors of an AMX tile."""

VECTORS = 2 * TILE_ROWS
"""Operand vectors of one `accumulate`: weights come from farther away than operands, so two tiles of these share each of those."""

TILE = 4
"""Operand vectors that share one load of the weights in registers: with four gates, half of AVX-512's."""

AMX_GROUPS = 16
"""Groups of four columns in a tile of operands."""

TILE_BYTES = 1024
"""The bytes of a tile: 16 rows of 64 bytes."""

GROUP_LEAST = 3
"""The least number of sequences that go through a step together: fewer would use too little of the products of `TILE` vectors."""

AHEAD = 64
"""The most steps whose input products a sequence alone computes ahead in one go."""

LARGE_AHEAD = 16
"""The same number where the products of `AHEAD` steps would take too much of a cache (`Tuning.ahead_bytes`)."""

ROWS_AHEAD = 64
"""The most steps times sequences whose input products a group computes ahead in one go. A larger number means fewer passes over the input
weights, a smaller one less memory."""

_I8 = ir.IntType(8)
_OPERANDS, _TILES = 4, 8
"""Tile registers; 0 to 3 are accumulators, then come those of operands, then those of weights."""


def _amx(builder: Any, name: str, *arguments: Any) -> None:
    kinds = [a.type for a in arguments]
    function = function_of(builder.module, f"llvm.x86.{name}", ir.VoidType(), kinds)
    builder.call(function, list(arguments))


def emit_configure(builder: Any, isa: Isa, config: Any) -> None:
    """Set the tiles' shapes from the 64 bytes at ``config`` (`tile_config`), before any product of a thread."""
    if isa.amx:
        _amx(builder, "ldtilecfg", builder.inttoptr(config, _I8.as_pointer()))


def emit_release(builder: Any, isa: Isa) -> None:
    """Release the tiles after the last product of a thread."""
    if isa.amx:
        _amx(builder, "tilerelease")


def tile_config() -> list[int]:
    """Return the 64 bytes of palette 1 with eight tiles of 16 rows of 64 bytes (Intel SDM, LDTILECFG)."""
    return [1] + [0] * 15 + [64, 0] * 8 + [0] * 16 + [16] * 8 + [0] * 8


@dataclass(frozen=True)
class Rows:
    """The rows of ``count`` gates of a block, from gate ``first`` on: the addresses of its parameters and of its half blocks' weights."""

    params: Any
    half_blocks: list[Any]
    first: int
    count: int


def rows_of(step: Step, block: Any, first: int, count: int) -> Rows:
    """Return the `Rows` of a block."""
    return Rows(block_params(step, block), half_blocks(step, block, first, count), first, count)


def accumulate(
    step: Step, rows: Rows, operands: Any, stride: Any, out: Any, vectors: Any, wide_tiles: bool = False
) -> None:
    """Write the sums and biases of a block's rows for ``vectors`` operand vectors, ``stride`` bytes apart, to int32 at ``out``.

    Of vector v, gate g, the ``units`` values lie at out + 4 · units · (v · count + g). Sums of up to `VECTORS` vectors may be written. With
    ``wide_tiles``, operands in two parts go by AMX tiles as well, where a part has whole tiles of columns.
    """
    b = step.builder
    if not step.isa.amx or step.layout.bits != 8:
        _by_registers(step, rows, operands, stride, out, vectors)
        return
    bytes_only = b.icmp_signed("==", step.args["byte_parts"], const(1))
    enough = b.icmp_signed(">=", vectors, const(AMX_LEAST))
    fit = bytes_only
    if wide_tiles:
        whole = b.icmp_signed("==", b.and_(step.args["groups"], const(AMX_GROUPS - 1)), const(0))
        fit = b.or_(bytes_only, whole)

    def by_tiles(row_tiles: int) -> None:
        if not wide_tiles:
            _by_tiles(step, rows, operands, stride, out, row_tiles)
            return
        with b.if_else(bytes_only) as (one_part, two_parts):
            with one_part:
                _by_tiles(step, rows, operands, stride, out, row_tiles)
            with two_parts:
                _by_tiles_of_parts(step, rows, operands, stride, out, row_tiles)

    with b.if_else(b.and_(enough, fit)) as (tiles, registers):
        with tiles, b.if_else(b.icmp_signed("<=", vectors, const(TILE_ROWS))) as (one, two):
            with one:
                by_tiles(1)
            with two:
                by_tiles(2)
        with registers:
            _by_registers(step, rows, operands, stride, out, vectors)


def _by_registers(step: Step, rows: Rows, operands: Any, stride: Any, out: Any, vectors: Any) -> None:
    """Write the sums of `TILE` vectors at a time, or of one alone."""
    b = step.builder
    with b.if_else(b.icmp_signed("==", vectors, const(1))) as (alone, several):
        with alone:
            _by_register_tile(step, rows, [operands], out, [const(0)])
        with several:
            tiles = b.sdiv(b.add(vectors, const(TILE - 1)), const(TILE))
            with for_range(b, const(0), tiles) as tile:
                places = [b.add(b.mul(tile, const(TILE)), const(k)) for k in range(TILE)]
                _by_register_tile(step, rows, [b.add(operands, b.mul(k, stride)) for k in places], out, places)


def _by_register_tile(step: Step, rows: Rows, operands: list[Any], out: Any, places: list[Any]) -> None:
    b, isa = step.builder, step.isa
    # An address has so many half blocks. Lists of tiles are those of a whole block.
    of_address = isa.halves // len(rows.half_blocks)
    for number, half_block in enumerate(rows.half_blocks):
        halves = range(number * of_address, (number + 1) * of_address)
        starts = step.biases(rows.params, rows.first, rows.count, halves)
        parts = [gate * isa.units + half * isa.lanes for gate in range(rows.count) for half in halves]

        def put(sums: list[list[Any]], parts: list[int] = parts) -> None:
            for k, accs in zip(places, sums, strict=True):
                to = b.add(out, b.mul(k, const(4 * isa.units * rows.count)))
                for part, acc in zip(parts, accs, strict=True):
                    store(b, acc, b.add(to, const(4 * part)))

        if number == 0 or step.tail is None:
            put(step.dots([half_block], operands, rows.count, starts))
            continue
        with b.if_else(step.tail) as (none, some):
            with none:
                put([starts] * len(places))
            with some:
                put(step.dots([half_block], operands, rows.count, starts))


class Start(Enum):
    """What the sums of tiles start from."""

    BIASES = 0
    ZEROS = 1
    SUMS = 2
    """The sums that lie where the new ones go."""


def _by_tiles(
    step: Step, rows: Rows, operands: Any, stride: Any, out: Any, row_tiles: int, start: Start = Start.BIASES
) -> None:
    """Write the sums of ``row_tiles`` · `TILE_ROWS` vectors.

    These are made for as many gates of a half block at once as there are accumulators.
    """
    at_once = _OPERANDS // row_tiles
    for half in range(step.isa.halves):
        for first in range(0, rows.count, at_once):
            gates = range(first, min(rows.count, first + at_once))
            _tiles_of(step, rows, half, gates, operands, stride, out, row_tiles, start)


def _by_tiles_of_parts(step: Step, rows: Rows, operands: Any, stride: Any, out: Any, row_tiles: int) -> None:
    """Write the sums for operands in two parts: those of the high bytes, raised by eight bits, plus those of the low bytes and the biases."""
    b, isa, count = step.builder, step.isa, rows.count
    _by_tiles(step, rows, operands, stride, out, row_tiles, Start.ZEROS)
    kind = vector_type(isa.lanes, 32)
    for half in range(isa.halves):
        biases = step.biases(rows.params, rows.first, count, [half])
        with for_range(b, const(0), const(row_tiles * TILE_ROWS)) as row:
            at = b.add(out, b.mul(row, const(4 * isa.units * count)))
            for gate, bias in enumerate(biases):
                place = b.add(at, const(4 * (gate * isa.units + half * isa.lanes)))
                raised = b.shl(load(b, place, kind, 4), constant(kind, 8))
                store(b, b.add(raised, bias), place, 4)
    low = b.add(operands, step.part_bytes())
    _by_tiles(step, rows, low, stride, out, row_tiles, Start.SUMS)


def _tiles_of(
    step: Step,
    rows: Rows,
    half: int,
    gates: Sequence[int],
    operands: Any,
    stride: Any,
    out: Any,
    row_tiles: int,
    start: Start,
) -> None:
    """Write the sums by tdpbusd: unsigned operand bytes times signed weights, as in the vector instructions.

    An accumulator's rows start with the biases. The last tile of weights may reach beyond the half block, whatever lies there, since the
    operands that it is multiplied with are bytes of zeros.
    """
    b, isa, count = step.builder, step.isa, rows.count
    places = [(k * row_tiles + v, gate, v) for k, gate in enumerate(gates) for v in range(row_tiles)]
    weights = _OPERANDS + row_tiles

    def pointer(address: Any) -> Any:
        return b.inttoptr(address, _I8.as_pointer())

    def tile(number: int) -> Any:
        return ir.Constant(_I8, number)

    def sums_of(gate: int, v: int) -> Any:
        return pointer(b.add(out, const(4 * (isa.units * (TILE_ROWS * v * count + gate) + half * isa.lanes))))

    for acc, gate, v in places:
        if start is Start.ZEROS:
            _amx(b, "tilezero", tile(acc))
        elif start is Start.SUMS:
            _amx(b, "tileloadd64", tile(acc), sums_of(gate, v), const(4 * isa.units * count))
        else:
            biases = step.row_address(rows.params, rows.first + gate, BIAS, half)
            _amx(b, "tileloadd64", tile(acc), pointer(biases), const(0))
    steps = b.sdiv(b.add(step.args["groups"], const(AMX_GROUPS - 1)), const(AMX_GROUPS))
    with for_range(b, const(0), steps) as k:
        for v in range(row_tiles):
            x = b.add(operands, b.add(b.mul(k, const(64)), b.mul(stride, const(TILE_ROWS * v))))
            _amx(b, "tileloadd64", tile(_OPERANDS + v), pointer(x), stride)
        part = b.add(rows.half_blocks[half], b.mul(k, const(64 * AMX_GROUPS * count)))
        for acc, gate, v in places:
            register = tile(weights + gate % (_TILES - weights))
            if v == 0:
                _amx(b, "tileloadd64", register, pointer(b.add(part, const(64 * gate))), const(64 * count))
            _amx(b, "tdpbusd", tile(acc), tile(_OPERANDS + v), register)
    for acc, gate, v in places:
        _amx(b, "tilestored64", tile(acc), sums_of(gate, v), const(4 * isa.units * count))


PRODUCT_ARGS = (
    "weights",
    "params",
    "operands",
    "stride",
    "out",
    "out_stride",
    "out_block",
    "groups",
    "byte_parts",
    "sums",
)
"""What `emit_product` takes by name. ``sums`` is the address of int32 [VECTORS, gates, units] to work with."""


def emit_product(
    builder: Any,
    isa: Isa,
    gate_count: int,
    values: Sequence[Any],
    vectors: Any,
    first: Any,
    last: Any,
    *,
    variant: KernelVariant,
    dense: bool = False,
) -> None:
    """Write requantize(W·x + bias) of blocks first … last - 1 for ``vectors`` operand vectors, ``stride`` bytes apart, as int32.

    With ``dense``, results are shifted and saturated as a dense layer's, int16. Of vector t, block k, gate g, the ``units`` values of ``size``
    bytes lie at out + t · out_stride + k · out_block + size · units · g. The operands' buffer has room for a multiple of `VECTORS`.
    """
    args = dict(zip(PRODUCT_ARGS, values, strict=True))
    step = Step(builder, isa, args, gate_count, variant)
    b, size, out_bits = builder, (2 if dense else 4) * isa.units, 16 if dense else 32
    with for_range(b, first, last) as block:
        rows = rows_of(step, block, 0, gate_count)
        step.begin(rows.params)
        with for_range(b, const(0), vectors, VECTORS) as start:
            left = b.sub(vectors, start)
            here = b.select(b.icmp_signed("<", left, const(VECTORS)), left, const(VECTORS))
            operands = b.add(args["operands"], b.mul(start, args["stride"]))
            accumulate(step, rows, operands, args["stride"], args["sums"], here, wide_tiles=True)
            to = b.add(b.add(args["out"], b.mul(start, args["out_stride"])), b.mul(block, args["out_block"]))
            for gate in range(gate_count):
                factors = step.factors(rows.params, gate)
                shift = step.pre_shift(rows.params, gate) if dense else 0
                with for_range(b, const(0), here) as row:
                    sums = step.at(args["sums"], row, 4 * isa.units * gate_count, 4 * isa.units * gate)
                    found = step.requantized(step.vector(sums, *INT32).parts, factors)
                    if dense:
                        found = lift(fixedpoint.saturate16_shifted)(found, shift)
                    out = b.add(b.add(to, b.mul(row, args["out_stride"])), const(size * gate))
                    step.store(found, out, out_bits)
