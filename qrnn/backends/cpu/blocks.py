"""One step of a cell for blocks of hidden units, fused: dot products, requantization, gates and state stay in registers.

These functions emit LLVM. All arithmetic is the contract's, lifted to vectors (`qrnn.backends.cpu.vector`); here are loads, loops and stores.
A block is ``lanes`` hidden units. Addresses are byte addresses in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.backends.cpu.formats import ARGUMENT, CANDIDATE, FORMATS, H_LIMIT, H_SHIFT, HIDDEN, PRODUCT
from qrnn.backends.cpu.isa import Isa, load, store
from qrnn.backends.cpu.panels import panels
from qrnn.backends.cpu.vector import I32, I64, Vec, lift, splat, vector_type

BIAS, MULTIPLIER, LEFT_SHIFT, PRE_SHIFT = 0, 1, 2, 3
ROW_PARAMS = 4
"""int32 vectors per gate in a block's parameters, in this order."""

GATE_WORDS = 8
"""int64 per gate function in the packed gates: kind, then up to five parameters, then the address of the table's pairs."""
TABLE_PAIRS = 6

SMALL_TABLE = 128
"""Segments of a table that is looked up in registers, where the instruction set can."""

RAMP_INTERCEPT = (1 << 30) - (1 << 16)
"""Of ramps that are computed in 32-bit lanes."""

INT32 = (-(1 << 31), (1 << 31) - 1)
REQUANTIZED = (-(1 << 30) + 1, (1 << 30) - 1)
FRAC, SHIFT = (0, 15), (0, 30)
UNIT, SIGNED = (0, 1 << 15), (-32767, 32767)
"""Gate values in Q0.15: of i f o r z, and of the candidates and the cell's activation."""
Q15 = 15


def const(value: int) -> Any:
    """An i64 constant."""
    return ir.Constant(I64, value)


class Table:
    """A gate's table for `gates.piecewise_linear`: entries and differences side by side, so that one lookup brings both."""

    def __init__(self, builder: Any, pairs: Any, small: bool) -> None:
        self.builder, self.pairs, self.small = builder, pairs, small
        self._last: tuple[Vec, Vec, Vec] | None = None

    def __getitem__(self, k: Vec) -> Vec:
        if self._last is not None:
            found, entry, difference = self._last
            if found is k:
                return entry
            if found is k.successor_of:
                after = entry + difference
                after.difference = (entry, difference)
                return after
        pair = self._permuted(k) if self.small and k.lanes == 16 else self._gathered(k)
        sixteen = ir.Constant(pair.type, [16] * k.lanes)
        entry = Vec(self.builder, self.builder.ashr(self.builder.shl(pair, sixteen), sixteen), -32768, 32767)
        difference = Vec(self.builder, self.builder.ashr(pair, sixteen), -32768, 32767)
        self._last = (k, entry, difference)
        return entry

    def _gathered(self, k: Vec) -> Any:
        """One load a lane."""
        b, lanes = self.builder, k.lanes
        offsets = b.shl(b.sext(k.value, vector_type(lanes, 64)), ir.Constant(vector_type(lanes, 64), [2] * lanes))
        addresses = b.add(offsets, splat(b, self.pairs, lanes))
        pointers = b.inttoptr(addresses, ir.VectorType(I32.as_pointer(), lanes))
        kind, mask = vector_type(lanes, 32), ir.VectorType(ir.IntType(1), lanes)
        gather = cgutils.get_or_insert_function(
            b.module,
            ir.FunctionType(kind, [pointers.type, I32, mask, kind]),
            f"llvm.masked.gather.v{lanes}i32.v{lanes}p0",
        )
        every = ir.Constant(mask, [1] * lanes)
        return b.call(gather, [pointers, ir.Constant(I32, 4), every, ir.Constant(kind, ir.Undefined)])

    def _permuted(self, k: Vec) -> Any:
        """From registers: `SMALL_TABLE` pairs are eight of AVX-512's, of which one instruction permutes two."""
        b, kind = self.builder, vector_type(16, 32)
        permute = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(kind, [kind] * 3), "llvm.x86.avx512.vpermi2var.d.512"
        )
        parts = [load(b, b.add(self.pairs, const(64 * j)), kind, 4) for j in range(8)]
        quarters = [b.call(permute, [parts[2 * j], k.value, parts[2 * j + 1]]) for j in range(4)]

        def bit(n: int) -> Any:
            masked = b.and_(k.value, ir.Constant(kind, [n] * 16))
            return b.icmp_signed("!=", masked, ir.Constant(kind, None))

        odd = bit(32)
        return b.select(bit(64), b.select(odd, quarters[3], quarters[2]), b.select(odd, quarters[1], quarters[0]))


