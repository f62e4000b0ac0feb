"""The float layer of recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qrnn.model.kinds.recurrent.definition import GATE_ROLE, Direction, RecurrentDefinition
from qrnn.model.kinds.recurrent.equation import run_equation
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.rule import quantize
from qrnn.model.layer_facts import PartSize, Weights
from qrnn.model.parts import FloatArray
from qrnn.model.surroundings import Equations, InputRanges, Plan


@dataclass(frozen=True)
class Recurrent(RecurrentDefinition):
    """A recurrent layer, one or two directions; see `RecurrentDefinition` for its fields."""

    def equation(self, run: Equations) -> None:
        """Compute h of every step, and the last h and c, in float64, direction by direction and step by step."""
        run_equation(self, run)

    def weights(self) -> tuple[Weights, ...]:
        """Return each direction's weight_ih [G·H, I] and, where it has them, its weight_hh [G·H, P] and projection [P, H]."""
        found = []
        for d in self.directions:
            found.append(Weights(d.weight_ih, self.input, "W"))
            if d.weight_hh is not None:
                found.append(Weights(d.weight_hh, width="R"))
            if d.projection is not None:
                found.append(Weights(d.projection.weight))
        return tuple(found)

    def with_weights(self, values: Sequence[FloatArray]) -> Recurrent:
        """Return the layer with other matrices, in the order of `weights`."""
        given, directions = iter(values), []
        for d in self.directions:
            changed = replace(d, weight_ih=next(given))
            if d.weight_hh is not None:
                changed = replace(changed, weight_hh=next(given))
            if d.projection is not None:
                changed = replace(changed, projection=replace(d.projection, weight=next(given)))
            directions.append(changed)
        return replace(self, directions=tuple(directions))

    def with_input_shifted(self, by: FloatArray) -> Recurrent:
        """Return the layer that gives the same output for x as this one for x + ``by`` [I]: each bias_ih has weight_ih · ``by`` more."""
        shifted = (replace(d, bias_ih=d.bias_ih + d.weight_ih @ by) for d in self.directions)
        return replace(self, directions=tuple(shifted))

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """Return the weight_ih of each direction, [G·H, I]."""
        return tuple(d.weight_ih for d in self.directions)

    def multiplies(self, tensor: str) -> bool:
        """Return whether matrices alone read ``tensor``: no initial state does."""
        return tensor not in self.begins_with and super().multiplies(tensor)

    def width_parts(self) -> dict[str, PartSize]:
        """Return ``x``, ``h`` where a matrix reads h, or the h before a projection, and the weights ``W`` and, where there are any, ``R``."""
        found = super().width_parts()
        recurrent = sum(int(d.weight_hh.size) for d in self.directions if d.weight_hh is not None)
        projected = sum(int(d.projection.weight.size) for d in self.directions if d.projection is not None)
        if recurrent or projected:
            found["h"] = PartSize(recurrent + projected, self.output_size * len(self.directions))
        found["W"] = PartSize(found["x"].products, found["x"].products)
        if recurrent:
            found["R"] = PartSize(recurrent, recurrent)
        return found

    def with_input_divided(self, scale: FloatArray) -> Recurrent:
        """Return the layer that gives the same output for x · ``scale`` [I]: every weight_ih is divided by ``scale``."""
        return replace(self, directions=tuple(replace(d, weight_ih=d.weight_ih / scale) for d in self.directions))

    def quantities(self, plan: InputRanges) -> tuple[str, ...]:
        """Return the names of each direction's states, of h before a projection, of r·h, and of what else decides formats."""
        return tuple(
            f"{key}.{quantity}"
            for key, d in zip(self.keys, self.directions, strict=True)
            for quantity in ("h", "c", "h_0", "c_0", "hidden", "reset_h", *self._arguments(plan, d))
        )

    def _arguments(self, plan: InputRanges, d: Direction) -> Iterator[str]:
        """Yield the names of sums and arguments whose ranges decide formats.

        They are the sums that are normalized, before and after; the arguments and values of the gates whose functions have no input range of
        their own; and the argument of a projection's function.
        """
        if d.norms is not None:
            for what, norm in (("sum", d.norms.sums), ("recurrent_sum", d.norms.recurrent)):
                for group in range(0 if norm is None else len(norm.groups)):
                    yield f"{what}_{group}"
                    yield f"normal_{what}_{group}"
            yield "pre_output"
        for gate in self.gates:
            if plan.needs_input_range(d.activations[GATE_ROLE[gate]]):
                yield f"pre_{gate}"
                yield gate
        if d.projection is not None:
            yield "pre_s"

    def initial_values(self, size: int, states: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return h_0 and, for cells with c, c_0 of each direction, [N, P] and [N, H]."""
        return {
            f"{key}.{name}": state.of(size, states)
            for key, d in zip(self.keys, self.directions, strict=True)
            for name, state in (("h", d.h_0), ("c", d.c_0))
            if state is not None
        }

    def input_row_sum(self, plan: Plan, unit: FloatArray) -> float:
        """Return the largest sum of a row of the integers of weight_ih, over all directions."""
        return max(plan.row_sum(d.weight_ih * unit, plan.width(self.name, "W")) for d in self.directions)

    def quantize(self, plan: Plan) -> QuantRecurrent:
        """Decide the formats of gate functions and states, and make the integer matrices and the integer layer."""
        return quantize(plan, self)

    @property
    def complemented(self) -> tuple[str, ...]:
        """Return the names of each direction's z where h' = (1 - z)·h + z·n, since integers compute z'·h + (1 - z')·n with z' = 1 - z."""
        return () if self.update_keeps else tuple(f"{key}.z" for key in self.keys)
