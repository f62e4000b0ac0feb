"""One step of a cell for blocks of hidden units, fused: dot products, requantization, gates and state stay in registers.

See `qrnn.backends.cpu.steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from qrnn.arithmetic import cells, fixedpoint
from qrnn.backends.cpu.beside import Tiles
from qrnn.backends.cpu.four_bits import FourBitLayout
from qrnn.backends.cpu.isa import Isa, const, copy_int16, first_int16, load, store
from qrnn.backends.cpu.pages import CACHE_LINE
from qrnn.backends.cpu.parts import I32, I64, for_range, vector_type
from qrnn.backends.cpu.steps import (
    FRAC,
    INT32,
    PEEPHOLE,
    PEEPHOLE_SHIFT,
    Q15,
    REQUANTIZED,
    SIGNED,
    KernelVariant,
    Step,
    block_params,
    half_blocks,
)
from qrnn.backends.cpu.vector import INT16, Vec, lift
from qrnn.model.cell_formats import (
    ARGUMENT,
    CANDIDATE,
    FORGET_FRAC,
    H_LIMIT,
    H_SHIFT,
    HIDDEN,
    INPUT_FRAC,
    PRODUCT,
    RESET_FRAC,
    UPDATE_FRAC,
)
from qrnn.model.kinds.recurrent.definition import Forget
from qrnn.model.kinds.recurrent.quantized import PEEPHOLE_SHIFT_MAX, QuantRecurrentDefinition

SumsOfGate = tuple[Vec, Vec, Any]
"""The inputs' part, the recurrent part and the pre_shift of a gate."""


class Sums:
    """The sums of a block's gates, requantized: ``sums[gate]`` is that gate's; ``params`` are the row parameters of the block."""

    def __init__(self, params: Any, found: dict[int, SumsOfGate]) -> None:
        self.params, self._found = params, found

    def __getitem__(self, gate: int) -> SumsOfGate:
        return self._found[gate]


class BlockSums(Sums):
    """The sums of a block whose gates are multiplied together.

    The products are made here, of all ``count`` gates from ``first`` on, or they were made before (`Step.accumulators`), and a gate's are
    read when it is asked for: those of a group of sequences, and of weights of four bits.
    """

    def __init__(self, step: Step, block: Any, first: int, count: int) -> None:
        super().__init__(block_params(step, block), {})
        self._step, self._first = step, first
        self._size = 4 * step.isa.units
        self._xs = step.builder.add(step.args["xs"], step.builder.mul(block, step.args["xs_block"]))
        if step.accumulators is None:
            halves = range(step.isa.halves)
            starts = step.biases(self.params, first, count, halves)
            accs = _products(step, half_blocks(step, block, first, count), count, starts)
            for k in range(count):
                self._found[first + k] = self._of(first + k, tuple(accs[k * len(halves) : (k + 1) * len(halves)]))

    def place(self, gate: int) -> Any:
        """Return where the products of a gate lie that were made before."""
        return self._step.builder.add(self._step.accumulators, const(self._size * (gate - self._first)))

    def _of(self, gate: int, products: Any) -> SumsOfGate:
        step = self._step
        h = step.requantized(products, step.factors(self.params, gate))
        x = step.vector(step.builder.add(self._xs, const(self._size * gate)), *REQUANTIZED)
        return x, h, step.pre_shift(self.params, gate)

    def __getitem__(self, gate: int) -> SumsOfGate:
        if gate not in self._found:
            self._found[gate] = self._of(gate, self._step.vector(self.place(gate), *INT32).parts)
        return self._found[gate]


