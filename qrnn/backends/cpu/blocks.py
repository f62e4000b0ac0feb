"""One step of a cell for blocks of hidden units, fused: dot products, requantization, gates and state stay in registers.

These functions emit LLVM. All arithmetic is the contract's, lifted to vectors (`qrnn.backends.cpu.vector`); here are loads, loops and stores.
A block is ``units`` hidden units of the `Isa`. Addresses are byte addresses in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.backends.cpu.isa import Isa, const, copy_words, load, store
from qrnn.backends.cpu.panels import layout
from qrnn.backends.cpu.parts import (
    I32,
    I64,
    WORDS,
    Parts,
    constant,
    low_halves,
    vector_type,
)
from qrnn.backends.cpu.table import Table
from qrnn.backends.cpu.vector import Vec, lift
from qrnn.model.cell_formats import ARGUMENT, CANDIDATE, FORMATS, H_LIMIT, H_SHIFT, HIDDEN, PRODUCT

BIAS, MULTIPLIER, LEFT_SHIFT, PRE_SHIFT, ODD_MULTIPLIER = 0, 1, 2, 3, 4
ROW_PARAMS = 5
"""int32 vectors per gate in a block's parameters, in this order; ODD_MULTIPLIER: those of the odd lanes, in the even ones."""

GATE_WORDS = 8
"""int64 per gate function in the packed gates: kind, then up to five parameters, then the address of the table."""
TABLE_AT = 6

RAMP_INTERCEPT = (1 << 30) - (1 << 16)
"""Of ramps that are computed in 32-bit lanes."""

DOTS_IN_FLIGHT = 8
"""Accumulators that keep a processor's dot products busy."""

INT32 = (-(1 << 31), (1 << 31) - 1)
REQUANTIZED = (-(1 << 30) + 1, (1 << 30) - 1)
FRAC, SHIFT = (0, 15), (0, 30)
UNIT, SIGNED = (0, 1 << 15), (-32767, 32767)
"""Gate values in Q0.15: of i f o r z, and of the candidates and the cell's activation."""
Q15 = 15


