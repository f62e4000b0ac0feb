"""Layers of kind combine add, subtract, multiply or divide two tensors whose features may be repeated, as one number for each band."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.formats import fraction_bits
from qrnn.model.indexed_inputs import IndexedInputs, QuantIndexedInputs
from qrnn.model.layer_facts import Loop, Rounding, RowLoop
from qrnn.model.padding import without_padding
from qrnn.model.parts import require
from qrnn.model.surroundings import Equations, Plan

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}


@dataclass(frozen=True)
class Combine(IndexedInputs):
    """Compute a + b, a - b, a · b or a / b, as ``operation`` says, of a feature of ``left`` and one of ``right``."""

    operation: str = "add"

    def equation(self, run: Equations) -> None:
        """Compute the sum, difference, product or quotient in float64; a quotient by 0 is infinite or NaN."""
        with np.errstate(all="ignore"):
            y = OPERATIONS[self.operation](*self.operands(run))
        run.write(self.output, without_padding(run, self.left, y))

    def quantize(self, plan: Plan) -> QuantCombine:
        """Give the result the most fraction bits that its range in calibration allows, and no more than an exact sum or product has."""
        left, right = self.fracs(plan)
        most = {"mul": left + right, "div": 15}.get(self.operation, max(left, right))
        largest = plan.largest(self.output)
        frac = min(fraction_bits(largest), most)
        plan.set_format(self.output, frac)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits (|y| ≤ {largest:.3g} in calibration)")
        return QuantCombine(
            self.name, self.left, self.right, self.output, self.left_index, self.right_index, left, right, frac, self.operation
        )  # fmt: skip


def sum_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to a · 2^a_shift + sign · b · 2^b_shift, rounded once and saturated."""
    shift_right_round, saturate16 = contract.shift_right_round, contract.saturate16

    def rows(
        first: int, last: int, left: Any, right: Any, sign: int, a_shift: int, b_shift: int, shift: int, a: Any, b: Any, out: Any
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for k in range(out.shape[1]):
                total = (a[m, left[k]] << a_shift) + sign * (b[m, right[k]] << b_shift)
                out[m, k] = saturate16(shift_right_round(total, shift))

    return rows


def product_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to saturate16(shift_right_round(a · b, shift)); |a · b| is at most 2^30."""
    shift_right_round, saturate16 = contract.shift_right_round, contract.saturate16

    def rows(first: int, last: int, left: Any, right: Any, shift: int, a: Any, b: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = saturate16(shift_right_round(a[m, left[k]] * b[m, right[k]], shift))

    return rows


def quotient_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `divide16` of a feature of a and one of b."""
    divide16 = contract.divide16

    def rows(
        first: int, last: int, left: Any, right: Any, a_shift: int, b_shift: int, a: Any, b: Any, out: Any
    ) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = divide16(a[m, left[k]], b[m, right[k]], a_shift, b_shift)

    return rows


@dataclass(frozen=True)
class QuantCombine(QuantIndexedInputs):
    """Compute the exact sum, difference, product or quotient of two int16, rounded once to out_frac fraction bits and saturated."""

    operation: str

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"layer {self.name}"
        require(
            self.operation in OPERATIONS,
            f"{where}: operation {self.operation!r}, expected one of {', '.join(OPERATIONS)}",
        )
        most = {"mul": self.left_frac + self.right_frac, "div": 15}.get(
            self.operation, max(self.left_frac, self.right_frac)
        )
        require(0 <= self.out_frac <= most, f"{where}: out_frac {self.out_frac} not in 0…{most}")

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        indices = (self.left_index, self.right_index)
        left, right, out = self.left_frac, self.right_frac, self.out_frac
        if self.operation == "mul":
            return (RowLoop(product_rows, (*indices, left + right - out), self.inputs),)
        if self.operation == "div":
            shift = out + right - left
            return (RowLoop(quotient_rows, (*indices, max(shift, 0), max(-shift, 0)), self.inputs),)
        finer = max(left, right)
        shifts = finer - left, finer - right, finer - out
        return (RowLoop(sum_rows, (*indices, -1 if self.operation == "sub" else 1, *shifts), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of the result."""
        what = {"add": "sum", "sub": "difference", "mul": "product", "div": "quotient"}[self.operation]
        return (Rounding(self.name, f"the {what}, once, to {self.out_frac} bits", "int16"),)
