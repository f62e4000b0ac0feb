"""Running normalization normalizes each step by the mean and the variance of the last steps, or of all so far; it streams.

It stands for a normalization over a whole sequence where a stream is wanted (``--window``), and is the cumulative normalization of causal
networks (Luo and Mesgarani 2019) where it is over all steps so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.model.kinds.sequence_norm import sums_of
from qrnn.model.layer_facts import StateArray, Step, StepLoop
from qrnn.model.normalized import Normalized, QuantNormalized
from qrnn.model.parts import LEFT_OUT, FloatArray, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.window import LARGEST_WINDOW

MOST_KEPT = 1 << 26
"""The most int16 of past steps that a layer keeps."""


@dataclass(frozen=True)
class RunningNorm(Normalized):
    """Compute `Normalized` with the mean and the variance of each group over the last ``steps`` steps, the step itself being the last of them.

    Before there are so many, and with 0, it is over all steps so far. With ``sample`` the divisor of a variance is one less than the number
    of its values, and 1 for one value.
    """

    sample: bool = False
    steps: int = 0

    keeps_state: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Compute the normalization in float64."""
        x = run.read(self.input)
        grouped = self.grouped(x)
        middle = grouped[:, :1, :, :1] if self.centred else 0.0  # as of values less a constant
        total, squares = self._sums(grouped - middle), self._sums((grouped - middle) ** 2)
        number: FloatArray = np.minimum(np.arange(1, x.shape[1] + 1), self.steps or x.shape[1])[
            :, None, None, None
        ] * float(self.count)
        mean = total / number if self.centred else 0.0 * total
        variance = np.maximum(squares / number - mean**2, 0.0)
        if self.sample:
            variance = variance * number / np.maximum(number - 1.0, 1.0)
        run.write(self.output, self.normalized(x, mean + middle, variance))

    def _sums(self, values: FloatArray) -> FloatArray:
        """Return the sums over the groups' features and the last steps, [N, T, outer, 1, inner], of [N, T, outer, count, inner]."""
        each: FloatArray = values.sum(axis=3, keepdims=True)
        if not self.steps:
            so_far: FloatArray = np.cumsum(each, axis=1)
            return so_far
        found = np.zeros_like(each)
        for back in range(min(self.steps, each.shape[1])):  # not differences of two sums, which would lose digits
            found[:, back:] += each[:, : each.shape[1] - back]
        return found

    def quantize(self, plan: Plan) -> QuantRunningNorm:
        """Choose the output's fraction bits, and make the integers of gain, bias and epsilon."""
        own = self.integers(plan)
        return QuantRunningNorm(self.name, self.input, self.output, *own, self.sample, self.steps)


def running_norm_step(contract: Any) -> Step:
    """Return the step that adds a step to the sums, takes away one that is no longer among the last, and writes the normalized features."""
    add_to_sum, add_to_squares, saturate = contract.add_to_sum, contract.add_to_squares, contract.saturate
    sum_high, sum_low = contract.sum_high, contract.sum_low
    mean_square, mean_distance, added_root = contract.mean_square, contract.mean_distance, contract.added_root
    norm_exponent, norm_scale = contract.norm_exponent, contract.norm_scale
    normalize_distance, sample_square = contract.normalize_distance, contract.sample_square

    def step(
        n: int, t: int, k: int, x: Any, out: Any, high: Any, low: Any, squares_high: Any, squares_low: Any, steps: Any, past: Any, place: Any,
        gain: Any, gain_shift: Any, bias: Any, epsilon: int, count: int, inner: int, centred: int, outside: int, least: int, most: int,
        sample: int, most_steps: int, kept: int,
    ) -> int:  # fmt: skip
        counted = 0
        if kept > 0 or steps[n, 0] < most_steps:
            counted = 1
        if steps[n, 0] < most_steps:
            steps[n, 0] = steps[n, 0] + 1
        at = place[n, 0]
        number = saturate(steps[n, 0], 1, most_steps) * count
        for g in range(out.shape[2] // count):
            start = g // inner * count * inner + g % inner
            added = 0
            squared = 0
            for c in range(count):
                j = start + c * inner
                value = counted * x[n, t, j]
                added += centred * value
                squared += value * value
                if kept > 0:
                    added -= centred * past[n, at, j]
                    squared -= past[n, at, j] * past[n, at, j]
                    past[n, at, j] = value
            total = add_to_sum(high[n, g], low[n, g], added)
            high[n, g] = sum_high(total)
            low[n, g] = sum_low(total)
            squares = add_to_squares(squares_high[n, g], squares_low[n, g], squared)
            squares_high[n, g] = sum_high(squares)
            squares_low[n, g] = sum_low(squares)
            square = mean_square(number, total, squares)
            if sample > 0:
                square = sample_square(square, number)
            square = square + epsilon
            if outside > 0:
                square = added_root(square, outside)
            square = saturate(square, least, most)
            exponent = norm_exponent(square)
            scale = norm_scale(square, exponent)
            for c in range(count):
                j = start + c * inner
                distance = mean_distance(x[n, t, j], number, total)
                out[n, k, j] = normalize_distance(distance, scale, exponent, gain[j], gain_shift[j], bias[j])
        place[n, 0] = at + 1
        if at + 1 >= kept:
            place[n, 0] = 0
        return 1

    return step


@dataclass(frozen=True)
class QuantRunningNorm(QuantNormalized):
    """Compute `RunningNorm` of integers: exact sums, of which each step gives one rounding.

    The state is the sums, in two parts each, the number of steps in them, the last ``steps`` steps and the place of the oldest. Over all
    steps so far, a sum has at most 2^31 - 1 values, and sessions refuse a step past `most_steps`.
    """

    sample: bool = field(default=False, metadata=LEFT_OUT)
    steps: int = field(default=0, metadata=LEFT_OUT)

    by_rows = False

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = 0 <= self.steps <= LARGEST_WINDOW and self.steps * self.gain.size <= MOST_KEPT
        require(fits, f"layer {self.name}: the last {self.steps} steps of {self.gain.size} features")
        require(max(1, self.steps) * self.count <= MOST_SUMMED, f"layer {self.name}: sums of {self.steps} steps")

    @property
    def most_steps(self) -> int | None:
        """Return the most steps of a sequence, floor((2^31 - 1) / count), where all so far are summed; None for the last ones."""
        return None if self.steps else MOST_SUMMED // self.count

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and those that do not have one feature per gain."""
        checks.expect(self.input, self.gain.size, True)
        checks.expect(self.output, self.gain.size, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the parts of both sums, the number of steps in them, and the last steps with the place of the oldest."""
        kept = max(1, self.steps)
        return (
            *sums_of(self.groups, self.steps or MOST_SUMMED // self.count),
            StateArray("past", (kept, self.gain.size if self.steps else 1), np.int16, 32767, least=-32768),
            StateArray("place", (1,), np.int32, kept - 1, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step."""
        numbers = (*self.numbers, int(self.sample), self.steps or MOST_SUMMED // self.count, self.steps)
        return StepLoop(running_norm_step, numbers)
