"""Layers of kind add compute the sum of two tensors, element by element, as residual connections do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.reals import rounded
from qrnn.model.formats import fraction_bits
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Narrowed, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import STATE_MAX, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Add(Layer):
    """Add two tensors element by element: out = left + right, all [N, T, F] or all [N, F]."""

    name: str
    left: str
    right: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the two terms."""
        return (self.left, self.right)

    def equation(self, run: Equations) -> None:
        """Compute left + right in float64."""
        run.write(self.output, run.read(self.left) + run.read(self.right))

    def quantize(self, plan: Plan) -> QuantAdd:
        """Give the sum the most fraction bits that its range in calibration allows, and no more than the finer term has."""
        left, right = plan.frac(self.left, self.name), plan.frac(self.right, self.name)
        largest = plan.largest(self.output)
        frac = min(fraction_bits(largest), max(left, right))
        plan.set_format(self.output, frac)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits (|y| ≤ {largest:.3g} in calibration)")
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
class QuantAdd(QuantLayer):
    """Add two int16 tensors by `add16`: bring them to the finer of left_frac and right_frac, add, and round once to out_frac."""

    name: str
    left: str
    right: str
    output: str
    left_frac: int
    right_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        fracs = (self.left_frac, self.right_frac, self.out_frac)
        require(
            min(fracs) >= 0 and max(fracs) <= 15 and self.out_frac <= max(fracs[:2]),
            f"layer {self.name}: fraction bits {fracs} not in 0…15, or out_frac finer than both inputs",
        )

    @property
    def shifts(self) -> tuple[int, int, int]:
        """Return a_shift, b_shift and out_shift of `add16`."""
        finer = max(self.left_frac, self.right_frac)
        return finer - self.left_frac, finer - self.right_frac, finer - self.out_frac

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the two terms."""
        return (self.left, self.right)

    def check(self, checks: Checks) -> None:
        """Refuse terms or a sum of different shapes."""
        source = checks.tensors[self.left]
        for tensor in (self.right, self.output):
            checks.expect(tensor, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each term is read as fixed-point, with its own fraction bits."""
        return (Reading(self.left, self.left_frac), Reading(self.right, self.right_frac))

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the sum is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which adds the rows of both terms."""
        return (RowLoop(add_rows, self.shifts, self.inputs),)

    def narrowed(self, values: Mapping[str, Any], tensors: Mapping[str, TensorFormat]) -> tuple[Narrowed, ...]:
        """Return the sums before they are saturated to int16."""
        a_shift, b_shift, out_shift = self.shifts
        total = (values[self.left].astype(np.int64) << a_shift) + (values[self.right].astype(np.int64) << b_shift)
        return (Narrowed(f"{self.name}: sum", self.left, rounded(total, out_shift), STATE_MAX),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding, which is that of the sum."""
        return (Rounding(self.name, f"the sum, once, to {self.out_frac} bits", "int16"),)