class Step:
    """What the cells share: where a step's data lie, and how a block's parts are read."""

    def __init__(
        self, builder: Any, isa: Isa, args: dict[str, Any], gate_count: int, simple: bool = False, bits: int = 8
    ) -> None:
        self.builder, self.isa, self.args, self.gates, self.simple = builder, isa, args, gate_count, simple
        self.panels = panels(isa, bits)
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
            self._functions[role] = [b.trunc(w, I32) for w in words[:TABLE_PAIRS]] + [words[TABLE_PAIRS]]

    def at(self, base: Any, index: Any, size: int, offset: int = 0) -> Any:
        """base + index · size + offset."""
        b = self.builder
        address = b.add(base, b.mul(index, const(size)))
        return b.add(address, const(offset)) if offset else address

    def vector(self, address: Any, low: int, high: int, bits: int = 32) -> Vec:
        """``lanes`` integers of ``bits``."""
        value = load(self.builder, address, vector_type(self.isa.lanes, bits))
        return Vec(self.builder, value, low, high) if bits == 32 else Vec(self.builder, self._sext(value), low, high)

    def _sext(self, value: Any) -> Any:
        return self.builder.sext(value, vector_type(self.isa.lanes, 32))

    def format(self, place: int, low: int = 0, high: int = 30) -> Vec:
        """An entry of the direction's formats."""
        return Vec.scalar(self.builder, self._formats[place], self.isa.lanes, low, high)

    def dots(self, weights: Any, operands: Sequence[Any], groups: Any, count: int, planes: Any) -> list[list[Any]]:
        """For each of several operand vectors ``count`` accumulators <lanes x i32>: packed weights times operands.

        Over all groups of columns and planes of operand bytes; ``groups`` is even. One vector alone has two sets of accumulators, for even
        and odd groups, as its sums would else wait for each other (those of four-bit weights do not).
        """
        b, isa = self.builder, self.isa
        kind = vector_type(isa.lanes, 32)
        zero = ir.Constant(kind, [0] * isa.lanes)
        unit = self.panels.unit
        unroll = 2 if len(operands) == 1 and unit == 1 else 1
        entry = b.basic_block
        plane_loop, loop, plane_end, done = (b.append_basic_block(n) for n in ("plane", "dot", "plane_end", "dots"))
        b.branch(plane_loop)

        b.position_at_end(plane_loop)
        plane = b.phi(I64)
        carried = [b.phi(kind) for _ in range(len(operands) * count)]
        eight = ir.Constant(kind, [8] * isa.lanes)
        raised = [b.shl(c, eight) for c in carried]  # the plane before was of the high bytes
        x_planes = [b.add(x, b.mul(plane, b.mul(groups, const(isa.operand_size)))) for x in operands]
        b.branch(loop)

        b.position_at_end(loop)
        i = b.phi(I64)
        sets = [[b.phi(kind) for _ in raised] for _ in range(unroll)]
        new = []
        for k, phis in enumerate(sets):
            group = b.add(i, const(k))
            new.append(self.panels.products(b, phis, x_planes, weights, group, groups))
        following = b.add(i, const(unroll * unit))
        i.add_incoming(const(0), plane_loop)
        i.add_incoming(following, loop)
        for k, phis in enumerate(sets):
            for phi, start, value in zip(phis, raised, new[k], strict=True):
                phi.add_incoming(zero if k else start, plane_loop)
                phi.add_incoming(value, loop)
        b.cbranch(b.icmp_signed("<", following, groups), loop, plane_end)

        b.position_at_end(plane_end)
        sums = new[0] if unroll == 1 else [b.add(u, v) for u, v in zip(*new, strict=True)]
        next_plane = b.add(plane, const(1))
        plane.add_incoming(const(0), entry)
        plane.add_incoming(next_plane, plane_end)
        for phi, value in zip(carried, sums, strict=True):
            phi.add_incoming(zero, entry)
            phi.add_incoming(value, plane_end)
        b.cbranch(b.icmp_signed("<", next_plane, planes), plane_loop, done)
        b.position_at_end(done)
        return [sums[k * count : (k + 1) * count] for k in range(len(operands))]

    def row_param(self, params: Any, gate: int, which: int, low: int, high: int) -> Vec:
        """A row parameter of the block's gate."""
        offset = (which * self.gates + gate) * self.isa.lanes * 4
        return self.vector(self.builder.add(params, const(offset)), low, high)

    def requantized(self, acc: Any, params: Any, gate: int) -> Vec:
        """The partial sum of a gate's rows: bias added, requantized."""
        bias = self.row_param(params, gate, BIAS, *INT32)
        total = Vec(self.builder, self.builder.add(acc, bias.value), *INT32)  # wraps to what the proof bounds
        total.shifted = INT32
        multiplier = self.row_param(params, gate, MULTIPLIER, 0, INT32[1] - 1)
        found: Vec = lift(fixedpoint.requantize)(total, multiplier, self.row_param(params, gate, LEFT_SHIFT, *SHIFT))
        return Vec(self.builder, found.value, *REQUANTIZED)

    def pre_shift(self, params: Any, gate: int) -> Any:
        """The pre_shift of a gate's rows."""
        return 0 if self.simple else self.row_param(params, gate, PRE_SHIFT, *FRAC)

    def activate(self, role: int, x: Vec, bounds: tuple[int, int]) -> Vec:
        """The gate function ``role``, a table or a ramp, whichever the model says; its values lie within ``bounds``."""
        b = self.builder
        # An argument is an int16, which its bounds do not say where it was shifted left.
        x = Vec(b, x.value, -32768, 32767)
        kind, *words, pairs = self._functions[role]

        def scalar(k: int, low: int, high: int) -> Vec:
            return Vec.scalar(b, words[k], self.isa.lanes, low, high)

        with b.if_else(b.icmp_signed("==", kind, ir.Constant(I32, gates.ODD))) as (odd, ramp):
            with odd:
                offset = scalar(0, 0 if self.simple else -(1 << 14), 1 << 14)
                cut = 0 if self.simple else scalar(2, 0, 32767)
                table = Table(b, pairs, self.simple)
                from_table = lift(gates.evaluate_odd)(x, offset, scalar(1, *FRAC), cut, table).value
                table_block = b.basic_block
            with ramp:
                line = (scalar(0, -32767, 32767), scalar(1, -RAMP_INTERCEPT, RAMP_INTERCEPT), scalar(2, *FRAC))
                ends = (scalar(3, -32768, 32768), scalar(4, -32768, 32768))
                from_ramp = lift(gates.evaluate_ramp)(x, *line, *ends).value
                ramp_block = b.basic_block
        value = b.phi(from_table.type)
        value.add_incoming(from_table, table_block)
        value.add_incoming(from_ramp, ramp_block)
        return Vec(b, value, *bounds)

    def store_operand(self, h: Vec, block: Any) -> None:
        """The matvec operand of h, encoded for the dot product, into the block's place of the next operands."""
        operand = lift(fixedpoint.to_operand)(h, self.format(H_SHIFT, *FRAC), self.format(H_LIMIT, 1, 32767))
        self.store_encoded(operand, self.args["following"], block)

    def store_encoded(self, operand: Vec, base: Any, block: Any) -> None:
        """Encode operands as the instruction set reads them; see `Isa`."""
        b, isa = self.builder, self.isa
        lanes = isa.lanes
        if isa.operand_bits == 16:
            store(b, b.trunc(operand.value, vector_type(lanes, 16)), self.at(base, block, 2 * lanes))
            return
        place = self.at(base, block, lanes)
        byte = vector_type(lanes, 8)
        with b.if_else(b.icmp_signed("==", self.args["planes"], const(1))) as (narrow, two):
            with narrow:
                store(b, b.trunc((operand + isa.offset).value, byte), place)
            with two:  # the high bytes first: `dots` raises their sums when it goes on to the low ones
                store(b, b.trunc(((operand >> 8) + isa.offset).value, byte), place)
                low_plane = b.mul(self.args["groups"], const(isa.group))
                store(b, b.trunc(operand.value, byte), b.add(place, low_plane))