class Step:
    """What the cells share: where a step's data lie, and how a block's parts are read."""

    def __init__(
        self, builder: Any, isa: Isa, args: dict[str, Any], gate_count: int, simple: bool = False, bits: int = 8
    ) -> None:
        self.builder, self.isa, self.args, self.gates, self.simple = builder, isa, args, gate_count, simple
        self.layout = layout(isa, bits)
        self.accumulators: Any = None
        """Address of a block's accumulators where they are computed for several sequences at once; else each block computes its own."""
        self._formats: dict[int, Any] = {}
        self._functions: dict[int, list[Any]] = {}

    def read_ahead(self, roles: int) -> None:
        """Read formats and gate functions once, before the loop over blocks."""
        b = self.builder
        for place in range(FORMATS):
            self._formats[place] = b.trunc(load(b, b.add(self.args["formats"], const(8 * place)), I64, 8), I32)
        for role in range(roles):
            base = b.add(self.args["functions"], const(8 * GATE_WORDS * role))
            words = [load(b, b.add(base, const(8 * k)), I64, 8) for k in range(GATE_WORDS)]
            self._functions[role] = [b.trunc(w, I32) for w in words[:TABLE_AT]] + [words[TABLE_AT]]

    def at(self, base: Any, index: Any, size: int, offset: int = 0) -> Any:
        """base + index · size + offset."""
        b = self.builder
        address = b.add(base, b.mul(index, const(size)))
        return b.add(address, const(offset)) if offset else address

    def vector(self, address: Any, low: int, high: int, bits: int = 32) -> Vec:
        """A block's integers of ``bits``."""
        b, units, lanes = self.builder, self.isa.units, self.isa.lanes
        if bits == 16:
            value = load(b, address, vector_type(units, 16))
            return Vec(b, value if units == WORDS else b.sext(value, vector_type(units, 32)), low, high)
        parts = [
            load(b, b.add(address, const(4 * lanes * half)), vector_type(lanes, 32)) for half in range(self.isa.halves)
        ]
        return Vec(b, tuple(parts), low, high)

    def store(self, v: Vec, address: Any, bits: int = 32) -> None:
        """A block's integers as ``bits``."""
        b, units = self.builder, self.isa.units
        if bits == 32:
            for half, part in enumerate(v.like(32)):
                store(b, part, b.add(address, const(4 * self.isa.lanes * half)))
            return
        widest = 16 if units == WORDS else 32
        (value,) = v.like(widest)
        store(b, value if bits == widest else b.trunc(value, vector_type(units, bits)), address)

    def format(self, place: int, low: int = 0, high: int = 30) -> Vec:
        """An entry of the direction's formats."""
        return Vec.scalar(self.builder, self._formats[place], self.isa.units, low, high)

    def dots(
        self, panels: Sequence[Any], operands: Sequence[Any], count: int, starts: Sequence[Any]
    ) -> list[list[Any]]:
        """For each of several operand vectors ``count`` accumulators <lanes x i32> a panel: packed weights times operands, and ``starts``.

        Over all groups of columns and planes of operand bytes: the sums of the high bytes are raised, and those of the low ones added.
        """
        b, isa, args = self.builder, self.isa, self.args
        sums = list(starts) * len(operands)
        if isa.operand_bits == 8:
            before = b.basic_block
            plane = b.mul(args["groups"], const(isa.group))
            low = [b.add(x, b.mul(b.sub(args["planes"], const(1)), plane)) for x in operands]
            with b.if_then(b.icmp_signed("!=", args["planes"], const(1))):
                high = self._dots(panels, operands, count, [ir.Constant(v.type, None) for v in sums])
                raised = [b.add(b.shl(u, constant(u.type, 8)), v) for u, v in zip(high, sums, strict=True)]
                after = b.basic_block
            merged = [b.phi(v.type) for v in sums]
            for phi, one, two in zip(merged, sums, raised, strict=True):
                phi.add_incoming(one, before)
                phi.add_incoming(two, after)
            sums, operands = merged, low
        sums = self._dots(panels, operands, count, sums)
        width = len(starts)
        return [sums[k * width : (k + 1) * width] for k in range(len(operands))]

    def _dots(self, panels: Sequence[Any], operands: Sequence[Any], count: int, starts: Sequence[Any]) -> list[Any]:
        """`dots` over one plane. The number of groups is even. Few accumulators have two sets, for even and odd groups, as their sums would
        else wait for each other (those of four-bit weights do not)."""
        b, groups, unit = self.builder, self.args["groups"], self.layout.unit
        unroll = 2 if len(starts) < DOTS_IN_FLIGHT and unit == 1 else 1
        entry = b.basic_block
        loop, done = (b.append_basic_block(n) for n in ("dot", "dots"))
        b.branch(loop)

        b.position_at_end(loop)
        i = b.phi(I64)
        sets = [[b.phi(v.type) for v in starts] for _ in range(unroll)]
        new = []
        for k, phis in enumerate(sets):
            group = b.add(i, const(k))
            new.append(self.layout.products(b, phis, operands, panels, count, (group, groups)))
        following = b.add(i, const(unroll * unit))
        i.add_incoming(const(0), entry)
        i.add_incoming(following, loop)
        for k, phis in enumerate(sets):
            for phi, start, value in zip(phis, starts, new[k], strict=True):
                phi.add_incoming(ir.Constant(phi.type, None) if k else start, entry)
                phi.add_incoming(value, loop)
        b.cbranch(b.icmp_signed("<", following, groups), loop, done)

        b.position_at_end(done)
        return new[0] if unroll == 1 else [b.add(u, v) for u, v in zip(*new, strict=True)]

    def row_address(self, params: Any, gate: int, which: int, half: int = 0) -> Any:
        """Where a row parameter of the block's gate begins."""
        return self.builder.add(
            params, const(4 * ((which * self.gates + gate) * self.isa.units + half * self.isa.lanes))
        )

    def row_param(self, params: Any, gate: int, which: int, low: int, high: int) -> Vec:
        """A row parameter of the block's gate."""
        return self.vector(self.row_address(params, gate, which), low, high)

    def biases(self, params: Any, first: int, count: int, halves: Sequence[int]) -> list[Any]:
        """What the accumulators of ``count`` gates start from."""
        kind = vector_type(self.isa.lanes, 32)
        return [
            load(self.builder, self.row_address(params, first + gate, BIAS, half), kind)
            for gate in range(count)
            for half in halves
        ]

    def _multiplier(self, params: Any, gate: int) -> Vec:
        """In 64-bit lanes, of which those of odd rows were packed for themselves: loaded as they are needed."""
        b = self.builder
        both = (self.row_param(params, gate, which, *INT32).parts for which in (MULTIPLIER, ODD_MULTIPLIER))
        words = tuple(low_halves(b, part) for pair in zip(*both, strict=True) for part in pair)
        return Vec(b, words, 0, INT32[1] - 1)

    def requantized(self, sums: Parts, params: Any, gate: int) -> Vec:
        """The partial sum of a gate's rows, requantized."""
        total = Vec(self.builder, sums, *INT32)  # wraps to what the proof bounds
        total.shifted = INT32
        left_shift = self.row_param(params, gate, LEFT_SHIFT, *SHIFT)
        found: Vec = lift(fixedpoint.requantize)(total, self._multiplier(params, gate), left_shift)
        return found.proved(*REQUANTIZED)

    def pre_shift(self, params: Any, gate: int) -> Any:
        """The pre_shift of a gate's rows."""
        return 0 if self.simple else self.row_param(params, gate, PRE_SHIFT, *FRAC)

    def activate(self, role: int, x: Vec, bounds: tuple[int, int]) -> Vec:
        """The gate function ``role``, a table or a ramp, whichever the model says; its values lie within ``bounds``."""
        b = self.builder
        # An argument is an int16, which its bounds do not say where it was shifted left.
        x = x.proved(-32768, 32767)
        kind, *words, table_at = self._functions[role]

        def scalar(k: int, low: int, high: int) -> Vec:
            return Vec.scalar(b, words[k], self.isa.units, low, high)

        with b.if_else(b.icmp_signed("==", kind, ir.Constant(I32, gates.ODD))) as (odd, ramp):
            with odd:
                offset = scalar(0, 0 if self.simple else -(1 << 14), 1 << 14)
                cut = 0 if self.simple else scalar(2, 0, 32767)
                found = lift(gates.evaluate_odd)(x, offset, scalar(1, *FRAC), cut, Table(b, table_at))
                from_table, table_block = found.proved(*bounds).parts, b.basic_block
            with ramp:
                line = (scalar(0, -32767, 32767), scalar(1, -RAMP_INTERCEPT, RAMP_INTERCEPT), scalar(2, *FRAC))
                ends = (scalar(3, -32768, 32768), scalar(4, -32768, 32768))
                found = lift(gates.evaluate_ramp)(x, *line, *ends)
                from_ramp, ramp_block = found.proved(*bounds).parts, b.basic_block
        value = tuple(b.phi(part.type) for part in from_table)
        for phi, one, other in zip(value, from_table, from_ramp, strict=True):
            phi.add_incoming(one, table_block)
            phi.add_incoming(other, ramp_block)
        return Vec(b, value, *bounds)

    def store_operand(self, h: Vec, block: Any) -> None:
        """The matvec operand of h, encoded for the dot product, into the block's place of the next operands."""
        operand = lift(fixedpoint.to_operand)(h, self.format(H_SHIFT, *FRAC), self.format(H_LIMIT, 1, 32767))
        self.store_encoded(operand, self.args["following"], block)

    def store_encoded(self, operand: Vec, base: Any, block: Any) -> None:
        """Encode operands as the instruction set reads them; see `Isa`."""
        b, isa = self.builder, self.isa
        if isa.operand_bits == 16:
            self.store(operand, self.at(base, block, 2 * isa.units), 16)
            return
        place = self.at(base, block, isa.units)
        with b.if_else(b.icmp_signed("==", self.args["planes"], const(1))) as (narrow, two):
            with narrow:
                self.store(operand + isa.offset, place, 8)
            with two:  # the high bytes first: `dots` raises their sums when it goes on to the low ones
                self.store((operand >> 8) + isa.offset, place, 8)
                low_plane = b.mul(self.args["groups"], const(isa.group))
                self.store(operand + isa.low_offset, b.add(place, low_plane), 8)


