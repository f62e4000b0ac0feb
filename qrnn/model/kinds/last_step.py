"""Layers of kind last step take each sequence's own last valid step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qrnn.model.copied import QuantCopy
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import TimeAxis


def last_of(axis: TimeAxis, values: FloatArray) -> FloatArray:
    """Return each sequence's own last valid step of values [N, T, F], as [N, F]; a sequence of no steps gives zeros."""
    last: FloatArray = values[np.arange(len(values)), np.maximum(axis.lengths, 1) - 1]
    return np.where((axis.lengths > 0)[:, None], last, 0.0)


@dataclass(frozen=True)
class LastStep(Layer):
    """Take each sequence's own last valid step: [N, T, F] becomes [N, F]."""

    name: str
    input: str
    output: str

    carries_offset: ClassVar[bool] = True

    @property
    def homogeneous(self) -> bool:
        """Return True: a copy of a feature keeps its scale."""
        return True

    def equation(self, run: Equations) -> None:
        """Copy the last valid steps in float64."""
        run.write(self.output, last_of(run.over(self.input), run.read(self.input)))

    def quantize(self, plan: Plan) -> QuantLastStep:
        """Give the output the format of the input."""
        plan.copy_format(self.input, self.output)
        return QuantLastStep(self.name, self.input, self.output)


@dataclass(frozen=True)
class QuantLastStep(QuantCopy):
    """Take each sequence's own last valid step: [N, T, F] becomes [N, F].

    A sequence of no steps gives the integers next to the real 0.
    """

    name: str
    input: str
    output: str

    @property
    def by_rows(self) -> bool:
        """Return False: the output has one row per sequence, not one per step."""
        return False

    @property
    def whole_sequences(self) -> bool:
        """Return True: which step is the last is known only at the end of a sequence."""
        return True

    def check(self, checks: Checks) -> None:
        """Refuse an input without time, and an output over time or of other features."""
        features = checks.tensors[self.input].features
        checks.expect(self.input, features, True)
        checks.expect(self.output, features, False)
