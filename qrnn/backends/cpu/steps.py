"""What the fused steps are made of: where a step's data lie, and how a block's parts are read, multiplied and stored.

These functions emit LLVM. All arithmetic is the contract's, lifted to vectors (`qrnn.backends.cpu.vector`); here are loads, loops and stores.
A block is ``units`` hidden units of the `Isa`. Addresses are byte addresses in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cpu.block_lists import ListLayout, layout_of
from qrnn.backends.cpu.four_bits import FourBitLayout, Raises
from qrnn.backends.cpu.functions import GATE_FIELDS, PLAIN, Function
from qrnn.backends.cpu.isa import Isa, const, load, store
from qrnn.backends.cpu.parts import (
    I32,
    I64,
    INT16_LANES,
    Parts,
    constant,
    low_halves,
    vector_type,
)
from qrnn.backends.cpu.table import Lookup
from qrnn.backends.cpu.vector import Vec, lift
from qrnn.backends.cpu.weight_layouts import ByteLayout, PairedProducts
from qrnn.model.cell_formats import FORMATS, H_LIMIT, H_SHIFT

BIAS, MULTIPLIER, LEFT_SHIFT, PRE_SHIFT, ODD_MULTIPLIER, PEEPHOLE, PEEPHOLE_SHIFT = range(7)
"""int32 vectors per gate in a block's parameters, in this order; ODD_MULTIPLIER: the multipliers of the odd lanes, in the even ones."""

HALF_TAIL = 1
"""What stands in the place of pre_shift in a half tail's parameters: directions whose steps have such blocks have no pre_shift."""

DOTS_IN_FLIGHT = 8
"""Accumulators that keep a processor's dot products busy."""

INT32 = (-(1 << 31), (1 << 31) - 1)
REQUANTIZED = (-(1 << 30) + 1, (1 << 30) - 1)
FRAC, SHIFT = (0, 15), (0, 30)
UNIT, SIGNED, EITHER = (0, 1 << 15), (-32767, 32767), (-(1 << 15), 1 << 15)
"""Gate values: of i f o r z in Q0.15, of candidates and of the cell's activation, and of any function."""
Q15 = 15


@dataclass(frozen=True)
class KernelVariant:
    """What a step is compiled for."""

    simple: bool = False
    """See `qrnn.backends.cpu.packed.is_simple`."""
    functions: tuple[int, ...] = ()
    """The variant of each role's function (`functions.variant_of`). Where empty, each step branches on the kinds of the functions."""
    shifts: bool = True
    """Rows have a left_shift."""
    bits: int = 8
    """Width of the packed weights, or `LISTED` for lists of tiles (`qrnn.backends.cpu.block_lists`)."""
    lookup: Lookup = Lookup.PAIRS
    """How the gate functions' tables are read; it also says whether lanes have 16 bits."""
    spans: str = ""
    """The range of each role's values, "u" for `UNIT` or "s" for `SIGNED`. Where empty, values may be any and products are wider."""
    q15: bool = True
    """Values of i f o r z have 15 fraction bits."""
    rescaled: bool = False
    """In a simple variant, h has other fraction bits than the function that it is made of (the LSTM's of the cell, the GRU's of n)."""
    peephole: bool = False
    """Rows have a peephole."""
    traced: bool = False
    """The arguments of the gates are kept, in the places of the inputs' parts; see `Step.keep`."""
    half_tail: bool = False
    """The last block has units for its first half block only: the other one's products are left out (`Isa.unit_places`)."""
    by_gates: bool = False
    """Several sequences go through a step gate by gate (`qrnn.backends.cpu.gate_steps`)."""

    @property
    def name(self) -> str:
        """For the names of functions, short: Numba makes names of files of them."""
        flags = (
            self.simple,
            self.shifts,
            self.rescaled,
            self.peephole,
            not self.q15,
            self.traced,
            self.half_tail,
            self.by_gates,
        )
        marks = "".join(mark for mark, flag in zip("slcpfthg", flags, strict=True) if flag)
        functions = "".join("p" if function == PLAIN else str(function) for function in self.functions)
        return f"{marks}{self.bits}{self.lookup.value}{functions}{self.spans}"

    def instructions(self, isa: Isa) -> Isa:
        """Return the instruction set with the blocks of this variant."""
        own = isa.with_int16_lanes() if self.lookup.has_int16_lanes else isa
        return replace(own, half_tail=self.half_tail)

    @property
    def row_params(self) -> int:
        """int32 vectors per gate in a block's parameters."""
        return 1 + (PEEPHOLE_SHIFT if self.peephole else ODD_MULTIPLIER)


FirstProducts = Callable[[Sequence[Any], Sequence[Any], int, Sequence[Any]], tuple[Any, list[Any]]]
"""first_products(half blocks, operands, gates, starts) → the group of columns from which on products are left, and the sums so far."""


