"""One step of a group of sequences, gate by gate: the products of a few sequences stay in registers until the gate's value is there.

Of `TILE` sequences, the rows of one gate are multiplied with the inputs, then with the states; what comes of a sequence is requantized, added,
and goes through the gate's function. No sum is stored, only the values of gates. Those sums are few enough to leave registers for weights: the
sums of all gates of as many sequences fill all of AVX2's. Inputs are multiplied in the step that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrnn.backends.cpu.blocks import PHASES, STEP_ARGS, Sums
from qrnn.backends.cpu.group_steps import MOVING
from qrnn.backends.cpu.isa import Isa, const
from qrnn.backends.cpu.matrix import TILE, VECTORS, Rows, rows_of
from qrnn.backends.cpu.parts import Parts, for_range
from qrnn.backends.cpu.steps import KernelVariant, Step
from qrnn.backends.cpu.weight_layouts import OneGate

INPUT_ARGS = ("weights", "params", "operands", "stride", "groups", "byte_parts", "sums")
"""What a group's step takes of the inputs by name: as in `matrix.PRODUCT_ARGS`, the operands being those of the step; ``sums``: where values
of gates wait, too."""


def emit_gate_step(
    builder: Any,
    isa: Isa,
    name: str,
    variants: tuple[KernelVariant, KernelVariant],
    values: Sequence[Any],
    strides: Sequence[Any],
    inputs: Sequence[Any],
    active: Any,
    last: Any,
) -> None:
    """Emit one time step of the first ``active`` sequences of a group, all blocks below ``last``, for weights that are bytes.

    ``variants`` are those of the inputs' products and of the steps. ``values`` are `blocks.STEP_ARGS`, of which the inputs' parts in ``xs`` are
    not read. ``strides`` are the bytes between two sequences, for each of `MOVING`. ``inputs`` are `INPUT_ARGS`.
    """
    b, phase = builder, PHASES[name]
    given, stride = dict(zip(STEP_ARGS, values, strict=True)), dict(zip(MOVING, strides, strict=True))
    own = dict(zip(INPUT_ARGS, inputs, strict=True))
    step, of_inputs = Step(b, isa, given, phase.gates, variants[1]), Step(b, isa, own, phase.gates, variants[0])
    step.layout, of_inputs.layout = OneGate(isa, phase.count), OneGate(isa, phase.gates)
    step.read_ahead(phase.roles)
    before, gates = phase.before(step), range(phase.first, phase.first + phase.count)
    value_bytes = (2 if variants[1].lookup.has_int16_lanes else 4) * isa.units
    bits: dict[int, int] = {}

    def place(gate: int, n: Any) -> Any:
        """Return where the value of a gate of sequence n waits."""
        return b.add(own["sums"], b.mul(b.add(n, const(VECTORS * (gate - phase.first))), const(value_bytes)))

    def sums_of(own_step: Step, rows: Rows, gate: int, operands: Sequence[Any]) -> list[Parts]:
        at = [b.add(w, const(isa.lanes * isa.group * (gate - rows.first))) for w in rows.half_blocks]
        starts = own_step.biases(rows.params, gate, 1, range(isa.halves))
        return [tuple(sums) for sums in own_step.dots(at, operands, 1, starts)]

    def evaluate(gate: int, block: Any, n: Any, sums: Sums) -> None:
        """Compute a gate's value from the sums of sequence n, and after the last gate its new state."""
        step.args = given | {key: b.add(given[key], b.mul(n, stride[key])) for key in MOVING}
        found = [phase.value(step, sums, gate, block)] if gate in before else []
        if gate == gates[-1]:
            others = [step.vector(place(g, n), *step.bounds(g), bits[g]).narrowed() for g in before if g != gate]
            phase.after(step, block, sums, [*others, *found])
            return
        bits[gate] = 16 if found[0].bits == 16 else 32
        step.store(found[0], place(gate, n), bits[gate])

    def of_tile(gate: int, block: Any, first: Any, count: int) -> None:
        step.args = given
        rows = rows_of(of_inputs, block, 0, phase.gates), rows_of(step, block, phase.first, phase.count)
        numbers = [b.add(first, const(k)) for k in range(count)]
        at_x = [b.add(own["operands"], b.mul(n, own["stride"])) for n in numbers]
        at_h = [b.add(given["now"], b.mul(n, stride["now"])) for n in numbers]
        xs, hs = sums_of(of_inputs, rows[0], gate, at_x), sums_of(step, rows[1], gate, at_h)
        for k, n in enumerate(numbers):
            # Row parameters and tables are read anew for each sequence, since there are too many for registers.
            x = of_inputs.requantized(xs[k], of_inputs.factors(rows[0].params, gate))
            h = step.requantized(hs[k], step.factors(rows[1].params, gate))
            parts = x, h, step.pre_shift(rows[1].params, gate)
            evaluate(gate, block, n, Sums(rows[1].params, {gate: parts}))

    with for_range(b, const(0), last) as block:
        for gate in gates:
            done = const(0)
            for count in (TILE, 2, 1):
                end = b.sub(active, b.srem(active, const(count)))
                with for_range(b, done, end, count) as first:
                    of_tile(gate, block, first, count)
                done = end
