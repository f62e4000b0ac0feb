"""Dense layers compute y = weight · x + bias over the last axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from qrnn.model.layer_facts import Loop, RowLoop
from qrnn.model.matrix_layer import MatrixLayer, QuantMatrixLayer
from qrnn.model.parts import FloatArray, QuantMatrix
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Dense(MatrixLayer):
    """Compute y = weight · x + bias over the last axis; weight [O, F], bias [O]."""

    folds_offset: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Compute weight · x + bias in float64."""
        run.write(self.output, self.read_operand(run) @ self.weight.T + self.bias)

    def with_input_divided(self, scale: FloatArray) -> Dense:
        """Return the layer that gives the same output for x · ``scale`` [F]: its weights are divided by ``scale``."""
        return replace(self, weight=self.weight / scale)

    def with_input_shifted(self, by: FloatArray) -> Dense:
        """Return the layer that gives the same output for x as this one for x + ``by`` [F]: its bias has weight · ``by`` more."""
        return replace(self, bias=self.bias + self.weight @ by)

    def quantize(self, plan: Plan) -> QuantDense:
        """Make the integer matrix and the integer layer."""
        return QuantDense(self.name, self.input, self.output, **self.quantized_parts(plan)._asdict())


def dense_rows(contract: Any) -> Loop:
    """Return the loop that sets out_r to the saturated, requantized sum of weight[r] · operand(x) + bias[r]."""
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
class QuantDense(QuantMatrixLayer):
    """Compute y = saturate16_shifted(requantize(weight · operand + bias), pre_shift), int16 with out_frac fraction bits."""

    folds_offset: ClassVar[bool] = True

    matrix: QuantMatrix

    def check(self, checks: Checks) -> None:
        """Refuse an input that does not have one feature per column, and an output that does not have one feature per row."""
        rows, columns = self.matrix.weight.shape
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, columns, has_time)
        checks.expect(self.output, rows, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which multiplies every row of the input by the matrix."""
        return (RowLoop(dense_rows, self.numbers, self.inputs),)