class Step:
    """What the cells share: where a step's data lie, and how a block's parts are read."""

    def __init__(self, builder: Any, isa: Isa, args: dict[str, Any], gate_count: int, variant: KernelVariant) -> None:
        self.builder, self.isa, self.args, self.gates, self.variant = builder, isa, args, gate_count, variant
        self.simple, self.layout = variant.simple, layout_of(isa, variant.bits)
        self.accumulators: Any = None
        """Address of a block's accumulators where they are computed before its gates; else each block computes its own."""
        self.raises: Raises | None = None
        """What `FourBitLayout.raises` gives for the operands of a sequence alone, where the weights have four bits."""
        self.first_products: FirstProducts | None = None
        """What emits the first products of a block, where something else is to be computed beside them."""
        self.beside_wanted: Any = None
        """Whether something is, one bit."""
        self.tail: Any = None
        """Whether the block is a half tail, one bit; None where none is."""
        self._formats: dict[int, Any] = {}
        self._functions: dict[int, Function] = {}

    def read_ahead(self, roles: int) -> None:
        """Read formats and gate functions once, before the loop over blocks."""
        b = self.builder
        for place in range(FORMATS):
            self._formats[place] = b.trunc(load(b, b.add(self.args["formats"], const(8 * place)), I64, 8), I32)
        for role in range(roles):
            record = b.add(self.args["functions"], const(8 * GATE_FIELDS * role))
            function = self.variant.functions[role] if self.variant.functions else None
            self._functions[role] = Function.packed(b, record, self.isa.units, self.variant.lookup, function)

    def begin(self, params: Any) -> None:
        """Let the step be at the block of these parameters."""
        if self.variant.half_tail:
            b = self.builder
            mark = load(b, self.row_address(params, 0, PRE_SHIFT), I32, 4)
            self.tail = b.icmp_signed("==", mark, ir.Constant(I32, HALF_TAIL))

    def in_order(self, v: Vec, of_rows: bool = True) -> Vec:
        """Return the units of a block in their own order, from the lanes where their rows' sums are; or the way back, without ``of_rows``.

        The lanes differ from the order in a half tail alone, by fours: the first half block's rows are every other four lanes.
        """
        if self.tail is None:
            return v
        b, (lanes,) = self.builder, v.like(16)
        fours = [*range(0, 8, 2), *range(1, 8, 2)]
        places = [4 * four + k for four in (fours if of_rows else [fours.index(k) for k in range(8)]) for k in range(4)]
        moved = b.shuffle_vector(lanes, lanes, ir.Constant(vector_type(INT16_LANES, 32), places))
        return Vec(b, b.select(self.tail, moved, lanes), v.low, v.high)

    def state(self, address: Any, low: int, high: int) -> Vec:
        """Return the block's h, which is stored in the order of the units."""
        return self.in_order(self.vector(address, low, high, 16), of_rows=False)

    def hold(self, *roles: int) -> None:
        """Keep the tables of these gate functions in registers from here on, where they fit, and no others any longer."""
        for role, function in self._functions.items():
            function.hold(role in roles)

    def at(self, base: Any, index: Any, size: int, offset: int = 0) -> Any:
        """Return base + index · size + offset."""
        b = self.builder
        address = b.add(base, b.mul(index, const(size)))
        return b.add(address, const(offset)) if offset else address

    def vector(self, address: Any, low: int, high: int, bits: int = 32) -> Vec:
        """Load a block's integers of ``bits``."""
        b, units, lanes = self.builder, self.isa.units, self.isa.lanes
        if bits == 16:
            return self.of_int16(load(b, address, vector_type(units, 16)), low, high)
        parts = [
            load(b, b.add(address, const(4 * lanes * half)), vector_type(lanes, 32)) for half in range(self.isa.halves)
        ]
        return Vec(b, tuple(parts), low, high)

    def of_int16(self, value: Any, low: int, high: int) -> Vec:
        """Return a block's integers, loaded as int16, in lanes of the variant's width."""
        b, units = self.builder, self.isa.units
        return Vec(b, value if units == INT16_LANES else b.sext(value, vector_type(units, 32)), low, high)

    def store(self, v: Vec, address: Any, bits: int = 32) -> None:
        """Store a block's integers as ``bits``."""
        b, units = self.builder, self.isa.units
        if bits == 32:
            for half, part in enumerate(v.like(32)):
                store(b, part, b.add(address, const(4 * self.isa.lanes * half)))
            return
        widest = 16 if units == INT16_LANES else 32
        (value,) = v.like(widest)
        store(b, value if bits == widest else b.trunc(value, vector_type(units, bits)), address)

    def format(self, place: int, low: int = 0, high: int = 30) -> Vec:
        """Return an entry of the direction's formats."""
        return Vec.scalar(self.builder, self._formats[place], self.isa.units, low, high)

    def part_bytes(self) -> Any:
        """Return the bytes between two parts of operands: whole blocks of units, since those of a block are stored at once."""
        b, units = self.builder, self.isa.units
        columns = b.mul(self.args["groups"], const(self.isa.group))
        return b.and_(b.add(columns, const(units - 1)), const(-units))

    def dots(
        self, half_blocks: Sequence[Any], operands: Sequence[Any], count: int, starts: Sequence[Any]
    ) -> list[list[Any]]:
        """Emit the products of packed weights and operands, plus ``starts``: for each operand vector ``count`` accumulators of each half block.

        They are made over all groups of columns and both parts of operands. The sums of the high bytes are raised, and those of the low ones
        added.
        """
        b, isa, args = self.builder, self.isa, self.args
        sums = list(starts) * len(operands)
        if isa.operand_bits == 8:
            before = b.basic_block
            part = self.part_bytes()
            low = [b.add(x, b.mul(b.sub(args["byte_parts"], const(1)), part)) for x in operands]
            with b.if_then(b.icmp_signed("!=", args["byte_parts"], const(1))):
                high = self._dots(half_blocks, operands, count, [ir.Constant(v.type, None) for v in sums])
                raised = [b.add(b.shl(u, constant(u.type, 8)), v) for u, v in zip(high, sums, strict=True)]
                after = b.basic_block
            merged = [b.phi(v.type) for v in sums]
            for phi, one, two in zip(merged, sums, raised, strict=True):
                phi.add_incoming(one, before)
                phi.add_incoming(two, after)
            sums, operands = merged, low
        first = None
        if self.first_products is not None:
            first, sums = self.first_products(half_blocks, operands, count, sums)
        sums = self._dots(half_blocks, operands, count, sums, first)
        width = len(starts)
        return [sums[k * width : (k + 1) * width] for k in range(len(operands))]

    def _dots(
        self,
        half_blocks: Sequence[Any],
        operands: Sequence[Any],
        count: int,
        starts: Sequence[Any],
        first: Any = None,
    ) -> list[Any]:
        """Emit `dots` over one part of the operands; the number of groups is even, or there are lists of tiles.

        Few accumulators have two sets, for even and odd groups, as their sums would else wait for each other.
        """
        if isinstance(self.layout, ListLayout):
            return self.layout.sums(self.builder, self.args["weights"], half_blocks[0], operands, starts)
        b, groups, vectors = self.builder, self.args["groups"], len(operands)
        if isinstance(self.layout, FourBitLayout):
            return self.layout.sums(b, groups, operands, half_blocks, count, starts, self.raises)
        layout: ByteLayout | PairedProducts = self.layout
        if self.isa.pair_dot is not None and vectors % 2 == 0:
            layout = PairedProducts(self.isa)
            starts = layout.enter(b, starts, vectors)
        unit = layout.unit
        unroll = 2 if len(starts) < DOTS_IN_FLIGHT and unit == 1 else 1
        entry = b.basic_block
        loop, body, done = (b.append_basic_block(n) for n in ("dot", "dot.body", "dots"))
        b.branch(loop)

        b.position_at_end(loop)
        i = b.phi(I64)
        sets = [[b.phi(v.type) for v in starts] for _ in range(unroll)]
        b.cbranch(b.icmp_signed("<", i, groups), body, done)

        b.position_at_end(body)
        for k, phis in enumerate(sets):
            group = b.add(i, const(k))
            new = layout.products(b, phis, operands, half_blocks, count, (group, groups))
            for phi, start, value in zip(phis, starts, new, strict=True):
                phi.add_incoming(ir.Constant(phi.type, None) if k else start, entry)
                phi.add_incoming(value, body)
        i.add_incoming(const(0) if first is None else first, entry)
        i.add_incoming(b.add(i, const(unroll * unit)), body)
        b.branch(loop)

        b.position_at_end(done)
        sums = sets[0] if unroll == 1 else [b.add(u, v) for u, v in zip(*sets, strict=True)]
        return layout.leave(b, sums, vectors) if isinstance(layout, PairedProducts) else sums

    def row_address(self, params: Any, gate: int, which: int, half: int = 0) -> Any:
        """Return where a row parameter of the block's gate begins."""
        return self.builder.add(
            params, const(4 * ((which * self.gates + gate) * self.isa.units + half * self.isa.lanes))
        )

    def row_param(self, params: Any, gate: int, which: int, low: int, high: int) -> Vec:
        """Load a row parameter of the block's gate."""
        return self.vector(self.row_address(params, gate, which), low, high)

    def biases(self, params: Any, first: int, count: int, halves: Sequence[int]) -> list[Any]:
        """Load what the accumulators of ``count`` gates start from."""
        kind = vector_type(self.isa.lanes, 32)
        return [
            load(self.builder, self.row_address(params, first + gate, BIAS, half), kind)
            for gate in range(count)
            for half in halves
        ]

    def _multiplier(self, params: Any, gate: int) -> Vec:
        """Load the multipliers, when they are needed, in 64-bit lanes. Those of odd rows were packed for themselves."""
        b = self.builder
        both = (self.row_param(params, gate, which, *INT32).parts for which in (MULTIPLIER, ODD_MULTIPLIER))
        words = tuple(low_halves(b, part) for pair in zip(*both, strict=True) for part in pair)
        return Vec(b, words, 0, INT32[1] - 1)

    def factors(self, params: Any, gate: int) -> tuple[Vec, Vec | int]:
        """Return the multipliers and left_shifts of a gate's rows."""
        left_shift = self.row_param(params, gate, LEFT_SHIFT, *SHIFT) if self.variant.shifts else 0
        return self._multiplier(params, gate), left_shift

    def requantized(self, sums: Parts, factors: tuple[Vec, Vec | int]) -> Vec:
        """Return the partial sum of a gate's rows, requantized."""
        total = Vec(self.builder, sums, *INT32)  # The sum wraps to what the proof bounds.
        total.shifted = INT32
        found: Vec = lift(fixedpoint.requantize)(total, *factors)
        return found.proved(*REQUANTIZED)

    def pre_shift(self, params: Any, gate: int) -> Any:
        """Return the pre_shift of a gate's rows."""
        return 0 if self.simple else self.row_param(params, gate, PRE_SHIFT, *FRAC)

    def bounds(self, role: int) -> tuple[int, int]:
        """Return the least and the largest value of a role's function."""
        if not self.variant.spans:
            return EITHER
        return UNIT if self.variant.spans[role] == "u" else SIGNED

    def gate_frac(self, place: int) -> Any:
        """Return the fraction bits of a gate, an entry of the direction's formats."""
        return Q15 if self.variant.q15 else self.format(place, *FRAC)

    def activate(self, role: int, x: Vec) -> Vec:
        """Return the gate function ``role``, of whatever kind, of x."""
        # An argument is an int16. Its bounds do not say so where it was shifted left.
        return self._functions[role](x.proved(-32768, 32767), self.bounds(role))

    def keep(self, argument: Vec, block: Any, gate: int) -> None:
        """Store a gate's arguments as int16, in the order of the units, where its inputs' parts were, if the run is traced."""
        if self.variant.traced:
            xs = self.builder.add(self.args["xs"], self.builder.mul(block, self.args["xs_block"]))
            place = self.builder.add(xs, const(4 * self.isa.units * gate))
            self.store(self.in_order(argument.proved(-32768, 32767)), place, 16)

    def store_operand(self, h: Vec, block: Any) -> None:
        """Store the matvec operand of h, encoded for the dot product, in the block's place of the next operands."""
        operand = lift(fixedpoint.to_operand)(h, self.format(H_SHIFT, *FRAC), self.format(H_LIMIT, 1, 32767))
        self.store_encoded(operand, self.args["following"], block)

    def store_encoded(self, operand: Vec, base: Any, block: Any) -> None:
        """Encode operands as the instruction set reads them; see `Isa`."""
        b, isa = self.builder, self.isa
        if isa.operand_bits == 16:
            self.store(operand, self.at(base, block, 2 * isa.units), 16)
            return
        place = self.at(base, block, isa.units)
        with b.if_else(b.icmp_signed("==", self.args["byte_parts"], const(1))) as (narrow, two):
            with narrow:
                self.store(operand + isa.offset, place, 8)
            with two:  # The high bytes come first: `dots` raises their sums before it adds the low ones.
                self.store((operand >> 8) + isa.offset, place, 8)
                self.store(operand + isa.low_offset, b.add(place, self.part_bytes()), 8)


def half_blocks(step: Step, block: Any, first: int, count: int) -> list[Any]:
    """Return the addresses of a block's packed weights of ``count`` gates from ``first`` on, of each of its half blocks.

    Half blocks that lie together have one address. Lists of tiles have one address for a block.
    """
    b, isa = step.builder, step.isa
    if isinstance(step.layout, ListLayout):
        return [step.layout.lists(b, step.args["weights"], b.add(b.mul(block, const(step.gates)), const(first)))]
    of_gate = step.layout.gate_bytes(b, step.args["groups"])
    weights = b.add(step.args["weights"], b.mul(block, b.mul(of_gate, const(step.gates * isa.halves))))
    addresses = range(0, isa.halves, step.layout.together)
    return [b.add(weights, b.mul(of_gate, const(first * isa.halves + count * half))) for half in addresses]


def block_params(step: Step, block: Any) -> Any:
    """Return the address of a block's row parameters."""
    return step.at(step.args["params"], block, 4 * step.variant.row_params * step.gates * step.isa.units)
