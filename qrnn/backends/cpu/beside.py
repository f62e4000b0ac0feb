"""Products of the inputs in the same loop as those of a step, which wait for the weights of h.

The weights of h are read anew at every step. Once they outgrow the first-level cache, their products take as long as that reading, and
half of a core's dot products are left over. A tile of the inputs' products takes those: one gate's rows of a block of units times
`Isa.beside` operand vectors, of steps that come later. It reads a sixth of the bytes that as many
products of h read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qrnn.backends.cpu.isa import Isa, const
from qrnn.backends.cpu.matrix import PRODUCT_ARGS
from qrnn.backends.cpu.parts import I64
from qrnn.backends.cpu.steps import FirstProducts, KernelVariant, Step, block_params, half_blocks
from qrnn.backends.cpu.weight_layouts import ByteLayout

TILE_ARGS = (*PRODUCT_ARGS[:8], "first_block", "first_tile", "last_tile")
"""What `Tiles` takes by name: as in `matrix.PRODUCT_ARGS`; then the first block of the product, and which tiles are computed, the last one
excluded."""


class Tiles:
    """The tiles of a product of `Isa.beside` vectors, numbered from 0: block after block, of a block gate after gate.

    Operands are bytes in one part.
    """

    def __init__(self, builder: Any, isa: Isa, values: Sequence[Any], gate_count: int, variant: KernelVariant) -> None:
        self.step = Step(builder, isa, dict(zip(TILE_ARGS, values, strict=True)), gate_count, variant)

    def products_beside(self, step: Step, turn: Any) -> tuple[Any, FirstProducts]:
        """Return whether there is a tile left for turn ``turn`` of ``step``, and what computes it beside the products of the turn's block."""
        b = step.builder
        number = b.add(self.step.args["first_tile"], turn)
        wanted = b.icmp_signed("<", number, self.step.args["last_tile"])
        return wanted, partial(self._beside, step, number, wanted)

    def _beside(
        self,
        step: Step,
        number: Any,
        wanted: Any,
        half_blocks: Sequence[Any],
        operands: Sequence[Any],
        count: int,
        starts: Sequence[Any],
    ) -> tuple[Any, list[Any]]:
        b, groups, width = step.builder, step.args["groups"], len(starts)
        assert isinstance(step.layout, ByteLayout)
        products = step.layout.products
        before = b.basic_block
        with b.if_then(wanted):
            tile = self._tile(number)
            both = b.select(b.icmp_signed("<", groups, tile.groups), groups, tile.groups)

            def of_both(group: Any, sums: list[Any]) -> list[Any]:
                own = products(b, sums[:width], operands, half_blocks, count, (group, groups))
                return own + tile.products(sums[width:], group)

            found = _loop(b, const(0), both, [*starts, *tile.starts()], of_both)
            tile.finish(_loop(b, both, tile.groups, found[width:], lambda group, sums: tile.products(sums, group)))
            after = b.basic_block
        merged = [b.phi(value.type) for value in (both, *starts)]
        for phi, one, two in zip(merged, (const(0), *starts), (both, *found[:width]), strict=True):
            phi.add_incoming(one, before)
            phi.add_incoming(two, after)
        return merged[0], merged[1:]

    def _tile(self, number: Any) -> Tile:
        b, isa, step = self.step.builder, self.step.isa, self.step
        args, gates = step.args, const(step.gates)
        gate, block = b.srem(number, gates), b.add(args["first_block"], b.sdiv(number, gates))
        row_bytes = const(isa.lanes * isa.group)
        weights = [b.add(w, b.mul(gate, row_bytes)) for w in half_blocks(step, block, 0, step.gates)]
        of_gate = b.mul(gate, const(4 * isa.units))
        operands = [b.add(args["operands"], b.mul(const(k), args["stride"])) for k in range(isa.beside)]
        out = b.add(b.add(args["out"], b.mul(block, args["out_block"])), of_gate)
        return Tile(step, weights, operands, b.add(block_params(step, block), of_gate), out)


@dataclass(frozen=True)
class Tile:
    """A tile: the addresses of its weights by half block, of its operand vectors, of its gate's row parameters, and of its first results."""

    step: Step
    weights: list[Any]
    operands: list[Any]
    params: Any
    out: Any

    @property
    def groups(self) -> Any:
        """Groups of columns."""
        return self.step.args["groups"]

    def starts(self) -> list[Any]:
        """Return what its sums [vector, half block] start from."""
        biases = self.step.biases(self.params, 0, 1, range(self.step.isa.halves))
        return biases * len(self.operands)

    def products(self, sums: Sequence[Any], group: Any) -> list[Any]:
        """Return the sums plus the products of one group of columns."""
        b, isa = self.step.builder, self.step.isa
        row_bytes = isa.lanes * isa.group * self.step.gates
        weights = [isa.weights(b, b.add(w, b.mul(group, const(row_bytes)))) for w in self.weights]
        found = []
        for k, x in enumerate(self.operands):
            operand = isa.operands(b, b.add(x, b.mul(group, const(isa.operand_size))))
            own = sums[k * isa.halves : (k + 1) * isa.halves]
            found += [isa.dot(b, acc, operand, w) for acc, w in zip(own, weights, strict=True)]
        return found

    def finish(self, sums: Sequence[Any]) -> None:
        """Requantize and store."""
        b, isa, step = self.step.builder, self.step.isa, self.step
        factors = step.factors(self.params, 0)
        for k in range(len(self.operands)):
            own = tuple(sums[k * isa.halves : (k + 1) * isa.halves])
            step.store(step.requantized(own, factors), b.add(self.out, b.mul(const(k), step.args["out_stride"])))


def _loop(
    builder: Any, first: Any, last: Any, starts: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Emit a loop from ``first`` to below ``last`` that carries values, and return what is left of them; it may have no turn."""
    before = builder.basic_block
    head, inside, after = (builder.append_basic_block(name) for name in ("beside.head", "beside.body", "beside.after"))
    builder.branch(head)
    builder.position_at_end(head)
    index, values = builder.phi(I64), [builder.phi(start.type) for start in starts]
    builder.cbranch(builder.icmp_signed("<", index, last), inside, after)
    builder.position_at_end(inside)
    new = body(index, list(values))
    index.add_incoming(first, before)
    index.add_incoming(builder.add(index, const(1)), builder.basic_block)
    for value, start, following in zip(values, starts, new, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(following, builder.basic_block)
    builder.branch(head)
    builder.position_at_end(after)
    return list(values)
