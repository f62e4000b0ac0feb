"""Layers of kind log power compute factor · ln(max(a² + b² + epsilon, least)) + offset, as a spectrum's decibels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.logarithms import LOG_BIAS_MAX, LOG_FRAC
from qrnn.arithmetic.reals import round_half_up
from qrnn.arithmetic.roots import SQUARES_MAX
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.indexed_inputs import IndexedInputs
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop
from qrnn.model.log_table import check_log_table, log_table
from qrnn.model.padding import without_padding
from qrnn.model.parts import Int32Array, require
from qrnn.model.squares import QuantSquares
from qrnn.model.surroundings import Equations, Plan

MULTIPLIER_BITS = 24
MOST_SHIFT = 46
"""The largest shift of the contract's rounding."""


@dataclass(frozen=True)
class LogPower(IndexedInputs):
    """Compute factor · ln(max(a² + b² + epsilon, least)) + offset; a and b are features of two tensors, or of one."""

    epsilon: float = 0.0
    factor: float = 1.0
    offset: float = 0.0
    least: float = 0.0

    def equation(self, run: Equations) -> None:
        """Compute the logarithm in float64; that of 0 is infinite."""
        a, b = self.operands(run)
        with np.errstate(divide="ignore"):
            y = self.factor * np.log(np.maximum(a * a + b * b + self.epsilon, self.least)) + self.offset
        run.write(self.output, without_padding(run, self.left, y))

    def quantize(self, plan: Plan) -> QuantLogPower:
        """Choose the output's fraction bits, and make the integers of epsilon, factor and offset; QuantizationError names what does not fit."""
        left, right = self.fracs(plan)
        where = f"layer {self.name!r}"
        out_frac, reason = output_frac(plan, self.output)
        scale = 15 + min(left, right)  # fraction bits of a and b in their squares, which are at most 2^61 then
        while scale > max(left, right) and max(self.epsilon, self.least) * 4.0**scale >= SQUARES_MAX:
            scale -= 1
        epsilon, least = (round_half_up(value * 4.0**scale) for value in (self.epsilon, self.least))
        gain = math.ldexp(self.factor, out_frac - LOG_FRAC)
        shift = min(max(MULTIPLIER_BITS - math.frexp(gain)[1], 0), MOST_SHIFT)
        multiplier = round_half_up(math.ldexp(gain, shift))
        bias = round_half_up(math.ldexp(self.offset - self.factor * 2 * scale * math.log(2.0), out_frac) * 2.0**shift)
        sizes = {
            "epsilon": (epsilon, SQUARES_MAX),
            "least": (least, SQUARES_MAX),
            "factor": (abs(multiplier), (1 << MULTIPLIER_BITS) + 1),
            "offset": (abs(bias), LOG_BIAS_MAX),
        }
        for what, (value, most) in sizes.items():
            if value >= most:
                raise QuantizationError(
                    f"{where}: {what} {getattr(self, what):g} is too large for an output with {out_frac} fraction bits"
                )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        return QuantLogPower(
            self.name, self.left, self.right, self.output, self.left_index, self.right_index, left, right, out_frac, scale,
            int(epsilon), max(int(least), 1), int(multiplier), int(bias), shift, log_table(),
        )  # fmt: skip


def log_power_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `log_power16` of a feature of a and one of b."""
    log_power16 = contract.log_power16

    def rows(
        first: int, last: int, left: Any, right: Any, a_shift: int, b_shift: int, epsilon: int, least: int, multiplier: int, bias: int,
        shift: int, table: Any, a: Any, b: Any, out: Any,
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = log_power16(
                    a[m, left[k]], b[m, right[k]], a_shift, b_shift, epsilon, least, multiplier, bias, shift, table
                )

    return rows


@dataclass(frozen=True)
class QuantLogPower(QuantSquares):
    """Compute `log_power16`: exact sums of squares in 64 bits, their logarithm by a table [129], and one rounding.

    The squares have 2 · ``scale`` fraction bits, and ``epsilon`` and ``least`` are integers in their units.
    """

    least: int
    multiplier: int
    bias: int
    shift: int
    table: Int32Array

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"layer {self.name}"
        require(1 <= self.least < SQUARES_MAX, f"{where}: least {self.least} not in 1…2^61 - 1")
        require(abs(self.multiplier) <= 1 << MULTIPLIER_BITS, f"{where}: multiplier {self.multiplier} beyond ±2^24")
        require(abs(self.bias) < LOG_BIAS_MAX, f"{where}: bias {self.bias} not within ±2^61")
        require(0 <= self.shift <= MOST_SHIFT, f"{where}: shift {self.shift} not in 0…{MOST_SHIFT}")
        check_log_table(where, self.table)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        numbers = (*self.square_shifts, self.epsilon, self.least, self.multiplier, self.bias, self.shift, self.table)
        return (RowLoop(log_power_rows, (self.left_index, self.right_index, *numbers), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of the logarithm."""
        return (Rounding(self.name, f"the logarithm, once, to {self.out_frac} bits", "int16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of the indices and the table."""
        return Bytes(weights=self.table.nbytes, rows=super().own_bytes().rows)
