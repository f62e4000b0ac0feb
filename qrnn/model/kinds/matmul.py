"""Layers of kind matmul compute the products of matrices that two tensors hold at each step, as attention within a step does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qrnn.model.layer_facts import Loop, Rounding, RowLoop
from qrnn.model.parts import FloatArray, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.two_inputs import QuantTwoInputs, TwoInputs

MOST_PRODUCTS = 1 << 24
"""The most multiply-adds of a step, and the most features of a tensor."""


@dataclass(frozen=True)
class MatMul(TwoInputs):
    """Compute out[g] = left[g] · right[g] for each of ``groups`` groups.

    A step of ``left`` holds [groups, rows, inner], one of ``right`` [groups, inner, columns], and one of the output [groups, rows, columns],
    all row-major. All go over time, or none does.
    """

    groups: int
    rows: int
    inner: int
    columns: int

    def equation(self, run: Equations) -> None:
        """Compute the products in float64."""
        left, right = run.read(self.left), run.read(self.right)
        a = left.reshape(*left.shape[:-1], self.groups, self.rows, self.inner)
        b = right.reshape(*right.shape[:-1], self.groups, self.inner, self.columns)
        y: FloatArray = (a @ b).reshape(*left.shape[:-1], -1)
        run.write(self.output, y)

    def quantize(self, plan: Plan) -> QuantMatMul:
        """Give the products the most fraction bits that their range in calibration allows, and no more than an exact one has."""
        left, right = self.fracs(plan)
        frac = self.output_frac(plan, min(15, left + right))
        sizes = self.groups, self.rows, self.inner, self.columns
        return QuantMatMul(self.name, self.left, self.right, self.output, left, right, frac, *sizes)


def matmul_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to saturate16(shift_right_round(Σ a · b, shift)); the sum is exact."""
    shift_right_round, saturate16 = contract.shift_right_round, contract.saturate16

    def rows(
        first: int, last: int, groups: int, height: int, inner: int, columns: int, shift: int, a: Any, b: Any, out: Any
    ) -> None:
        for m in range(first, last):
            for g in range(groups):
                for i in range(height):
                    for j in range(columns):
                        total = 0
                        for k in range(inner):
                            total += a[m, (g * height + i) * inner + k] * b[m, (g * inner + k) * columns + j]
                        out[m, (g * height + i) * columns + j] = saturate16(shift_right_round(total, shift))

    return rows


@dataclass(frozen=True)
class QuantMatMul(QuantTwoInputs):
    """Compute `MatMul` of int16: sums of products are exact, rounded once to out_frac fraction bits, and saturated to int16."""

    groups: int
    rows: int
    inner: int
    columns: int

    def __post_init__(self) -> None:
        self.check_fracs(self.left_frac + self.right_frac, "the exact products")
        sizes = self.groups, self.rows, self.inner, self.columns
        products = 1
        for size in sizes:
            require(1 <= size <= MOST_PRODUCTS, f"layer {self.name}: groups, rows, inner, columns {sizes}")
            products *= size
        require(products <= MOST_PRODUCTS, f"layer {self.name}: {products} products in a step, at most {MOST_PRODUCTS}")

    @property
    def clamps_output(self) -> bool:
        """Return True: products are saturated to int16."""
        return True

    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not hold matrices of these sizes, and tensors of which some go over time and others do not."""
        has_time = checks.tensors[self.left].has_time
        checks.expect(self.left, self.groups * self.rows * self.inner, has_time)
        checks.expect(self.right, self.groups * self.inner * self.columns, has_time)
        checks.expect(self.output, self.groups * self.rows * self.columns, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows of both factors."""
        shift = self.left_frac + self.right_frac - self.out_frac
        sizes = self.groups, self.rows, self.inner, self.columns
        return (RowLoop(matmul_rows, (*sizes, shift), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each element."""
        return (Rounding(self.name, f"each sum of products, once, to {self.out_frac} bits", "int16"),)