def panel(step: Step, block: Any, first: int) -> Any:
    """Address of a block's packed weights from gate ``first`` on."""
    b = step.builder
    of_gate = step.panels.gate_bytes(b, step.args["groups"])
    weights = b.add(step.args["weights"], b.mul(block, b.mul(of_gate, const(step.gates))))
    return b.add(weights, b.mul(of_gate, const(first)))


def _sums(step: Step, block: Any, first: int, count: int) -> tuple[list[Vec], list[Vec], list[Any]]:
    """Of ``count`` gates from ``first`` on: the inputs' parts, the recurrent parts, the pre_shifts."""
    b, isa, args = step.builder, step.isa, step.args
    params = step.at(args["params"], block, 4 * ROW_PARAMS * step.gates * isa.lanes)
    if step.accumulators is None:
        accs = step.dots(panel(step, block, first), [args["now"]], args["groups"], count, args["planes"])[0]
    else:
        kind = vector_type(isa.lanes, 32)
        accs = [load(b, b.add(step.accumulators, const(4 * isa.lanes * k)), kind) for k in range(count)]
    hs = [step.requantized(acc, params, first + k) for k, acc in enumerate(accs)]
    xs_base = step.at(args["xs"], block, 4 * step.gates * isa.lanes)
    xs = [step.vector(b.add(xs_base, const(4 * isa.lanes * (first + k))), *REQUANTIZED) for k in range(count)]
    return xs, hs, [step.pre_shift(params, first + k) for k in range(count)]


