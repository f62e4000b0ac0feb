"""Layers of kind prelu compute x for x ≥ 0 and slope · x below, with a slope for each feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import FloatArray, Int8Array, Int16Array, check_array, require
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_SHIFT = 46
"""The largest shift of the contract's rounding."""


@dataclass(frozen=True)
class PRelu(Layer):
    """Compute y = x where x ≥ 0, else slope · x; slope [F]."""

    name: str
    input: str
    output: str
    slope: FloatArray

    @property
    def homogeneous(self) -> bool:
        """Return True: f(s·x) = s·f(x) for each feature and every s > 0."""
        return True

    def equation(self, run: Equations) -> None:
        """Compute the function in float64."""
        x = run.read(self.input)
        run.write(self.output, np.where(x >= 0.0, x, self.slope * x))

    def quantize(self, plan: Plan) -> QuantPRelu:
        """Give the output the bits of calibration, and each slope the most bits with which it fits an int16."""
        in_frac = plan.frac(self.input, self.name)
        out_frac, reason = output_frac(plan, self.output)
        out_frac = max(out_frac, 0)
        whole = np.frexp(np.abs(self.slope))[1]  # |slope| < 2^whole
        frac = np.minimum(15 - whole, MOST_SHIFT - in_frac + out_frac)
        frac -= round_half_up(np.ldexp(self.slope, frac)) > 32767  # such a slope rounds to 2^15
        shift = frac + in_frac - out_frac
        if shift.min() < 0:
            worst = int(np.argmin(shift))
            raise QuantizationError(
                f"layer {self.name!r}: slope {self.slope[worst]:g} of feature {worst} is too large for {out_frac} fraction bits"
            )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        slope = round_half_up(np.ldexp(self.slope, frac)).astype(np.int16)
        return QuantPRelu(self.name, self.input, self.output, slope, shift.astype(np.int8), in_frac, out_frac)


def prelu_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to x_k in the output's format, or below 0 to x_k · slope_k / 2^shift_k, rounded once and saturated."""
    align16, shift_right_round, saturate16 = contract.align16, contract.shift_right_round, contract.saturate16

    def rows(first: int, last: int, slope: Any, shift: Any, in_frac: int, out_frac: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                if x[m, k] < 0:
                    out[m, k] = saturate16(shift_right_round(x[m, k] * slope[k], shift[k]))
                else:
                    out[m, k] = saturate16(align16(x[m, k], in_frac, out_frac))

    return rows


@dataclass(frozen=True)
class QuantPRelu(QuantOneInput):
    """Compute PRelu in integers: slope [F] int16, shift [F] int8 from 0 to 46; |x · slope| is at most 2^30."""

    name: str
    input: str
    output: str
    slope: Int16Array
    shift: Int8Array
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        owner = f"layer {self.name}"
        require(self.slope.ndim == 1 and self.slope.size > 0, f"{owner}: slope is not int16[F]")
        check_array(owner, "slope", self.slope, np.int16, self.slope.shape)
        check_array(owner, "shift", self.shift, np.int8, self.slope.shape)
        require(int(self.shift.min()) >= 0 and int(self.shift.max()) <= MOST_SHIFT, f"{owner}: shift out of 0…46")
        self.check_fracs(least=0)

    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not have one feature per slope."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.slope.size, has_time)
        checks.expect(self.output, self.slope.size, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        return (RowLoop(prelu_rows, (self.slope, self.shift, self.in_frac, self.out_frac), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each value."""
        return (Rounding(self.name, f"each value, once, to {self.out_frac} bits", "int16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of the slopes and shifts."""
        return Bytes(rows=self.slope.nbytes + self.shift.nbytes)
