"""Group softmax layers compute the softmax over each group of neighbouring features of a step, as attention within a step does."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.model.activation import softmax
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.parts import require
from qrnn.model.softmax_rows import SoftmaxOfRows
from qrnn.model.surroundings import Equations, Plan


@dataclass(frozen=True)
class GroupSoftmax(Softmax):
    """Compute the softmax over each of ``groups`` groups of neighbouring features, of equal sizes."""

    groups: int

    def equation(self, run: Equations) -> None:
        """Compute the softmax of each group in float64."""
        x = run.read(self.input)
        run.write(self.output, softmax(x.reshape(*x.shape[:-1], self.groups, -1)).reshape(x.shape))

    def quantize(self, plan: Plan) -> QuantGroupSoftmax:
        """Give the output the format Q1.14, and make the integer layer with the table of e^-d."""
        plan.set_format(self.output, PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)
        frac = plan.frac(self.input, self.name)
        return QuantGroupSoftmax(self.name, self.input, self.output, plan.exp_table(), frac, self.groups)


@dataclass(frozen=True)
class QuantGroupSoftmax(SoftmaxOfRows):
    """Compute the softmax of each group in integers, in Q1.14, as `QuantSoftmax` does of all features."""

    groups: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.groups >= 1, f"layer {self.name}: {self.groups} groups")
