"""Dense layers: y = weight · x + bias over the last axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Chosen, LayerMatrix, Loop, Part, Reading, Rounding, RowLoop, StandIns, Written
from qrnn.model.parts import (
    STATE_MAX,
    FloatArray,
    Int8Array,
    Operand,
    QuantMatrix,
    TensorFormat,
    check_pre_shift,
    require,
)
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Dense(Layer):
    """y = weight · x + bias; weight [O, I], bias [O]; over the last axis."""

    name: str
    input: str
    output: str
    weight: FloatArray
    bias: FloatArray

    def equation(self, run: Equations) -> None:
        x = run.operand(f"{self.name}.x", run.read(self.input))
        run.write(self.output, x @ self.weight.T + self.bias)

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        return (self.weight,)

    def with_input_divided(self, scale: FloatArray) -> Dense:
        return replace(self, weight=self.weight / scale)

    def with_output_scaled(self, scale: FloatArray) -> Dense:
        return replace(self, weight=self.weight * scale[:, None], bias=self.bias * scale)

    def input_row_sum(self, plan: Plan) -> float:
        return plan.row_sum(self.weight)

    def quantize(self, plan: Plan) -> QuantDense:
        frac, reason = output_frac(plan, self.output)
        operand = plan.operand(self.input, plan.observed(self.input), plan.row_sum(self.weight))
        weight = self.weight * plan.unit(self.input, operand)
        fracs = np.full(len(weight), frac, np.int64)
        pre_shift = plan.pre_shift(f"layer {self.name}", weight, self.bias, fracs, operand.limit)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits ({reason})")
        plan.note_shift(self.name, pre_shift)
        plan.set_format(self.output, frac)
        matrix = plan.matrix(weight, self.bias, fracs, pre_shift, operand.limit)
        return QuantDense(self.name, self.input, self.output, matrix, pre_shift, operand, frac)


def dense_rows(contract: Any) -> Loop:
    """out_r = the requantized sum of weight[r] · operand(x) + bias[r], saturated."""
    to_operand, requantize, saturate = contract.to_operand, contract.requantize, contract.saturate16_shifted

    def rows(
        first: int,
        last: int,
        weight: Any,
        bias: Any,
        multiplier: Any,
        left_shift: Any,
        pre_shift: Any,
        shift: int,
        limit: int,
        x: Any,
        out: Any,
    ) -> None:
        for m in range(first, last):
            for r in range(out.shape[1]):
                total = bias[r]
                for k in range(x.shape[1]):
                    total += weight[r, k] * to_operand(x[m, k], shift, limit)
                out[m, r] = saturate(requantize(total, multiplier[r], left_shift[r]), pre_shift[r])

    return rows


@dataclass(frozen=True)
class QuantDense(QuantLayer):
    """y = saturate16_shifted(requantize(weight · operand + bias), pre_shift), int16 with out_frac fraction bits."""

    name: str
    input: str
    output: str
    matrix: QuantMatrix
    pre_shift: Int8Array
    operand: Operand
    out_frac: int

    def __post_init__(self) -> None:
        check_pre_shift(self.name, self.pre_shift, self.matrix.weight.shape[0])
        require(
            self.matrix.operand_limit == self.operand.limit, f"layer {self.name}: matrix proved for another operand"
        )
        require(-16 <= self.out_frac <= 15, f"layer {self.name}: out_frac {self.out_frac} not in -16…15")

    @property
    def clamps_output(self) -> bool:
        return True

    def check(self, checks: Checks) -> None:
        rows, columns = self.matrix.weight.shape
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, columns, has_time)
        checks.expect(self.output, rows, has_time)

    def readings(self) -> tuple[Reading, ...]:
        return (Reading(self.input, operand=self.operand),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def matrices(self) -> tuple[LayerMatrix, ...]:
        fracs = np.full(len(self.pre_shift), self.out_frac, np.int64)
        part = Part(self.name, "weights")
        return (LayerMatrix(f"{self.name}.weight", part, self.matrix, self.pre_shift, fracs, self.operand),)

    def integer_parts(self) -> tuple[Part, ...]:
        return tuple(Part(self.name, kind) for kind in ("weights", "biases", "x operand", "output"))

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        found = super().stand_ins(chosen, tensors)
        if Part(self.name, "x operand") in chosen:
            found.operands[f"{self.name}.x"] = self._unit(tensors), self.operand.limit
        return found

    def worth(self, real: Dense, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> Dense:
        (found,) = self.matrices()
        if found.part in chosen:
            real = replace(real, weight=self.matrix.weight * found.row_scale[:, None] / self._unit(tensors))
        if Part(self.name, "biases") in chosen:
            real = replace(real, bias=self.matrix.bias * found.row_scale)
        return real

    def _unit(self, tensors: Mapping[str, TensorFormat]) -> FloatArray:
        """The real value of one operand unit, [1] or [F]."""
        return tensors[self.input].scales * 2.0**self.operand.shift

    def row_loops(self) -> tuple[RowLoop, ...]:
        m = self.matrix
        numbers = (m.weight, m.bias, m.multiplier, m.left_shift, self.pre_shift)
        return (RowLoop(dense_rows, (*numbers, self.operand.shift, self.operand.limit), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        rounded = f"sum, once, to {self.out_frac} bits"
        return (Rounding(self.name, rounded, f"int16; operand ±{self.operand.limit}"),)
