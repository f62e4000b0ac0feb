"""Softmax layers compute y_k = e^(x_k) / Σ_j e^(x_j) over all features of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.model.activation import softmax
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import Int32Array, TensorFormat, check_exp_table
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_FEATURES = 65535
"""The most features whose weights, of at most 2^15 each, have a sum that fits 32 bits."""


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

    def quantize(self, plan: Plan) -> QuantSoftmax:
        """Give the output the format Q1.14, and make the integer layer with the table of e^-d."""
        plan.set_format(self.output, PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)
        return QuantSoftmax(self.name, self.input, self.output, plan.exp_table(), plan.frac(self.input, self.name))


def softmax_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `exp_weight` of the distance of x_k from the largest element of its group over the sum, in Q1.14."""
    exp_weight, softmax_divide = contract.exp_weight, contract.softmax_divide

    def rows(first: int, last: int, table: Any, in_frac: int, groups: int, x: Any, out: Any) -> None:
        size = x.shape[1] // groups
        for m in range(first, last):
            for g in range(groups):
                top = x[m, g * size]
                for k in range(size):
                    top = max(top, x[m, g * size + k])
                total = 0
                for k in range(size):
                    total += exp_weight(top - x[m, g * size + k], in_frac, table)
                for k in range(size):
                    out[m, g * size + k] = softmax_divide(exp_weight(top - x[m, g * size + k], in_frac, table), total)

    return rows


@dataclass(frozen=True)
class QuantSoftmax(QuantLayer):
    """Compute the softmax in integers, in Q1.14; ``table`` [129] holds e^-d, and d has in_frac fraction bits."""

    name: str
    input: str
    output: str
    table: Int32Array
    in_frac: int

    def __post_init__(self) -> None:
        check_exp_table(self.name, self.table)

    def check(self, checks: Checks) -> None:
        """Refuse in_frac outside 0…15, more than `MOST_FEATURES` features, and an output of another shape than the input's."""
        source = checks.tensors[self.input]
        if not 0 <= self.in_frac <= 15:
            checks.fail(f"in_frac {self.in_frac} out of 0…15")
        if source.features > MOST_FEATURES:
            checks.fail(f"{source.features} features, at most {MOST_FEATURES} sum within 32 bits")
        checks.expect(self.output, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is Q1.14, from 0 to 1."""
        return {self.output: Written(PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which normalizes every row."""
        return (RowLoop(softmax_rows, (self.table, self.in_frac, 1), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each probability, and the saturation of the argument of e^-d."""
        return (Rounding(self.name, "each probability, once, to 14 bits", "exp argument at 16"),)
