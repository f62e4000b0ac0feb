"""Layers of kind add compute the sum of two tensors, element by element, as residual connections do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.arrays import unclamped
from qrnn.arithmetic.fixedpoint import add16
from qrnn.model.layer_facts import Loop, Narrowed, Rounding, RowLoop
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.two_inputs import QuantTwoInputs, TwoInputs


@dataclass(frozen=True)
class Add(TwoInputs):
    """Add two tensors element by element: out = left + right, all [N, T, F] or all [N, F]."""

    def equation(self, run: Equations) -> None:
        """Compute left + right in float64."""
        run.write(self.output, run.read(self.left) + run.read(self.right))

    def needed_of(self, plan: Plan, tensor: str) -> float | None:
        """Return the greatest value, where no more than the upper values of the sum are read, and the other term is small.

        With a limit of twice what is returned, a term that is clamped at the lower end leaves the sum below 0 for every value of the other
        term up to twice of what calibration showed.
        """
        readers = plan.readers(self.output)
        if plan.is_output(self.output) or not readers or self.left == self.right:
            return None
        if any(reader.needed_of(plan, self.output) is None for reader in readers):
            return None
        return max(plan.span(tensor)[1], 2 * plan.largest(self.right if tensor == self.left else self.left))

    def quantize(self, plan: Plan) -> QuantAdd:
        """Give the sum the most fraction bits that its range in calibration allows, and no more than the finer term has."""
        left, right = self.fracs(plan)
        frac = self.output_frac(plan, max(left, right))
        return QuantAdd(self.name, self.left, self.right, self.output, left, right, frac)


def add_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to `add16` of the same element of a and b."""
    add16 = contract.add16

    def rows(first: int, last: int, a_shift: int, b_shift: int, out_shift: int, a: Any, b: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = add16(a[m, k], b[m, k], a_shift, b_shift, out_shift)

    return rows


@dataclass(frozen=True)
class QuantAdd(QuantTwoInputs):
    """Add two int16 tensors by `add16`: bring them to the finer of left_frac and right_frac, add, and round once to out_frac."""

    def __post_init__(self) -> None:
        self.check_fracs(max(self.left_frac, self.right_frac), "both inputs")

    @property
    def shifts(self) -> tuple[int, int, int]:
        """Return a_shift, b_shift and out_shift of `add16`."""
        finer = max(self.left_frac, self.right_frac)
        return finer - self.left_frac, finer - self.right_frac, finer - self.out_frac

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which adds the rows of both terms."""
        return (RowLoop(add_rows, self.shifts, self.inputs),)

    def narrowed(self, values: Mapping[str, Any], tensors: Mapping[str, TensorFormat]) -> tuple[Narrowed, ...]:
        """Return the sums before they are saturated to int16."""
        left, right = (values[name].astype(np.int64) for name in self.inputs)
        return (Narrowed(f"{self.name}: sum", self.left, unclamped(add16)(left, right, *self.shifts), STATE_MAX),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding, which is that of the sum."""
        return (Rounding(self.name, f"the sum, once, to {self.out_frac} bits", "int16"),)
