"""Layers of kind running give at each step the mean, sum, largest or least of all steps so far; the last one is that of the sequence.

The running value followed by `qrnn.model.kinds.last_step.LastStep` is the reduction of a sequence of any length over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.model.layer_facts import StateArray, Step, StepLoop
from qrnn.model.parts import FloatArray, QuantInitialState
from qrnn.model.reduced import QuantReduced, Reduced, reduced
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Running(Reduced):
    """Compute y_t, the ``function`` of the steps 0 … t: [N, T, outer · count · inner] gives [N, T, outer · inner].

    With ``count`` above 1 it is also over every ``count`` features of each step.
    """

    keeps_state: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Compute the running reduction in float64."""
        x = self.grouped(run.read(self.input))
        y: FloatArray
        if self.function in ("max", "min"):
            so_far = np.maximum if self.function == "max" else np.minimum
            y = so_far.accumulate(reduced(self.function, x, -2), axis=1)
        else:
            y = np.cumsum(reduced("sum", x, -2), axis=1)
            if self.function == "mean":
                y = y / (self.count * np.arange(1, x.shape[1] + 1)[:, None, None])
        run.write(self.output, y.reshape(*x.shape[:2], self.features))

    def quantize(self, plan: Plan) -> QuantRunning:
        """Choose the output's fraction bits."""
        own = self.fracs(plan)
        return QuantRunning(
            self.name, self.input, self.output, self.function, self.features, *own, self.count, self.inner
        )


def running_sum_step(contract: Any) -> Step:
    """Return the step that adds x to the sums, and writes them, or where ``averaged`` is 1 their means."""
    add_to_sum, sum_high, sum_low = contract.add_to_sum, contract.sum_high, contract.sum_low
    divide_sum, shift_right_round, saturate16 = contract.divide_sum, contract.shift_right_round, contract.saturate16

    def step(
        n: int, t: int, k: int, x: Any, out: Any, high: Any, low: Any, steps: Any, count: int, inner: int, averaged: int,
        up: int, down: int, most: int,
    ) -> int:  # fmt: skip
        counted = 0
        if steps[n, 0] < most:
            steps[n, 0] = steps[n, 0] + 1
            counted = 1
        for j in range(out.shape[2]):
            start = j // inner * count * inner + j % inner
            added = 0
            for c in range(count):
                added += counted * x[n, t, start + c * inner]
            total = add_to_sum(high[n, j], low[n, j], added)
            high[n, j] = sum_high(total)
            low[n, j] = sum_low(total)
            if averaged > 0:
                out[n, k, j] = divide_sum(total, (steps[n, 0] * count) << down, up)
            else:
                out[n, k, j] = saturate16(shift_right_round(total << up, down))
        return 1

    return step


def running_extreme_step(contract: Any) -> Step:
    """Return the step that writes the largest element so far, or with ``sign`` -1 the least."""

    def step(n: int, t: int, k: int, x: Any, out: Any, extreme: Any, count: int, inner: int, sign: int) -> int:
        for j in range(out.shape[2]):
            start = j // inner * count * inner + j % inner
            for c in range(count):
                if sign * x[n, t, start + c * inner] > sign * extreme[n, 0, j]:
                    extreme[n, 0, j] = x[n, t, start + c * inner]
            out[n, k, j] = extreme[n, 0, j]
        return 1

    return step


@dataclass(frozen=True)
class QuantRunning(QuantReduced):
    """Compute `Running` of integers: exact sums of all steps so far, rounded once to out_frac fraction bits and saturated, or extremes.

    The state of a mean or a sum is the sums, in two parts each, and the number of steps; that of the largest or least is what it was so far.
    A sum has at most 2^31 - 1 elements. Sessions refuse a step past `most_steps`; a step that is taken all the same changes no sum.
    """

    by_rows = False

    @property
    def most_steps(self) -> int | None:
        """Return the most steps of a sequence, floor((2^31 - 1) / count); None for the largest and the least, which have no limit."""
        return None if self.compares else MOST_SUMMED // self.count

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and an input that does not have ``count`` features for each of the output."""
        checks.expect(self.input, self.features * self.count, True)
        checks.expect(self.output, self.features, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the parts of the sums and the number of steps, or the largest or least elements so far."""
        if self.most_steps is None:
            start = np.full(self.features, -32768 if self.function == "max" else 32767, np.int32)
            starts = (QuantInitialState(start),)
            return (StateArray("extreme", (1, self.features), np.int16, 32767, starts=starts, least=-32768),)
        return (
            StateArray("high", (self.features,), np.int16, 32767, least=-32768),
            StateArray("low", (self.features,), np.int32, (1 << 31) - 1, least=0),
            StateArray("steps", (1,), np.int32, self.most_steps, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step of sums and means, or that of the largest and the least."""
        if self.most_steps is None:
            return StepLoop(running_extreme_step, (self.count, self.inner, self.sign))
        mean = int(self.function == "mean")
        return StepLoop(running_sum_step, (self.count, self.inner, mean, *self.shifts, self.most_steps))
