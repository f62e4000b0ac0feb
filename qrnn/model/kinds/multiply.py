"""Layers of kind multiply compute the product of two tensors, element by element, as masks do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qrnn.model.layer_facts import Loop, Rounding, RowLoop
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.two_inputs import QuantTwoInputs, TwoInputs


@dataclass(frozen=True)
class Multiply(TwoInputs):
    """Multiply two tensors element by element: out = left · right, all [N, T, F] or all [N, F]."""

    def equation(self, run: Equations) -> None:
        """Compute left · right in float64."""
        run.write(self.output, run.read(self.left) * run.read(self.right))

    def quantize(self, plan: Plan) -> QuantMultiply:
        """Give the product the most fraction bits that its range in calibration allows, and no more than an exact product has."""
        left, right = self.fracs(plan)
        frac = self.output_frac(plan, left + right)
        return QuantMultiply(self.name, self.left, self.right, self.output, left, right, frac)


def multiply_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to saturate16(shift_right_round(a · b, shift)); |a · b| is at most 2^30."""
    shift_right_round, saturate16 = contract.shift_right_round, contract.saturate16

    def rows(first: int, last: int, shift: int, a: Any, b: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = saturate16(shift_right_round(a[m, k] * b[m, k], shift))

    return rows


@dataclass(frozen=True)
class QuantMultiply(QuantTwoInputs):
    """Multiply two int16 tensors exactly, and round once to out_frac fraction bits; the product saturates to int16."""

    def __post_init__(self) -> None:
        self.check_fracs(self.left_frac + self.right_frac, "the exact product")

    @property
    def clamps_output(self) -> bool:
        """Return True: products are saturated to int16."""
        return True

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which multiplies the rows of both factors."""
        return (RowLoop(multiply_rows, (self.left_frac + self.right_frac - self.out_frac,), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding, which is that of the product."""
        return (Rounding(self.name, f"the product, once, to {self.out_frac} bits", "int16"),)
