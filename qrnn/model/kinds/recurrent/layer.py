"""The float layer of recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qrnn.model.kinds.recurrent.definition import GATE_ROLE, Direction, RecurrentDefinition
from qrnn.model.kinds.recurrent.equation import run_equation
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.rule import quantize
from qrnn.model.layer_facts import Weights
from qrnn.model.parts import FloatArray
from qrnn.model.surroundings import Equations, InputRanges, Plan


@dataclass(frozen=True)
class Recurrent(RecurrentDefinition):
    """A recurrent layer, one or two directions; see `RecurrentDefinition` for its fields."""

    def equation(self, run: Equations) -> None:
        run_equation(self, run)

    def weights(self) -> tuple[Weights, ...]:
        found = []
        for d in self.directions:
            found.append(Weights(d.weight_ih, self.input, recurrent=True))
            if d.weight_hh is not None:
                found.append(Weights(d.weight_hh, recurrent=True))
            if d.projection is not None:
                found.append(Weights(d.projection.weight))
        return tuple(found)

    def with_weights(self, values: Sequence[FloatArray]) -> Recurrent:
        given, directions = iter(values), []
        for d in self.directions:
            changed = replace(d, weight_ih=next(given))
            if d.weight_hh is not None:
                changed = replace(changed, weight_hh=next(given))
            if d.projection is not None:
                changed = replace(changed, projection=replace(d.projection, weight=next(given)))
            directions.append(changed)
        return replace(self, directions=tuple(directions))

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        return tuple(d.weight_ih for d in self.directions)

    def with_input_divided(self, scale: FloatArray) -> Recurrent:
        return replace(self, directions=tuple(replace(d, weight_ih=d.weight_ih / scale) for d in self.directions))

    def quantities(self, plan: InputRanges) -> tuple[str, ...]:
        return tuple(
            f"{key}.{quantity}"
            for key, d in zip(self.keys, self.directions, strict=True)
            for quantity in ("h", "c", "hidden", "reset_h", *self._arguments(plan, d))
        )

    def _arguments(self, plan: InputRanges, d: Direction) -> Iterator[str]:
        """Arguments and values of the gates whose functions have no input range of their own."""
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
        return {
            f"{key}.{name}": state.of(size, states)
            for key, d in zip(self.keys, self.directions, strict=True)
            for name, state in (("h", d.h_0), ("c", d.c_0))
            if state is not None
        }

    def input_row_sum(self, plan: Plan) -> float:
        return max(plan.row_sum(d.weight_ih, plan.weight_bits) for d in self.directions)

    def quantize(self, plan: Plan) -> QuantRecurrent:
        return quantize(plan, self)

    @property
    def complemented(self) -> tuple[str, ...]:
        return () if self.update_keeps else tuple(f"{key}.z" for key in self.keys)
