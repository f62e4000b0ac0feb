"""The float layer of recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.model.kinds.recurrent.definition import RecurrentDefinition
from qrnn.model.kinds.recurrent.equation import run_equation
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.rule import quantize
from qrnn.model.layer import Equations, Plan


@dataclass(frozen=True)
class Recurrent(RecurrentDefinition):
    """An LSTM, GRU or RNN layer, one or two directions; see `RecurrentDefinition` for its fields."""

    def equation(self, run: Equations) -> None:
        run_equation(self, run)

    def input_row_sum(self, plan: Plan) -> float:
        return max(plan.row_sum(d.weight_ih, plan.weight_bits) for d in self.directions)

    def quantize(self, plan: Plan) -> QuantRecurrent:
        return quantize(plan, self)

    @property
    def complemented(self) -> tuple[str, ...]:
        return () if self.update_keeps else tuple(f"{key}.z" for key in self.keys)