def panels(step: Step, block: Any, first: int, count: int) -> list[Any]:
    """Addresses of a block's packed weights of ``count`` gates from ``first`` on, of each of its panels."""
    b, isa = step.builder, step.isa
    of_gate = step.layout.gate_bytes(b, step.args["groups"])
    weights = b.add(step.args["weights"], b.mul(block, b.mul(of_gate, const(step.gates * isa.halves))))
    return [b.add(weights, b.mul(of_gate, const(first * isa.halves + count * half))) for half in range(isa.halves)]


def block_params(step: Step, block: Any) -> Any:
    """Address of a block's row parameters."""
    return step.at(step.args["params"], block, 4 * ROW_PARAMS * step.gates * step.isa.units)


def _sums(step: Step, block: Any, first: int, count: int) -> tuple[list[Vec], list[Vec], list[Any]]:
    """Of ``count`` gates from ``first`` on: the inputs' parts, the recurrent parts, the pre_shifts."""
    b, isa, args = step.builder, step.isa, step.args
    params, size, halves = block_params(step, block), 4 * isa.units, range(isa.halves)
    if step.accumulators is None:
        starts = step.biases(params, first, count, halves)
        accs = step.dots(panels(step, block, first, count), [args["now"]], count, starts)[0]
    else:
        kind = vector_type(isa.lanes, 32)
        accs = [load(b, b.add(step.accumulators, const(4 * isa.lanes * k)), kind) for k in range(count * isa.halves)]
    sums = [tuple(accs[k * isa.halves : (k + 1) * isa.halves]) for k in range(count)]
    hs = [step.requantized(acc, params, first + k) for k, acc in enumerate(sums)]
    xs_base = step.at(args["xs"], block, step.gates * size)
    xs = [step.vector(b.add(xs_base, const(size * (first + k))), *REQUANTIZED) for k in range(count)]
    return xs, hs, [step.pre_shift(params, first + k) for k in range(count)]


