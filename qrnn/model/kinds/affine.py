"""Layers of kind affine multiply each feature by a constant of its own and add another, as normalizations do that no matrix can take up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_format
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop, Written
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import (
    LEFT_OUT,
    STATE_MAX,
    FloatArray,
    Int8Array,
    Int16Array,
    Int64Array,
    TensorFormat,
    check_array,
    require,
)
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_SHIFT = 46
"""The largest shift of the contract's rounding."""

BIAS_MAX = 1 << 61
"""The largest magnitude of a bias, with which the sum and its rounding stay below 2^63."""


@dataclass(frozen=True)
class Affine(Layer):
    """Compute y = scale · x + offset, feature by feature; scale and offset [F]."""

    name: str
    input: str
    output: str
    scale: FloatArray
    offset: FloatArray

    @property
    def homogeneous(self) -> bool:
        """Return whether nothing is added."""
        return not self.offset.any()

    def equation(self, run: Equations) -> None:
        """Compute scale · x + offset in float64."""
        run.write(self.output, run.read(self.input) * self.scale + self.offset)

    def with_output_scaled(self, scale: FloatArray) -> Affine:
        """Return the layer with both constants multiplied by ``scale`` [F]."""
        return replace(self, scale=self.scale * scale, offset=self.offset * scale)

    def quantize(self, plan: Plan) -> QuantAffine:
        """Give the output the bits of calibration, each factor the most bits with which it fits an int16, and each bias those of the product.

        The output gets an offset where that gives it a finer unit, as that of a layer with a matrix does.
        """
        in_frac = plan.frac(self.input, self.name)
        out = output_format(plan, self.output)
        whole = np.frexp(np.abs(self.scale))[1]  # |scale| < 2^whole
        frac = np.minimum(15 - whole, MOST_SHIFT - in_frac + out.frac)
        frac -= round_half_up(np.ldexp(np.abs(self.scale), frac)) > STATE_MAX  # such a factor rounds to 2^15
        out_frac = int(min(out.frac, (frac + in_frac).min()))  # no product has fewer fraction bits than the output
        if out_frac < -16:
            worst = int(np.argmax(np.abs(self.scale)))
            raise QuantizationError(
                f"layer {self.name!r}: scale {self.scale[worst]:g} of feature {worst} is too large for an input with {in_frac} fraction bits"
            )
        out_offset = int(round_half_up(np.ldexp(float(out.offset), out_frac - out.frac)))
        bias = np.ldexp(self.offset, frac + in_frac) - np.ldexp(float(out_offset), frac + in_frac - out_frac)
        if np.abs(bias).max() >= BIAS_MAX:
            worst = int(np.argmax(np.abs(bias)))
            raise QuantizationError(
                f"layer {self.name!r}: offset {self.offset[worst]:g} of feature {worst} is too large beside scale {self.scale[worst]:g}"
            )
        plan.set_format(self.output, out_frac, offset=(out_offset,))
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({out.reason})")
        return QuantAffine(
            self.name,
            self.input,
            self.output,
            round_half_up(np.ldexp(self.scale, frac)).astype(np.int16),
            round_half_up(bias).astype(np.int64),
            (frac + in_frac - out_frac).astype(np.int8),
            in_frac,
            out_frac,
            out_offset,
        )


def affine_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to (x_k · factor_k + bias_k) / 2^shift_k, rounded once and saturated."""
    shift_right_round, saturate16 = contract.shift_right_round, contract.saturate16

    def rows(first: int, last: int, factor: Any, bias: Any, shift: Any, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = saturate16(shift_right_round(x[m, k] * factor[k] + bias[k], shift[k]))

    return rows


@dataclass(frozen=True)
class QuantAffine(QuantOneInput):
    """Compute y = saturate16((x · factor + bias) / 2^shift), rounded once; factor [F] int16, bias [F] int64, shift [F] int8 from 0 to 46.

    |x · factor| is at most 2^30 and |bias| at most 2^61. y + ``out_offset`` is what the output stands for: the biases are less by the offset.
    """

    name: str
    input: str
    output: str
    factor: Int16Array
    bias: Int64Array
    shift: Int8Array
    in_frac: int
    out_frac: int
    out_offset: int = field(default=0, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        owner = f"layer {self.name}"
        require(self.factor.ndim == 1 and self.factor.size > 0, f"{owner}: factor is not int16[F]")
        check_array(owner, "factor", self.factor, np.int16, self.factor.shape)
        check_array(owner, "bias", self.bias, np.int64, self.factor.shape)
        check_array(owner, "shift", self.shift, np.int8, self.factor.shape)
        require(int(self.shift.min()) >= 0 and int(self.shift.max()) <= MOST_SHIFT, f"{owner}: shift out of 0…46")
        within = int(self.bias.min()) >= -BIAS_MAX and int(self.bias.max()) <= BIAS_MAX
        require(within, f"{owner}: a bias beyond ±2^61")
        self.check_fracs()

    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not have one feature per factor."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.factor.size, has_time)
        checks.expect(self.output, self.factor.size, has_time)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits and the offset."""
        return {self.output: Written(self.out_frac, STATE_MAX, (self.out_offset,))}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        return (RowLoop(affine_rows, (self.factor, self.bias, self.shift), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each value."""
        return (Rounding(self.name, f"each value, once, to {self.out_frac} bits", "int16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of the factors, biases and shifts."""
        return Bytes(rows=self.factor.nbytes + self.bias.nbytes + self.shift.nbytes)
