"""Layer and RMS normalization compute y = gain · (x - mean) / sqrt(variance + epsilon) + bias over all features of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop
from qrnn.model.norm_parameters import NormParameters, norm_parameters
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import FloatArray
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Normalize over all features of each step; gain [F], bias [F], epsilon ≥ 0.

    Without ``centred`` the layer is RMS normalization, which takes 0 for the mean. A row without variance gives the bias, whatever epsilon
    is.
    """

    name: str
    input: str
    output: str
    gain: FloatArray
    bias: FloatArray
    epsilon: float
    centred: bool = True

    def with_output_affine(self, scale: FloatArray, offset: FloatArray) -> LayerNorm:
        """Return the layer that writes y · scale + offset, [F] each."""
        return replace(self, gain=self.gain * scale, bias=self.bias * scale + offset)

    def equation(self, run: Equations) -> None:
        """Compute the normalization in float64."""
        x = run.read(self.input)
        distance = x - x.mean(axis=-1, keepdims=True) if self.centred else x
        root = np.sqrt((distance**2).mean(axis=-1, keepdims=True) + self.epsilon)
        run.write(self.output, self.gain * distance / np.where(root > 0.0, root, 1.0) + self.bias)

    def quantize(self, plan: Plan) -> QuantLayerNorm:
        """Choose the output's fraction bits, and make the integers of gain, bias and epsilon; QuantizationError names what they cannot hold."""
        in_frac = plan.frac(self.input, self.name)
        out_frac, reason = output_frac(plan, self.output)
        parameters = norm_parameters(f"layer {self.name!r}", self.gain, self.bias, self.epsilon, in_frac, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        plan.set_format(self.output, out_frac)
        return QuantLayerNorm(self.name, self.input, self.output, parameters, self.centred, in_frac, out_frac)


def layer_norm_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `normalize` of x_k, by the exact sum and the exact sum of squares of its row."""
    norm_variance, norm_exponent = contract.norm_variance, contract.norm_exponent
    norm_scale, normalize = contract.norm_scale, contract.normalize

    def rows(
        first: int, last: int, gain: Any, gain_shift: Any, bias: Any, shift: int, epsilon: int, centred: int, x: Any, out: Any
    ) -> None:  # fmt: skip
        count = x.shape[1]
        for m in range(first, last):
            total = 0
            squares = 0
            for k in range(count):
                total += centred * x[m, k]
                squares += x[m, k] * x[m, k]
            variance = norm_variance(count, total, squares, shift, epsilon)
            exponent = norm_exponent(variance)
            scale = norm_scale(variance, exponent)
            for k in range(count):
                out[m, k] = normalize(x[m, k], count, total, scale, exponent, gain[k], gain_shift[k], bias[k])

    return rows


@dataclass(frozen=True)
class QuantLayerNorm(QuantOneInput):
    """Compute y = `normalize` of each feature, int16 with out_frac fraction bits; x is int16 with in_frac fraction bits."""

    name: str
    input: str
    output: str
    parameters: NormParameters
    centred: bool
    in_frac: int
    out_frac: int

    def check(self, checks: Checks) -> None:
        """Refuse in_frac outside 0…15, out_frac outside -16…15, and tensors that do not have one feature per gain."""
        if not 0 <= self.in_frac <= 15:
            checks.fail(f"in_frac {self.in_frac} out of 0…15")
        if not -16 <= self.out_frac <= 15:
            checks.fail(f"out_frac {self.out_frac} out of -16…15")
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.parameters.features, has_time)
        checks.expect(self.output, self.parameters.features, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which normalizes every row."""
        p = self.parameters
        numbers = (p.gain, p.gain_shift, p.bias, p.variance_shift, p.epsilon, int(self.centred))
        return (RowLoop(layer_norm_rows, numbers, self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each feature."""
        return (Rounding(self.name, f"each feature, once, to {self.out_frac} bits", "int16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of gain, gain_shift and bias."""
        p = self.parameters
        return Bytes(rows=p.gain.nbytes + p.gain_shift.nbytes + p.bias.nbytes)
