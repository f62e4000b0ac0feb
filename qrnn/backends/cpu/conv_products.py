"""Products of convolutions from the history of encoded steps itself, without vectors that are put together first, as LLVM.

A vector of a product is said by the address of its first operand, its position, and by the places of its words, which all vectors have in
common: the bytes from the position to each. A word is read into every lane of the dot product. Of convolutions with a filter for each
channel, every lane has a channel, and reads its own operand: the words are those of one tap in as many channels as there are lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.isa import Isa, const, copy_int16, load, store
from qrnn.backends.cpu.matrix import Rows, rows_of
from qrnn.backends.cpu.parts import I64, constant, for_range, vector_type
from qrnn.backends.cpu.steps import DOTS_IN_FLIGHT, KernelVariant, Step
from qrnn.backends.cpu.vector import lift

PLACED_ARGS = (
    "weights", "params", "groups", "positions", "to", "counts", "begin", "out_begin", "places", "words", "part_step", "room", "first",
)  # fmt: skip
"""What `emit_placed` takes by name: the weights and row parameters, and the groups of columns of `packed.PackedMatrix`; addresses of int64: the
positions, where the outputs of each go, and how many of them are written; the bytes to be added to positions and to places of outputs; the
address of the int64 places of words, and how many there are, an even number; the bytes between two parts of operands; room for a block of
int16; and the first block."""

MOST_SUMS = {4: 16, 8: 8, 16: 16}
"""Accumulators that registers hold beside weights and operands, by lanes: half of AVX-512's and of NEON's registers, or of AVX2's."""


