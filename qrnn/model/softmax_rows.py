"""Softmaxes of the features of each step in integers, of all of them or of groups of neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Loop, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import Int32Array, TensorFormat, check_exp_table
from qrnn.model.surroundings import Checks

MOST_FEATURES = 65535
"""The most features whose weights, of at most 2^15 each, have a sum that fits 32 bits."""


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
class SoftmaxOfRows(QuantLayer):
    """Compute softmaxes in integers, in Q1.14; ``table`` [129] holds e^-d, and d has in_frac fraction bits."""

    name: str
    input: str
    output: str
    table: Int32Array
    in_frac: int

    if TYPE_CHECKING:

        @property
        def groups(self) -> int:
            """Return the number of groups of neighbouring features, each of which has a softmax of its own."""

    def __post_init__(self) -> None:
        check_exp_table(self.name, self.table)

    def check(self, checks: Checks) -> None:
        """Refuse in_frac outside 0…15, features that are not as many for each group, more than `MOST_FEATURES` of one, and another output."""
        source = checks.tensors[self.input]
        if not 0 <= self.in_frac <= 15:
            checks.fail(f"in_frac {self.in_frac} out of 0…15")
        if source.features % self.groups:
            checks.fail(f"{source.features} features in {self.groups} groups")
        if source.features // self.groups > MOST_FEATURES:
            checks.fail(f"{source.features // self.groups} features, at most {MOST_FEATURES} sum within 32 bits")
        checks.expect(self.output, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is Q1.14, from 0 to 1."""
        return {self.output: Written(PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which normalizes every group of every row."""
        return (RowLoop(softmax_rows, (self.table, self.in_frac, self.groups), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each probability, and the saturation of the argument of e^-d."""
        return (Rounding(self.name, "each probability, once, to 14 bits", "exp argument at 16"),)