def _finish(step: Step, block: Any, h: Vec) -> None:
    """Store h as int16, and its operand for the next step."""
    b, lanes = step.builder, step.isa.lanes
    store(b, b.trunc(h.value, vector_type(lanes, 16)), step.at(step.args["h"], block, 2 * lanes))
    step.store_operand(h, block)


def lstm_block(step: Step, block: Any) -> None:
    """Gates i, f, g, o."""
    lanes = step.isa.lanes
    xs, hs, shifts = _sums(step, block, 0, 4)
    pre = [lift(cells.preactivation)(x, h, s) for x, h, s in zip(xs, hs, shifts, strict=True)]
    i, f, g, o = (step.activate(k, pre[k], SIGNED if k == 2 else UNIT) for k in range(4))
    c_at = step.at(step.args["c"], block, 4 * lanes)
    c = lift(cells.lstm_cell_state)(i, f, g, step.vector(c_at, *INT32), Q15, step.format(PRODUCT))
    store(step.builder, c.value, c_at)
    a = step.activate(4, lift(cells.lstm_output_argument)(c, step.format(ARGUMENT, 1)), SIGNED)
    _finish(step, block, lift(cells.lstm_hidden_state)(o, a, step.format(HIDDEN)))


def _blend(step: Step, block: Any, z: Vec, n: Vec) -> None:
    h = step.vector(step.at(step.args["h"], block, 2 * step.isa.lanes), *SIGNED, 16)
    _finish(step, block, lift(cells.gru_hidden_state)(z, n, h, Q15, step.format(CANDIDATE, *FRAC)))


