"""Layers of kind magnitude compute sqrt(a² + b² + epsilon), as a spectrum's magnitude, or the power a² + b² + epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.arithmetic.roots import SQUARES_MAX
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.indexed_inputs import IndexedInputs
from qrnn.model.layer_facts import Loop, Rounding, RowLoop
from qrnn.model.parts import require
from qrnn.model.squares import QuantSquares
from qrnn.model.surroundings import Equations, Plan

MOST_SHIFT = 46
"""The largest shift of the contract's rounding."""


@dataclass(frozen=True)
class Magnitude(IndexedInputs):
    """Compute sqrt(a² + b² + epsilon) with ``root``, else a² + b² + epsilon; a and b are features of two tensors, or of one."""

    root: bool = True
    epsilon: float = 0.0

    def equation(self, run: Equations) -> None:
        """Compute the magnitude, or the power, in float64."""
        a, b = self.operands(run)
        power = a * a + b * b + self.epsilon
        run.write(self.output, np.sqrt(power) if self.root else power)

    def quantize(self, plan: Plan) -> QuantMagnitude:
        """Choose the output's fraction bits and those of the squares, and make the integer of epsilon.

        The squares have as many fraction bits as 64 bits hold of them, so that epsilon is as exact as it can be. QuantizationError says where
        they do not hold it.
        """
        left, right = self.fracs(plan)
        out_frac, reason = output_frac(plan, self.output)
        out_frac = min(out_frac, 14 + min(left, right)) if self.root else min(out_frac, 2 * max(left, right), 15)
        scale = 15 + min(left, right)  # fraction bits of a and b in their squares: those are at most 2^61 then
        if not self.root:
            scale = min(scale, (MOST_SHIFT + out_frac) // 2)
        least = max(left, right, out_frac + 1) if self.root else max(left, right)
        while scale > least and self.epsilon * 4.0**scale >= SQUARES_MAX:
            scale -= 1
        epsilon = round_half_up(self.epsilon * 4.0**scale)
        if epsilon >= SQUARES_MAX:
            raise QuantizationError(
                f"layer {self.name!r}: epsilon {self.epsilon:g} is too large beside squares with {2 * scale} fraction bits, expected below "
                f"{SQUARES_MAX / 4.0**scale:g}"
            )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        return QuantMagnitude(
            self.name, self.left, self.right, self.output, self.left_index, self.right_index, left, right, out_frac, scale,
            int(epsilon), self.root,
        )  # fmt: skip


def magnitude_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `magnitude16` of a feature of a and one of b."""
    magnitude16 = contract.magnitude16

    def rows(
        first: int, last: int, left: Any, right: Any, a_shift: int, b_shift: int, epsilon: int, shift: int, a: Any, b: Any, out: Any
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = magnitude16(a[m, left[k]], b[m, right[k]], a_shift, b_shift, epsilon, shift)

    return rows


def power_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `power16` of a feature of a and one of b."""
    power16 = contract.power16

    def rows(
        first: int, last: int, left: Any, right: Any, a_shift: int, b_shift: int, epsilon: int, shift: int, a: Any, b: Any, out: Any
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = power16(a[m, left[k]], b[m, right[k]], a_shift, b_shift, epsilon, shift)

    return rows


@dataclass(frozen=True)
class QuantMagnitude(QuantSquares):
    """Compute `magnitude16` with ``root``, else `power16`: exact sums of squares in 64 bits, and one rounding.

    The squares have 2 · ``scale`` fraction bits, and ``epsilon`` is an integer in their units.
    """

    root: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"layer {self.name}"
        least, most = (1, 30) if self.root else (0, MOST_SHIFT)
        require(least <= self.shift <= most, f"{where}: out_frac {self.out_frac} for squares of scale {self.scale}")

    @property
    def shift(self) -> int:
        """Return the shift by which the root, or the sum of the squares, is rounded."""
        return (self.scale if self.root else 2 * self.scale) - self.out_frac

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        numbers = (self.left_index, self.right_index, *self.square_shifts, self.epsilon, self.shift)
        return (RowLoop(magnitude_rows if self.root else power_rows, numbers, self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of the root, or of the sum."""
        what = "the root" if self.root else "the sum of the squares"
        return (Rounding(self.name, f"{what}, once, to {self.out_frac} bits", "int16"),)