@dataclass(frozen=True)
class Placed:
    """What the products of a layer are compiled for."""

    parts: int
    """Blocks of lanes that are multiplied together."""
    byte_parts: int
    """The number of parts in which operands are stored."""
    own: bool
    """Whether every lane reads an operand of its own; see `by_channels`."""
    shifts: bool
    """Whether rows have a left_shift or a pre_shift."""

    @property
    def name(self) -> str:
        """Return what the names of functions have of it."""
        return f"{self.parts}{self.byte_parts}{'o' * self.own}{'s' * self.shifts}"

    def together(self, isa: Isa) -> int:
        """Return how many vectors share each load of the weights."""
        most = max(1, MOST_SUMS[isa.lanes] // self.parts)
        return 1 << (min(most, DOTS_IN_FLIGHT).bit_length() - 1)


def by_channels(isa: Isa) -> Isa:
    """Return an instruction set with the same lanes, whose operands are int16, each multiplied by the weight of its own lane."""
    return replace(
        isa,
        group=1,
        operand_bits=16,
        offset=0,
        low_offset=0,
        dot=_multiply_add,
        amx=False,
        half_dot=None,
        pair_dot=None,
    )


def _multiply_add(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
    """Add products of int16, summed into 32 bits, in the plain operations of LLVM."""
    one, two = (builder.sext(v, acc.type) for v in (operands, weights))
    return builder.add(acc, builder.mul(one, two))


def emit_placed(builder: Any, isa: Isa, how: Placed, values: Sequence[Any], vectors: Any, blocks: Any) -> None:
    """Write requantize(W·x + bias), shifted and saturated as a dense layer's result, of ``blocks`` blocks for ``vectors`` positions."""
    args = dict(zip(PLACED_ARGS, values, strict=True))
    b, together = builder, how.together(isa)
    step = Step(b, isa, args, how.parts, KernelVariant(simple=not how.shifts, shifts=how.shifts))
    whole = b.and_(vectors, const(-together))
    with for_range(b, const(0), blocks) as block:
        rows = rows_of(step, b.add(args["first"], block), 0, how.parts)
        with for_range(b, const(0), whole, together) as k:
            _vectors(step, how, rows, block, [b.add(k, const(v)) for v in range(together)])
        if together > 1:
            with for_range(b, whole, vectors) as k:
                _vectors(step, how, rows, block, [k])


def _vectors(step: Step, how: Placed, rows: Rows, block: Any, numbers: list[Any]) -> None:
    """Multiply, requantize and write the vectors of these numbers."""
    b, isa, args = step.builder, step.isa, step.args

    def number(array: str, k: Any) -> Any:
        return load(b, step.at(args[array], k, 8), I64, 8)

    behind = b.mul(block, const(2 * isa.lanes * how.parts))
    start = b.add(args["begin"], behind) if how.own else args["begin"]
    positions = [b.add(number("positions", k), start) for k in numbers]
    sums = _sums(step, how, rows, positions)
    outs = [b.add(b.add(number("to", k), args["out_begin"]), behind) for k in numbers]
    left = [b.sub(number("counts", k), b.mul(block, const(isa.lanes * how.parts))) for k in numbers]
    for part in range(how.parts):
        factors, shift = step.factors(rows.params, part), step.pre_shift(rows.params, part)
        for v in range(len(numbers)):
            found = step.requantized((sums[v][part],), factors)
            result = lift(fixedpoint.saturate16_shifted)(found, shift)
            (lanes,) = result.like(32)
            value = b.trunc(lanes, vector_type(isa.lanes, 16))
            to = b.add(outs[v], const(2 * isa.lanes * part))
            _store(step, value, to, b.sub(left[v], const(isa.lanes * part)))


def _store(step: Step, value: Any, to: Any, count: Any) -> None:
    """Write the first ``count`` values of a block; there may be more than it has, or none."""
    b, lanes = step.builder, const(step.isa.lanes)
    with b.if_else(b.icmp_signed(">=", count, lanes)) as (every, some):
        with every:
            store(b, value, to)
        with some, b.if_then(b.icmp_signed(">", count, const(0))):
            store(b, value, step.args["room"])
            copy_int16(b, to, step.args["room"], count)


def _sums(step: Step, how: Placed, rows: Rows, positions: list[Any]) -> list[list[Any]]:
    """Return the sums and biases [vector][part]."""
    b, width = step.builder, how.parts
    biases = step.biases(rows.params, 0, width, range(1)) * len(positions)
    if how.byte_parts == 2:  # The high bytes come first, since their sums are raised.
        zeros = [ir.Constant(v.type, None) for v in biases]
        high = _products(step, how, rows, positions, zeros)
        biases = [b.add(b.shl(u, constant(u.type, 8)), v) for u, v in zip(high, biases, strict=True)]
        positions = [b.add(at, step.args["part_step"]) for at in positions]
    sums = _products(step, how, rows, positions, biases)
    return [sums[v * width : (v + 1) * width] for v in range(len(positions))]


def _products(step: Step, how: Placed, rows: Rows, positions: list[Any], starts: list[Any]) -> list[Any]:
    """Return sums [vector, part] plus the products of all words; few sums have two sets, as in `Step.dots`."""
    b, words = step.builder, step.args["words"]
    unroll = 2 if len(starts) < DOTS_IN_FLIGHT else 1
    entry, loop, done = b.basic_block, b.append_basic_block("words"), b.append_basic_block("summed")
    b.branch(loop)

    b.position_at_end(loop)
    i = b.phi(I64)
    sets = [[b.phi(v.type) for v in starts] for _ in range(unroll)]
    new = [_word(step, how, rows, positions, phis, b.add(i, const(k))) for k, phis in enumerate(sets)]
    following = b.add(i, const(unroll))
    i.add_incoming(const(0), entry)
    i.add_incoming(following, loop)
    for k, phis in enumerate(sets):
        for phi, start, value in zip(phis, starts, new[k], strict=True):
            phi.add_incoming(ir.Constant(phi.type, None) if k else start, entry)
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, words), loop, done)

    b.position_at_end(done)
    return new[0] if unroll == 1 else [b.add(u, v) for u, v in zip(*new, strict=True)]


def _word(step: Step, how: Placed, rows: Rows, positions: list[Any], sums: list[Any], word: Any) -> list[Any]:
    """Return the sums [vector, part] plus the products of a word."""
    b, isa, width = step.builder, step.isa, how.parts
    place = load(b, step.at(step.args["places"], word, 8), I64, 8)
    row_bytes = isa.lanes * isa.group
    at = b.add(rows.half_blocks[0], b.mul(word, const(row_bytes * width)))
    weights = [isa.weights(b, b.add(at, const(row_bytes * part))) for part in range(width)]
    words = [b.add(position, place) for position in positions]
    if how.own:
        kind = vector_type(isa.lanes, 16)
        operands = [[load(b, b.add(x, const(2 * isa.lanes * part)), kind) for part in range(width)] for x in words]
    else:
        operands = [[isa.operands(b, x)] * width for x in words]
    return [isa.dot(b, acc, operands[k // width][k % width], weights[k % width]) for k, acc in enumerate(sums)]