def gru_reset_after_block(step: Step, block: Any) -> None:
    """linear_before_reset = 1: gates r, z, n."""
    xs, hs, shifts = _sums(step, block, 0, 3)
    r, z = (step.activate(k, lift(cells.preactivation)(xs[k], hs[k], shifts[k]), UNIT) for k in range(2))
    pre_n = lift(cells.candidate_after_reset)(xs[2], hs[2], r, Q15, shifts[2])
    _blend(step, block, z, step.activate(2, pre_n, SIGNED))


def gru_reset_before_r_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, first phase: r and z; the operands of r·h go to ``reset``, z to ``z``."""
    lanes = step.isa.lanes
    xs, hs, shifts = _sums(step, block, 0, 2)
    r, z = (step.activate(k, lift(cells.preactivation)(xs[k], hs[k], shifts[k]), UNIT) for k in range(2))
    h = step.vector(step.at(step.args["h"], block, 2 * lanes), *SIGNED, 16)
    operand = lift(cells.reset_operand)(r, h, Q15, step.format(H_SHIFT, *FRAC), step.format(H_LIMIT, 1, 32767))
    step.store_encoded(operand, step.args["reset"], block)
    store(step.builder, z.value, step.at(step.args["z"], block, 4 * lanes))


def gru_reset_before_n_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, second phase: n from all of ``reset``, given as ``now``."""
    xs, hs, shifts = _sums(step, block, 2, 1)
    n = step.activate(2, lift(cells.preactivation)(xs[0], hs[0], shifts[0]), SIGNED)
    _blend(step, block, step.vector(step.at(step.args["z"], block, 4 * step.isa.lanes), *UNIT), n)


def rnn_block(step: Step, block: Any) -> None:
    """The one gate h."""
    xs, hs, shifts = _sums(step, block, 0, 1)
    activated = step.activate(0, lift(cells.preactivation)(xs[0], hs[0], shifts[0]), (-32768, 32768))
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
    builder: Any, isa: Isa, name: str, simple: bool, bits: int, values: Sequence[Any], first: Any, last: Any, back: Any
) -> None:
    """Blocks first … last - 1 of one time step of cell ``name``, in this order or, with ``back``, in the opposite one.

    ``simple``: see `qrnn.backends.cpu.packed.is_simple`. ``bits``: of the packed weights.
    """
    phase = PHASES[name]
    step = Step(builder, isa, dict(zip(STEP_ARGS, values, strict=True)), phase.gates, simple, bits)
    step.read_ahead(phase.roles)
    back = builder.icmp_signed("!=", back, const(0))
    mirror = builder.sub(builder.add(first, last), const(1))
    with cgutils.for_range_slice(builder, first, last, const(1)) as (block, _):
        phase.block(step, builder.select(back, builder.sub(mirror, block), block))


ENCODE_ARGS = ("x", "out", "shift", "limit", "groups", "planes")
"""What `emit_encode` takes by name: addresses of int16 and of bytes, the operand's format, groups of columns, planes of bytes."""


def emit_encode(builder: Any, isa: Isa, values: Sequence[Any], count: Any) -> None:
    """The operands of count · ``lanes`` int16, encoded."""
    args = dict(zip(ENCODE_ARGS, values, strict=True))
    step = Step(builder, isa, args, 0)
    shift, limit = (builder.trunc(args[name], I32) for name in ("shift", "limit"))
    with cgutils.for_range_slice(builder, const(0), count, const(1)) as (block, _):
        x = step.vector(step.at(args["x"], block, 2 * isa.lanes), -32768, 32767, 16)
        by, most = Vec.scalar(builder, shift, isa.lanes, *FRAC), Vec.scalar(builder, limit, isa.lanes, 1, 32767)
        step.store_encoded(lift(fixedpoint.to_operand)(x, by, most), args["out"], block)
