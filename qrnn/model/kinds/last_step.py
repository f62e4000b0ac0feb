"""Layers that take each sequence's own last step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qrnn.model.formats import fraction_bits_of
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Part, Reading, Written
from qrnn.model.parts import FloatArray, TensorFormat
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import TimeAxis


def last_of(axis: TimeAxis, values: FloatArray) -> FloatArray:
    """Each sequence's own last real step of values [N, T, F], [N, F]; zero for a sequence of no steps."""
    last: FloatArray = values[np.arange(len(values)), np.maximum(axis.lengths, 1) - 1]
    return np.where((axis.lengths > 0)[:, None], last, 0.0)


@dataclass(frozen=True)
class LastStep(Layer):
    """[N, T, F] → [N, F]: each sequence's own last valid step."""

    name: str
    input: str
    output: str

    @property
    def homogeneous(self) -> bool:
        return True

    def equation(self, run: Equations) -> None:
        run.write(self.output, last_of(run.over(self.input), run.read(self.input)))

    def quantize(self, plan: Plan) -> QuantLastStep:
        plan.copy_format(self.input, self.output)
        return QuantLastStep(self.name, self.input, self.output)


@dataclass(frozen=True)
class QuantLastStep(QuantLayer):
    """[N, T, F] → [N, F]: each sequence's own last valid step."""

    name: str
    input: str
    output: str

    @property
    def by_rows(self) -> bool:
        return False

    @property
    def whole_sequences(self) -> bool:
        return True

    def check(self, checks: Checks) -> None:
        features = checks.tensors[self.input].features
        checks.expect(self.input, features, True)
        checks.expect(self.output, features, False)

    def readings(self) -> tuple[Reading, ...]:
        return (Reading(self.input),)

    def integer_parts(self) -> tuple[Part, ...]:
        return ()

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        source = tensors[self.input]
        frac = fraction_bits_of(source)
        assert frac is not None, "a tensor that is read is fixed-point or scaled"
        return {self.output: Written(frac, source.limit)}
