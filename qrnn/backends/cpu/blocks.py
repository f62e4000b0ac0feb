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
from qrnn.backends.cpu.isa import Isa, const, copy_int16, load, store
from qrnn.backends.cpu.parts import I32, for_range, vector_type
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


def _sums(step: Step, block: Any, first: int, count: int) -> tuple[list[Vec], list[Vec], list[Any]]:
    """Return the inputs' parts, the recurrent parts and the pre_shifts of ``count`` gates from ``first`` on."""
    b, isa, args = step.builder, step.isa, step.args
    params, size, halves = block_params(step, block), 4 * isa.units, range(isa.halves)
    if step.accumulators is None:
        starts = step.biases(params, first, count, halves)
        accs = step.dots(half_blocks(step, block, first, count), [args["now"]], count, starts)[0]
    xs_base = b.add(args["xs"], b.mul(block, args["xs_block"]))
    xs, hs, shifts = [], [], []
    for k in range(count):
        gate = first + k
        if step.accumulators is None:
            own = tuple(accs[k * isa.halves : (k + 1) * isa.halves])
        else:
            own = step.vector(b.add(step.accumulators, const(size * k)), *INT32).parts
        hs.append(step.requantized(own, step.factors(params, gate)))
        xs.append(step.vector(b.add(xs_base, const(size * gate)), *REQUANTIZED))
        shifts.append(step.pre_shift(params, gate))
    return xs, hs, shifts


def _preactivation(step: Step, block: Any, gate: int, parts: tuple[Vec, Vec, Any]) -> Vec:
    """Return the argument of a gate from its inputs' part, its recurrent part and its pre_shift."""
    found: Vec = lift(cells.preactivation)(*parts)
    step.keep(found, block, gate)
    return found


def _preactivations(step: Step, block: Any, first: int, count: int) -> list[Vec]:
    """Return the pre-activations of ``count`` gates from ``first`` on."""
    parts = zip(*_sums(step, block, first, count), strict=True)
    return [_preactivation(step, block, first + k, own) for k, own in enumerate(parts)]


def _finish(step: Step, block: Any, h: Vec) -> None:
    """Store h as int16, and its operand for the next step."""
    step.store(h, step.at(step.args["h"], block, 2 * step.isa.units), 16)
    step.store_operand(h, block)


def _peephole(step: Step, block: Any, gate: int, c: Vec) -> Vec:
    """What a gate sees of the cell."""
    params = block_params(step, block)
    weight = step.row_param(params, gate, PEEPHOLE, *INT16)
    shift = step.row_param(params, gate, PEEPHOLE_SHIFT, 0, PEEPHOLE_SHIFT_MAX)
    found: Vec = lift(cells.peephole)(c, weight, shift)
    return found


def lstm_block(step: Step, block: Any, forget: Forget = "gate") -> None:
    """Gates i, f, g, o; without f unless it is a gate of its own. A peephole of o sees the new cell, those of i and f the old one."""
    g, o = (2, 3) if forget == "gate" else (1, 2)
    xs, hs, shifts = _sums(step, block, 0, o + 1)
    c_at = step.at(step.args["c"], block, 4 * step.isa.units)

    def argument(k: int, cell: Vec | None = None) -> Vec:
        x = xs[k] if cell is None else xs[k] + _peephole(step, block, k, cell)
        return _preactivation(step, block, k, (x, hs[k], shifts[k]))

    old = step.vector(c_at, *INT32) if step.variant.peephole else None
    pre = [argument(k, None if k == g else old) for k in range(o)]
    if not step.variant.peephole:
        pre.append(argument(o))
    i = step.activate(0, pre[0])
    f: Any = fixedpoint.Q15_ONE
    frac: Any = Q15
    if forget != "one":
        own = forget == "gate"
        f = step.activate(1, pre[1]) if own else lift(cells.coupled_forget)(i, step.gate_frac(INPUT_FRAC))
        frac = step.gate_frac(FORGET_FRAC)
    candidate = step.activate(g, pre[g])
    out = None if step.variant.peephole else step.activate(o, pre[o])
    c = lift(cells.lstm_cell_state)(i, f, candidate, step.vector(c_at, *INT32), frac, step.format(PRODUCT))
    step.store(c, c_at)
    if out is None:
        out = step.activate(o, argument(o, c))
    finer = 2 if step.simple else 1 if step.variant.spans else 0
    a = step.activate(o + 1, lift(cells.lstm_output_argument)(c, step.format(ARGUMENT, finer)))
    shift = Q15 if step.simple and not step.variant.rescaled else step.format(HIDDEN)
    _finish(step, block, lift(cells.lstm_hidden_state)(out, a, shift))


def _blend(step: Step, block: Any, z: Vec, n: Vec) -> None:
    h = step.vector(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED, 16)
    shift = 0 if step.simple and not step.variant.rescaled else step.format(CANDIDATE, *FRAC)
    _finish(step, block, lift(cells.gru_hidden_state)(z, n, h, step.gate_frac(UPDATE_FRAC), shift))