def _finish(step: Step, block: Any, h: Vec) -> None:
    """Store h as int16, and its operand for the next step."""
    step.store(h, step.at(step.args["h"], block, 2 * step.isa.units), 16)
    step.store_operand(h, block)


def lstm_block(step: Step, block: Any) -> None:
    """Gates i, f, g, o."""
    xs, hs, shifts = _sums(step, block, 0, 4)
    pre = [lift(cells.preactivation)(x, h, s) for x, h, s in zip(xs, hs, shifts, strict=True)]
    i, f, g, o = (step.activate(k, pre[k], SIGNED if k == 2 else UNIT) for k in range(4))
    c_at = step.at(step.args["c"], block, 4 * step.isa.units)
    c = lift(cells.lstm_cell_state)(i, f, g, step.vector(c_at, *INT32), Q15, step.format(PRODUCT))
    step.store(c, c_at)
    a = step.activate(4, lift(cells.lstm_output_argument)(c, step.format(ARGUMENT, 1)), SIGNED)
    shift = Q15 if step.simple else step.format(HIDDEN)
    _finish(step, block, lift(cells.lstm_hidden_state)(o, a, shift))


def _blend(step: Step, block: Any, z: Vec, n: Vec) -> None:
    h = step.vector(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED, 16)
    shift = 0 if step.simple else step.format(CANDIDATE, *FRAC)
    _finish(step, block, lift(cells.gru_hidden_state)(z, n, h, Q15, shift))


def gru_reset_after_block(step: Step, block: Any) -> None:
    """linear_before_reset = 1: gates r, z, n."""
    xs, hs, shifts = _sums(step, block, 0, 3)
    r, z = (step.activate(k, lift(cells.preactivation)(xs[k], hs[k], shifts[k]), UNIT) for k in range(2))
    pre_n = lift(cells.candidate_after_reset)(xs[2], hs[2], r, Q15, shifts[2])
    _blend(step, block, z, step.activate(2, pre_n, SIGNED))


def gru_reset_before_r_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, first phase: r and z; the operands of r·h go to ``reset``, z to ``z``."""
    xs, hs, shifts = _sums(step, block, 0, 2)
    r, z = (step.activate(k, lift(cells.preactivation)(xs[k], hs[k], shifts[k]), UNIT) for k in range(2))
    h = step.vector(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED, 16)
    operand = lift(cells.reset_operand)(r, h, Q15, step.format(H_SHIFT, *FRAC), step.format(H_LIMIT, 1, 32767))
    step.store_encoded(operand, step.args["reset"], block)
    step.store(z, step.at(step.args["z"], block, 4 * step.isa.units))


def gru_reset_before_n_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, second phase: n from all of ``reset``, given as ``now``."""
    xs, hs, shifts = _sums(step, block, 2, 1)
    n = step.activate(2, lift(cells.preactivation)(xs[0], hs[0], shifts[0]), SIGNED)
    z = step.vector(step.at(step.args["z"], block, 4 * step.isa.units), *UNIT)
    _blend(step, block, z.narrowed(), n)


def rnn_block(step: Step, block: Any) -> None:
    """The one gate h."""
    xs, hs, shifts = _sums(step, block, 0, 1)
    activated = step.activate(
        0, lift(cells.preactivation)(xs[0], hs[0], shifts[0]), SIGNED if step.simple else (-32768, 32768)
    )
    _finish(step, block, lift(cells.rnn_hidden_state)(activated, step.format(HIDDEN)))


