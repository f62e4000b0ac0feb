"""Softmax layers compute y_k = e^(x_k) / Σ_j e^(x_j) over all features of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.model.activation import softmax
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.softmax_rows import SoftmaxOfRows
from qrnn.model.surroundings import Equations, Plan


@dataclass(frozen=True)
class Softmax(Layer):
    """Compute the softmax over all features of each step."""

    name: str
    input: str
    output: str

    least_frac: ClassVar[int] = 0  # it takes logits that are 16 apart as certain, so whole units serve it

    def equation(self, run: Equations) -> None:
        """Compute the softmax in float64."""
        run.write(self.output, softmax(run.read(self.input)))

    def quantize(self, plan: Plan) -> QuantLayer:
        """Give the output the format Q1.14, and make the integer layer with the table of e^-d."""
        plan.set_format(self.output, PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)
        return QuantSoftmax(self.name, self.input, self.output, plan.exp_table(), plan.frac(self.input, self.name))


@dataclass(frozen=True)
class QuantSoftmax(SoftmaxOfRows):
    """Compute the softmax of all features in integers, in Q1.14; ``table`` [129] holds e^-d, and d has in_frac fraction bits."""

    @property
    def groups(self) -> int:
        """Return 1, the number of groups: all features are one."""
        return 1