def gru_reset_after_block(step: Step, block: Any) -> None:
    """linear_before_reset = 1: gates r, z, n."""
    xs, hs, shifts = _sums(step, block, 0, 3)
    pre = [_preactivation(step, block, k, (xs[k], hs[k], shifts[k])) for k in range(2)]
    r = step.activate(0, pre[0])
    z = step.activate(1, pre[1])
    pre_n = lift(cells.candidate_after_reset)(xs[2], hs[2], r, step.gate_frac(RESET_FRAC), shifts[2])
    step.keep(pre_n, block, 2)
    n = step.activate(2, pre_n)
    _blend(step, block, z, n)


def gru_reset_before_r_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, first phase: r and z; the operands of r·h go to ``reset``, z to ``z``."""
    pre = _preactivations(step, block, 0, 2)
    r = step.activate(0, pre[0])
    z = step.activate(1, pre[1])
    h = step.vector(step.at(step.args["h"], block, 2 * step.isa.units), *SIGNED, 16)
    formats = (step.gate_frac(RESET_FRAC), step.format(H_SHIFT, *FRAC), step.format(H_LIMIT, 1, 32767))
    operand = lift(cells.reset_operand)(r, h, *formats)
    step.store_encoded(operand, step.args["reset"], block)
    step.store(z, step.at(step.args["z"], block, 4 * step.isa.units))


def gru_reset_before_n_block(step: Step, block: Any) -> None:
    """linear_before_reset = 0, second phase: n from all of ``reset``, given as ``now``."""
    (pre,) = _preactivations(step, block, 2, 1)
    n = step.activate(2, pre)
    z = step.vector(step.at(step.args["z"], block, 4 * step.isa.units), *step.bounds(1))
    _blend(step, block, z.narrowed(), n)


def rnn_block(step: Step, block: Any) -> None:
    """The one gate h."""
    (pre,) = _preactivations(step, block, 0, 1)
    h = step.activate(0, pre)
    _finish(step, block, lift(cells.rnn_hidden_state)(h, step.format(HIDDEN)))


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
    "lstm_one": Phase(partial(lstm_block, forget="one"), 4, 3, 0, 3),
    "lstm_coupled": Phase(partial(lstm_block, forget="coupled"), 4, 3, 0, 3),
    "gru_reset_after": Phase(gru_reset_after_block, 3, 3, 0, 3),
    "gru_reset_before_r": Phase(gru_reset_before_r_block, 3, 3, 0, 2),
    "gru_reset_before_n": Phase(gru_reset_before_n_block, 3, 3, 2, 1),
    "rnn": Phase(rnn_block, 1, 1, 0, 1),
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
    """The phases of a layer's steps."""
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
    """Blocks first … last - 1 of one time step of cell ``name``, in this order or, with ``back``, in the opposite one.

    Each block computes one of ``tiles`` beside its own products, as far as there are so many.
    """
    phase = PHASES[name]
    step = Step(builder, isa, dict(zip(STEP_ARGS, values, strict=True)), phase.gates, variant)
    step.read_ahead(phase.roles)
    back = builder.icmp_signed("!=", back, const(0))
    mirror = builder.sub(builder.add(first, last), const(1))
    with for_range(builder, first, last) as block:
        if tiles is not None:
            step.first_products = tiles.products_beside(step, builder.sub(block, first))
        phase.block(step, builder.select(back, builder.sub(mirror, block), block))


ENCODE_ARGS = ("x", "x_step", "columns", "tail", "out", "out_step", "shift", "limit", "groups", "byte_parts")
"""What `emit_encode` takes by name: addresses of int16 and of bytes and how far apart vectors are; columns of a vector; room for a block of
int16; the operands' format, groups of columns, parts of operands."""


def emit_encode(builder: Any, isa: Isa, values: Sequence[Any], count: Any) -> None:
    """The operands of ``count`` vectors of int16, encoded; block by block, the last columns from a copy that can be read as a block."""
    args = dict(zip(ENCODE_ARGS, values, strict=True))
    step = Step(builder, isa, args, 0, KernelVariant())
    b, units = builder, const(isa.units)
    shift, limit = (b.trunc(args[name], I32) for name in ("shift", "limit"))
    by, most = Vec.scalar(b, shift, isa.units, *FRAC), Vec.scalar(b, limit, isa.units, 1, 32767)
    whole, rest = b.sdiv(args["columns"], units), b.srem(args["columns"], units)

    def encode(x: Any, out: Any, block: Any) -> None:
        operand = lift(fixedpoint.to_operand)(step.vector(x, -32768, 32767, 16), by, most)
        step.store_encoded(operand, out, block)

    with for_range(b, const(0), count) as k:
        x, out = b.add(args["x"], b.mul(k, args["x_step"])), b.add(args["out"], b.mul(k, args["out_step"]))
        with for_range(b, const(0), whole) as block:
            encode(step.at(x, block, 2 * isa.units), out, block)
        with b.if_then(b.icmp_signed("!=", rest, const(0))):
            copy_int16(b, args["tail"], step.at(x, whole, 2 * isa.units), rest)
            encode(args["tail"], out, whole)


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
