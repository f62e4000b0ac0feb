"""One step of a group of sequences, block by block: the products of all sequences, then each gate of all of them, then their states.

A loop over the sequences does one gate: its table stays in registers, and each turn of it is short, so that the processor works on several at
once. What a gate gives waits where its products were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrnn.backends.cpu.blocks import PHASES, STEP_ARGS, BlockSums
from qrnn.backends.cpu.isa import Isa, const
from qrnn.backends.cpu.matrix import accumulate, rows_of
from qrnn.backends.cpu.parts import for_range
from qrnn.backends.cpu.steps import KernelVariant, Step, block_params

MOVING = ("now", "following", "reset", "z", "xs", "h", "c")
"""The arguments of a step that each sequence of a group has of its own, a stride apart."""


def emit_group_step(
    builder: Any,
    isa: Isa,
    name: str,
    variant: KernelVariant,
    values: Sequence[Any],
    strides: Sequence[Any],
    sums: Any,
    active: Any,
    last: Any,
) -> None:
    """Emit one time step of the first ``active`` sequences of a group, all blocks below ``last``.

    ``strides`` are the bytes between two sequences, for each of `MOVING`. ``sums`` is as for `matrix.emit_product`.
    """
    phase = PHASES[name]
    given = dict(zip(STEP_ARGS, values, strict=True))
    stride = dict(zip(MOVING, strides, strict=True))
    step = Step(builder, isa, given, phase.gates, variant)
    step.read_ahead(phase.roles)
    b, gates = builder, phase.before(step)

    def of(n: Any, block: Any) -> BlockSums:
        """Let the step be that of sequence n."""
        step.args = given | {key: b.add(given[key], b.mul(n, stride[key])) for key in MOVING}
        step.accumulators = b.add(sums, b.mul(n, const(4 * isa.units * phase.count)))
        return BlockSums(step, block, phase.first, phase.count)

    with for_range(b, const(0), last) as block:
        step.args = given
        step.begin(block_params(step, block))
        accumulate(step, rows_of(step, block, phase.first, phase.count), given["now"], stride["now"], sums, active)
        bits = {}
        for gate in gates:
            step.hold(gate)
            with for_range(b, const(0), active) as n:
                own = of(n, block)
                value = phase.value(step, own, gate, block)
                bits[gate] = 16 if value.bits == 16 else 32
                step.store(value, own.place(gate), bits[gate])
        step.hold(*(role for role in range(phase.roles) if role not in gates))
        with for_range(b, const(0), active) as n:
            own = of(n, block)
            found = [step.vector(own.place(gate), *step.bounds(gate), bits[gate]) for gate in gates]
            phase.after(step, block, own, [value.narrowed() for value in found])
        step.hold()