def _products(step: Step, addresses: list[Any], count: int, starts: list[Any]) -> list[Any]:
    """Return the sums [gate, half block] of a block of a sequence alone; a half tail leaves zeros out, unless something goes beside."""
    operands = [step.args["now"]]
    if step.tail is None or len(addresses) == 1:
        return step.dots(addresses, operands, count, starts)[0]
    b, beside = step.builder, step.first_products
    half = step.tail if step.beside_wanted is None else b.and_(step.tail, b.not_(step.beside_wanted))
    with b.if_else(half) as (one, both):
        with one:
            step.first_products = None
            first = step.dots(addresses[:1], operands, count, starts[::2])[0]
            step.first_products = beside
            found = [v for pair in zip(first, starts[1::2], strict=True) for v in pair]
            after_one = b.basic_block
        with both:
            every = step.dots(addresses, operands, count, starts)[0]
            after_both = b.basic_block
    merged = [b.phi(v.type) for v in starts]
    for phi, u, v in zip(merged, found, every, strict=True):
        phi.add_incoming(u, after_one)
        phi.add_incoming(v, after_both)
    return merged


def _argument(step: Step, sums: Sums, gate: int, block: Any) -> Vec:
    """Return the argument of a gate's function, the sum of its parts."""
    found: Vec = lift(cells.preactivation)(*sums[gate])
    step.keep(found, block, gate)
    return found


def _finish(step: Step, block: Any, h: Vec) -> None:
    """Store h as int16, and its operand for the next step."""
    h = step.in_order(h)
    step.store(h, step.at(step.args["h"], block, 2 * step.isa.units), 16)
    step.store_operand(h, block)


def _peephole(step: Step, params: Any, gate: int, c: Vec) -> Vec:
    """Return what a gate sees of the cell."""
    weight = step.row_param(params, gate, PEEPHOLE, *INT16)
    shift = step.row_param(params, gate, PEEPHOLE_SHIFT, 0, PEEPHOLE_SHIFT_MAX)
    found: Vec = lift(cells.peephole)(c, weight, shift)
    return found


def _seeing(step: Step, sums: Sums, gate: int, block: Any, c: Vec) -> Vec:
    """Return the argument of a gate with a peephole on the cell ``c``."""
    x, h, shift = sums[gate]
    found: Vec = lift(cells.preactivation)(x + _peephole(step, sums.params, gate, c), h, shift)
    step.keep(found, block, gate)
    return found


def _cell(step: Step, block: Any) -> Any:
    """Return where the block's c lies."""
    return step.at(step.args["c"], block, 4 * step.isa.units)


def _lstm_argument(step: Step, sums: Sums, gate: int, block: Any, forget: Forget = "gate") -> Vec:
    """Return the argument of an LSTM's gate before the new cell is there: a peephole of i or f sees the old one."""
    if not step.variant.peephole or gate == _G[forget]:
        return _argument(step, sums, gate, block)
    return _seeing(step, sums, gate, block, step.vector(_cell(step, block), *INT32))


_G = {"gate": 2, "one": 1, "coupled": 1}
"""forget → the number of the LSTM's candidate: the gates are i, f, g, o, without f unless it is a gate of its own."""


def _lstm_before(step: Step, forget: Forget) -> range:
    """Return the gates of an LSTM that need no new cell: all but an o that has a peephole on it."""
    g = _G[forget]
    return range(g + 1 if step.variant.peephole else g + 2)


def _lstm_after(step: Step, block: Any, sums: Sums, values: Sequence[Vec], forget: Forget) -> None:
    """Compute the new cell and state of an LSTM."""
    g = _G[forget]
    o = g + 1
    i, candidate = values[0], values[g]
    f: Any = fixedpoint.Q15_ONE
    frac: Any = Q15
    if forget != "one":
        f = values[1] if forget == "gate" else lift(cells.coupled_forget)(i, step.gate_frac(INPUT_FRAC))
        frac = step.gate_frac(FORGET_FRAC)
    c_at = _cell(step, block)
    c = lift(cells.lstm_cell_state)(i, f, candidate, step.vector(c_at, *INT32), frac, step.format(PRODUCT))
    step.store(c, c_at)
    out = values[o] if len(values) > o else step.activate(o, _seeing(step, sums, o, block, c))
    finer = 2 if step.simple else 1 if step.variant.spans else 0
    a = step.activate(o + 1, lift(cells.lstm_output_argument)(c, step.format(ARGUMENT, finer)))
    shift = Q15 if step.simple and not step.variant.rescaled else step.format(HIDDEN)
    _finish(step, block, lift(cells.lstm_hidden_state)(out, a, shift))


