"""Layers of kind multiply compute the product of two tensors, element by element, as masks do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.model.formats import fraction_bits
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import STATE_MAX, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Multiply(Layer):
    """Multiply two tensors element by element: out = left · right, all [N, T, F] or all [N, F]."""

    name: str
    left: str
    right: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the two factors."""
        return (self.left, self.right)

    def equation(self, run: Equations) -> None:
        """Compute left · right in float64."""
        run.write(self.output, run.read(self.left) * run.read(self.right))

    def quantize(self, plan: Plan) -> QuantMultiply:
        """Give the product the most fraction bits that its range in calibration allows, and no more than an exact product has."""
        left, right = plan.frac(self.left, self.name), plan.frac(self.right, self.name)
        largest = plan.largest(self.output)
        frac = min(fraction_bits(largest), left + right)
        plan.set_format(self.output, frac)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits (|y| ≤ {largest:.3g} in calibration)")
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
class QuantMultiply(QuantLayer):
    """Multiply two int16 tensors exactly, and round once to out_frac fraction bits; the product saturates to int16."""

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
            min(fracs) >= 0 and max(fracs) <= 15 and self.out_frac <= self.left_frac + self.right_frac,
            f"layer {self.name}: fraction bits {fracs} not in 0…15, or out_frac finer than the exact product",
        )

    @property
    def clamps_output(self) -> bool:
        """Return True: products are saturated to int16."""
        return True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the two factors."""
        return (self.left, self.right)

    def check(self, checks: Checks) -> None:
        """Refuse factors or a product of different shapes."""
        source = checks.tensors[self.left]
        for tensor in (self.right, self.output):
            checks.expect(tensor, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each factor is read as fixed-point, with its own fraction bits."""
        return (Reading(self.left, self.left_frac), Reading(self.right, self.right_frac))

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the product is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which multiplies the rows of both factors."""
        return (RowLoop(multiply_rows, (self.left_frac + self.right_frac - self.out_frac,), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding, which is that of the product."""
        return (Rounding(self.name, f"the product, once, to {self.out_frac} bits", "int16"),)
