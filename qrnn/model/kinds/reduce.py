"""Layers of kind reduce make one feature of several of the same step: their mean, sum, largest or least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qrnn.model.layer_facts import Loop, RowLoop
from qrnn.model.reduced import QuantReduced, Reduced, reduced
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Reduce(Reduced):
    """Compute the ``function`` of every ``count`` features of a step: [N, T, outer · count · inner] gives [N, T, outer · inner].

    Without time it is the same of [N, F].
    """

    def equation(self, run: Equations) -> None:
        """Compute the reduction in float64."""
        x = run.read(self.input)
        run.write(self.output, reduced(self.function, self.grouped(x), -2).reshape(*x.shape[:-1], self.features))

    def quantize(self, plan: Plan) -> QuantReduce:
        """Choose the output's fraction bits."""
        own = self.fracs(plan)
        return QuantReduce(
            self.name, self.input, self.output, self.function, self.features, *own, self.count, self.inner
        )


def sum_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to the sum of ``count`` elements, or to their mean where ``averaged`` is 1."""
    divide_sum, shift_right_round, saturate16 = contract.divide_sum, contract.shift_right_round, contract.saturate16

    def rows(
        first: int, last: int, count: int, inner: int, averaged: int, up: int, down: int, x: Any, out: Any
    ) -> None:
        for m in range(first, last):
            for j in range(out.shape[1]):
                start = j // inner * count * inner + j % inner
                total = 0
                for c in range(count):
                    total += x[m, start + c * inner]
                if averaged > 0:
                    out[m, j] = divide_sum(total, count << down, up)
                else:
                    out[m, j] = saturate16(shift_right_round(total << up, down))

    return rows


def extreme_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to the largest of ``count`` elements, or with ``sign`` -1 to the least."""

    def rows(first: int, last: int, count: int, inner: int, sign: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for j in range(out.shape[1]):
                start = j // inner * count * inner + j % inner
                largest = sign * x[m, start]
                for c in range(1, count):
                    value = sign * x[m, start + c * inner]
                    if value > largest:
                        largest = value
                out[m, j] = sign * largest

    return rows


@dataclass(frozen=True)
class QuantReduce(QuantReduced):
    """Compute `Reduce` of integers: an exact sum, rounded once to out_frac fraction bits and saturated, or the largest or least element."""

    def check(self, checks: Checks) -> None:
        """Refuse an input that does not have ``count`` features for each of the output, and tensors of which one alone is over time."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.features * self.count, has_time)
        checks.expect(self.output, self.features, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        if self.compares:
            return (RowLoop(extreme_rows, (self.count, self.inner, self.sign), self.inputs),)
        numbers = (self.count, self.inner, int(self.function == "mean"), *self.shifts)
        return (RowLoop(sum_rows, numbers, self.inputs),)
