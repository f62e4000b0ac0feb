"""Two kinds of layers that no backend has a kernel for, for the tests of the loops by which backends run such kinds.

They stand outside `qrnn.model.kinds`, so no file holds them and no folder is searched for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Loop, Reading, RowLoop, Scratch, StateArray, Step, StepLoop, Written
from qrnn.model.parts import STATE_MAX, Int16Array, TensorFormat
from qrnn.model.surroundings import Checks
from qrnn.model.time import LengthRule


def difference_rows(contract: Any) -> Loop:
    """out[j] = saturate16(x[j] - weight[j] · the next feature), rounded by ``shift`` bits; the last feature is followed by the first."""
    saturate16, shift_right_round = contract.saturate16, contract.shift_right_round

    def rows(first: int, last: int, weight: Any, shift: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for j in range(x.shape[1]):
                following = 0
                if j + 1 < x.shape[1]:
                    following = j + 1
                out[m, j] = saturate16(x[m, j] - shift_right_round(weight[j] * x[m, following], shift))

    return rows


@dataclass(frozen=True)
class QuantDifference(QuantLayer):
    """Every feature less a weighted neighbour, of every step by itself."""

    name: str
    input: str
    output: str
    weight: Int16Array
    shift: int

    def check(self, checks: Checks) -> None:
        fmt = checks.tensors[self.input]
        checks.expect(self.output, fmt.features, fmt.has_time)

    def readings(self) -> tuple[Reading, ...]:
        return (Reading(self.input),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        return {self.output: Written(12, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        return (RowLoop(difference_rows, (self.weight, self.shift), self.inputs),)


def pooled_step(contract: Any) -> Step:
    """Add x to a running sum; every ``stride`` steps out = weight · the sum, requantized, and the sum begins anew at a half of itself."""
    dot, requantize, saturate16 = contract.dot, contract.requantize, contract.saturate16
    to_operand, shift_right_round = contract.to_operand, contract.shift_right_round

    def step(
        n: int,
        t: int,
        k: int,
        x: Any,
        out: Any,
        sums: Any,
        phase: Any,
        weight: Any,
        bias: Any,
        multiplier: Any,
        stride: int,
        first: int,
        operand: Any,
    ) -> int:
        if t >= 0:
            for j in range(x.shape[2]):
                sums[n, j] = sums[n, j] + x[n, t, j]
        phase[n, 0] = phase[n, 0] + 1
        if phase[n, 0] < stride:
            return 0
        phase[n, 0] = first
        for j in range(sums.shape[1]):
            operand[n, j] = to_operand(saturate16(sums[n, j]), 2, 4095)
            sums[n, j] = shift_right_round(sums[n, j], 1)
        for r in range(out.shape[2]):
            out[n, k, r] = saturate16(requantize(dot(weight, r, operand, n) + bias[r], multiplier[r], 0))
        return 1

    return step


@dataclass(frozen=True)
class QuantPooled(QuantLayer):
    """A leaky sum over time that comes out every ``stride`` steps, through a matrix; ``delay`` steps past the end let the last one out."""

    name: str
    input: str
    output: str
    weight: Any
    bias: Any
    multiplier: Any
    stride: int
    delay: int = 0

    by_rows: ClassVar[bool] = False  # type: ignore[misc]  # a property of the base

    @property
    def steps_past_end(self) -> int:
        return self.delay

    def rows_in(self, steps: int) -> int:
        return -(-(steps + self.delay) // self.stride)

    def length_rule(self, given: LengthRule) -> LengthRule:
        return given.windows(self.delay, self.stride)

    def check(self, checks: Checks) -> None:
        checks.expect(self.input, self.weight.shape[1], True)
        checks.expect(self.output, self.weight.shape[0], True)

    def readings(self) -> tuple[Reading, ...]:
        return (Reading(self.input),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        return {self.output: Written(12, STATE_MAX)}

    def states(self) -> tuple[StateArray, ...]:
        largest = (1 << 31) - 1
        return (
            StateArray("sums", (self.weight.shape[1],), np.int32, largest),
            StateArray("phase", (1,), np.int32, self.stride - 1, least=0),
        )

    def step_loop(self) -> StepLoop:
        parameters = (self.weight, self.bias, self.multiplier, self.stride, 0)
        return StepLoop(pooled_step, parameters, (Scratch((self.weight.shape[1],), np.int16),))