def _blend(step: Step, block: Any, z: Vec, n: Vec) -> None:
    h = step.state(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED)
    shift = 0 if step.simple and not step.variant.rescaled else step.format(CANDIDATE, *FRAC)
    _finish(step, block, lift(cells.gru_hidden_state)(z, n, h, step.gate_frac(UPDATE_FRAC), shift))


def _after_reset(step: Step, block: Any, sums: Sums, values: Sequence[Vec]) -> None:
    """Compute n and the new state from r and z, for linear_before_reset = 1."""
    x, h, shift = sums[2]
    argument = lift(cells.candidate_after_reset)(x, h, values[0], step.gate_frac(RESET_FRAC), shift)
    step.keep(argument, block, 2)
    _blend(step, block, values[1], step.activate(2, argument))


def _before_reset(step: Step, block: Any, _sums: Sums, values: Sequence[Vec]) -> None:
    """Store the operands of r·h in ``reset`` and z in ``z``, from r and z: the first phase for linear_before_reset = 0."""
    r, z = values
    h = step.state(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED)
    formats = (step.gate_frac(RESET_FRAC), step.format(H_SHIFT, *FRAC), step.format(H_LIMIT, 1, 32767))
    operand = lift(cells.reset_operand)(r, h, *formats)
    step.store_encoded(step.in_order(operand), step.args["reset"], block)
    step.store(z, step.at(step.args["z"], block, 4 * step.isa.units))


def _with_reset(step: Step, block: Any, sums: Sums, _values: Sequence[Vec]) -> None:
    """Compute n from all of ``reset``, given as ``now``, and the new state: the second phase for linear_before_reset = 0."""
    n = step.activate(2, _argument(step, sums, 2, block))
    z = step.vector(step.at(step.args["z"], block, 4 * step.isa.units), *step.bounds(1))
    _blend(step, block, z.narrowed(), n)


def _rnn(step: Step, block: Any, _sums: Sums, values: Sequence[Vec]) -> None:
    """Compute the new state from the one gate h."""
    _finish(step, block, lift(cells.rnn_hidden_state)(values[0], step.format(HIDDEN)))


@dataclass(frozen=True)
class Phase:
    """A part of a step that needs no other unit's results: which gates' rows it multiplies, and what it does with a block.

    ``before`` gives the gates whose values are computed each for itself (`value`); ``after`` computes from these what the phase stores.
    """

    after: Callable[[Step, Any, Sums, Sequence[Vec]], None]
    before: Callable[[Step], range]
    roles: int
    """Gate functions of the whole cell; ``gates``, those of them that have rows."""
    gates: int
    first: int
    count: int
    argument: Callable[[Step, Sums, int, Any], Vec] = _argument

    def value(self, step: Step, sums: Sums, gate: int, block: Any) -> Vec:
        """Return the value of a gate's function."""
        return step.activate(gate, self.argument(step, sums, gate, block))

    def block(self, step: Step, block: Any) -> None:
        """Emit the phase for a block of one sequence alone."""
        sums = BlockSums(step, block, self.first, self.count)
        arguments = [self.argument(step, sums, gate, block) for gate in self.before(step)]
        self.after(
            step, block, sums, [step.activate(gate, x) for gate, x in zip(self.before(step), arguments, strict=True)]
        )


def _first(count: int) -> Callable[[Step], range]:
    return lambda _: range(count)


def _lstm(forget: Forget) -> Phase:
    gates = _G[forget] + 2
    return Phase(
        partial(_lstm_after, forget=forget),
        partial(_lstm_before, forget=forget),
        gates + 1,
        gates,
        0,
        gates,
        partial(_lstm_argument, forget=forget),
    )