@dataclass(frozen=True)
class Phase:
    """A part of a step that needs no other unit's results: what it does with a block, and which gates' rows it multiplies."""

    block: Callable[[Step, Any], None]
    roles: int
    """Gate functions of the whole cell; ``gates``, those of them that have rows."""
    gates: int
    first: int
    count: int


PHASES = {
    "lstm": Phase(lstm_block, 5, 4, 0, 4),
    "gru_reset_after": Phase(gru_reset_after_block, 3, 3, 0, 3),
    "gru_reset_before_r": Phase(gru_reset_before_r_block, 3, 3, 0, 2),
    "gru_reset_before_n": Phase(gru_reset_before_n_block, 3, 3, 2, 1),
    "rnn": Phase(rnn_block, 1, 1, 0, 1),
}

STEP_ARGS = (
    "weights",
    "params",
    "functions",
    "formats",
    "now",
    "following",
    "reset",
    "z",
    "xs",
    "h",
    "c",
    "groups",
    "planes",
)
"""What `emit_step` takes by name: addresses, then the groups of h's columns and the planes of operand bytes."""


def emit_step(
    builder: Any,
    isa: Isa,
    name: str,
    simple: bool,
    values: Sequence[Any],
    first: Any,
    last: Any,
    back: Any,
    bits: int = 8,
) -> None:
    """Blocks first … last - 1 of one time step of cell ``name``, in this order or, with ``back``, in the opposite one.

    ``simple``: see `qrnn.backends.cpu.packed.is_simple`; ``bits``: of the packed weights.
    """
    phase = PHASES[name]
    step = Step(builder, isa, dict(zip(STEP_ARGS, values, strict=True)), phase.gates, simple, bits)
    step.read_ahead(phase.roles)
    back = builder.icmp_signed("!=", back, const(0))
    mirror = builder.sub(builder.add(first, last), const(1))
    with cgutils.for_range_slice(builder, first, last, const(1)) as (block, _):
        phase.block(step, builder.select(back, builder.sub(mirror, block), block))


ENCODE_ARGS = ("x", "x_step", "columns", "tail", "out", "out_step", "shift", "limit", "groups", "planes")
"""What `emit_encode` takes by name: addresses of int16 and of bytes and how far apart vectors are; columns of a vector; room for a block of
int16; the operands' format, groups of columns, planes of bytes."""


def emit_encode(builder: Any, isa: Isa, values: Sequence[Any], count: Any) -> None:
    """The operands of ``count`` vectors of int16, encoded; block by block, the last columns from a copy that can be read as a block."""
    args = dict(zip(ENCODE_ARGS, values, strict=True))
    step = Step(builder, isa, args, 0)
    b, units = builder, const(isa.units)
    shift, limit = (b.trunc(args[name], I32) for name in ("shift", "limit"))
    by, most = Vec.scalar(b, shift, isa.units, *FRAC), Vec.scalar(b, limit, isa.units, 1, 32767)
    whole, rest = b.sdiv(args["columns"], units), b.srem(args["columns"], units)

    def encode(x: Any, out: Any, block: Any) -> None:
        operand = lift(fixedpoint.to_operand)(step.vector(x, -32768, 32767, 16), by, most)
        step.store_encoded(operand, out, block)

    with cgutils.for_range_slice(b, const(0), count, const(1)) as (k, _):
        x, out = b.add(args["x"], b.mul(k, args["x_step"])), b.add(args["out"], b.mul(k, args["out_step"]))
        with cgutils.for_range_slice(b, const(0), whole, const(1)) as (block, _):
            encode(step.at(x, block, 2 * isa.units), out, block)
        with b.if_then(b.icmp_signed("!=", rest, const(0))):
            copy_words(b, args["tail"], step.at(x, whole, 2 * isa.units), rest)
            encode(args["tail"], out, whole)


def emit_reorder(builder: Any, isa: Isa, values: Sequence[Any], count: Any, back: bool) -> None:
    """``count`` blocks of int32 from the first address to the second: units into the order of the panels' rows (`Isa.unit_order`), or back."""
    source, target = values
    order = isa.unit_order()
    if back:
        order = [order.index(unit) for unit in range(isa.units)]
    kind = vector_type(isa.units, 32)
    with cgutils.for_range_slice(builder, const(0), count, const(1)) as (block, _):
        offset = builder.mul(block, const(4 * isa.units))
        found = load(builder, builder.add(source, offset), kind, 4)
        moved = builder.shuffle_vector(found, ir.Constant(kind, ir.Undefined), ir.Constant(kind, order))
        store(builder, moved, builder.add(target, offset), 4)