PHASES = {
    "lstm": _lstm("gate"),
    "lstm_one": _lstm("one"),
    "lstm_coupled": _lstm("coupled"),
    "gru_reset_after": Phase(_after_reset, _first(2), 3, 3, 0, 3),
    "gru_reset_before_r": Phase(_before_reset, _first(2), 3, 3, 0, 2),
    "gru_reset_before_n": Phase(_with_reset, _first(0), 3, 3, 2, 1),
    "rnn": Phase(_rnn, _first(1), 1, 1, 0, 1),
}

CELLS = {
    "lstm": ("lstm",),
    "gru_reset_after": ("gru_reset_after",),
    "gru_reset_before": ("gru_reset_before_r", "gru_reset_before_n"),
    "rnn": ("rnn",),
}
"""The form of a cell → the phases of a step."""

FORGETS = {"one": ("lstm_one",), "coupled": ("lstm_coupled",)}
"""forget → the phases of a step, for an LSTM whose forget gate is not a gate of its own."""


def phases_of(layer: QuantRecurrentDefinition) -> tuple[str, ...]:
    """Return the phases of a layer's steps."""
    return FORGETS.get(layer.forget) or CELLS[layer.declaration.form(layer)]


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
    "xs_block",
    "h",
    "c",
    "groups",
    "byte_parts",
)
"""What `emit_step` takes by name: addresses, with the bytes between two blocks' inputs' parts; then the groups of h's columns and the parts
of operands."""


def emit_step(
    builder: Any,
    isa: Isa,
    name: str,
    variant: KernelVariant,
    values: Sequence[Any],
    first: Any,
    last: Any,
    back: Any,
    tiles: Tiles | None = None,
) -> None:
    """Emit blocks first … last - 1 of one time step of cell ``name``.

    Blocks are computed in this order or, with ``back``, in the opposite one. Each block computes one of ``tiles`` beside its own products,
    as far as there are so many.
    """
    phase = PHASES[name]
    step = Step(builder, isa, dict(zip(STEP_ARGS, values, strict=True)), phase.gates, variant)
    step.read_ahead(phase.roles)
    back = builder.icmp_signed("!=", back, const(0))
    mirror = builder.sub(builder.add(first, last), const(1))
    if isinstance(step.layout, FourBitLayout):
        step.raises = step.layout.raises(builder, step.args["groups"], step.args["now"], step.args["byte_parts"])
        _products_first(step, phase, first, last, lambda turn: builder.select(back, builder.sub(mirror, turn), turn))
        return
    with for_range(builder, first, last) as block:
        own = builder.select(back, builder.sub(mirror, block), block)
        step.begin(block_params(step, own))
        if tiles is not None:
            step.beside_wanted, step.first_products = tiles.products_beside(step, builder.sub(block, first))
        phase.block(step, own)


TOGETHER = 16
"""Blocks with weights of four bits whose products are made before the gates of any of them."""


def _products_first(step: Step, phase: Phase, first: Any, last: Any, block_of: Callable[[Any], Any]) -> None:
    """Compute the products of `TOGETHER` blocks, whose sums wait in memory, then the gates of these.

    Each of the two is then in flight for several blocks. By turns, the products of a block begin when the gates of the one before it end.
    """
    b, isa, halves = step.builder, step.isa, range(step.isa.halves)
    vectors, size = phase.count * isa.halves, 4 * isa.lanes
    with b.goto_entry_block():
        room = b.alloca(vector_type(isa.lanes, 32), TOGETHER * vectors)
        room.align = CACHE_LINE
    places = b.ptrtoint(room, I64)
    with for_range(b, first, last, TOGETHER) as begin:
        end = b.add(begin, const(TOGETHER))
        end = b.select(b.icmp_signed("<", end, last), end, last)
        with for_range(b, begin, end) as turn:
            block, place = block_of(turn), step.at(places, b.sub(turn, begin), size * vectors)
            weights = half_blocks(step, block, phase.first, phase.count)
            biases = step.biases(block_params(step, block), phase.first, phase.count, halves)
            (sums,) = step.dots(weights, [step.args["now"]], phase.count, biases)
            for k, value in enumerate(sums):
                store(b, value, b.add(place, const(size * k)), size)
        with for_range(b, begin, end) as turn:
            block = block_of(turn)
            step.begin(block_params(step, block))
            step.accumulators = step.at(places, b.sub(turn, begin), size * vectors)
            phase.block(step, block)


def emit_copy(builder: Any, values: Sequence[Any]) -> None:
    """Copy so many int16 to an address, from an address: vectors by loads and stores, as a call of memcpy takes longer than a few of them."""
    (to, at, count), b = values, builder
    kind, size = vector_type(COPIED, 16), const(2 * COPIED)
    whole, rest = b.sdiv(count, const(COPIED)), b.srem(count, const(COPIED))
    with for_range(b, const(0), whole) as k:
        offset = b.mul(k, size)
        store(b, load(b, b.add(at, offset), kind), b.add(to, offset))
    with b.if_then(b.icmp_signed(">", rest, const(0))):
        behind = b.mul(whole, size)
        copy_int16(b, b.add(to, behind), b.add(at, behind), rest)


COPIED = 32
"""int16 that are copied at once."""

ENCODE_ARGS = ("x", "x_step", "columns", "tail", "out", "out_step", "shift", "limit", "groups", "byte_parts")
"""What `emit_encode` takes by name: addresses of int16 and of bytes and how far apart vectors are; columns of a vector; room for a block of
int16; the operands' format, groups of columns, parts of operands."""


def emit_encode(builder: Any, isa: Isa, values: Sequence[Any], count: Any) -> None:
    """Encode ``count`` vectors of int16 as operands, block by block. The last columns are read by a mask or from a copy."""
    args = dict(zip(ENCODE_ARGS, values, strict=True))
    step = Step(builder, isa, args, 0, KernelVariant())
    b, units = builder, const(isa.units)
    shift, limit = (b.trunc(args[name], I32) for name in ("shift", "limit"))
    by, most = Vec.scalar(b, shift, isa.units, *FRAC), Vec.scalar(b, limit, isa.units, 1, 32767)
    whole, rest = b.sdiv(args["columns"], units), b.srem(args["columns"], units)

    def encode(x: Vec, out: Any, block: Any) -> None:
        step.store_encoded(lift(fixedpoint.to_operand)(x, by, most), out, block)

    with for_range(b, const(0), count) as k:
        x, out = b.add(args["x"], b.mul(k, args["x_step"])), b.add(args["out"], b.mul(k, args["out_step"]))
        with for_range(b, const(0), whole) as block:
            encode(step.vector(step.at(x, block, 2 * isa.units), *INT16, 16), out, block)
        with b.if_then(b.icmp_signed("!=", rest, const(0))):
            last = step.at(x, whole, 2 * isa.units)
            if isa.masked:
                encode(step.of_int16(first_int16(b, last, rest, isa.units), *INT16), out, whole)
            else:
                copy_int16(b, args["tail"], last, rest)
                encode(step.vector(args["tail"], *INT16, 16), out, whole)


def emit_reorder(builder: Any, isa: Isa, values: Sequence[Any], count: Any, back: bool) -> None:
    """Copy ``count`` blocks of int32 from the first address to the second, with their units in the order of `Isa.unit_order`, or ``back``."""
    source, target = values
    order = isa.unit_order()
    if back:
        order = [order.index(unit) for unit in range(isa.units)]
    kind = vector_type(isa.units, 32)
    with for_range(builder, const(0), count) as block:
        offset = builder.mul(block, const(4 * isa.units))
        found = load(builder, builder.add(source, offset), kind, 4)
        moved = builder.shuffle_vector(found, ir.Constant(kind, ir.Undefined), ir.Constant(kind, order))
        store(builder, moved, builder.add(target, offset), 4)
