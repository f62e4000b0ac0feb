"""Sequence normalization normalizes each group of features over all steps of a sequence, which has to be given whole.

A sequence is gone through twice: once for its sums, which are exact, and once for its steps. Padding takes no part, so that a sequence in a
ragged batch gives the bits that it gives alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.model.layer_facts import StateArray, Step, StepLoop
from qrnn.model.normalized import Normalized, QuantNormalized
from qrnn.model.parts import LEFT_OUT
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class SequenceNorm(Normalized):
    """Compute `Normalized` with the mean and the variance of each group over all steps of a sequence.

    With ``sample`` the divisor of a variance is one less than the number of its values, and 1 for one value.
    """

    sample: bool = False

    keeps_state: ClassVar[bool] = True
    needs_end: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Compute the normalization in float64."""
        x, valid = run.read(self.input), run.over(self.input).mask
        grouped = self.grouped(x)
        weight = valid[:, :, None, None, None].astype(np.float64)
        number = np.maximum(weight.sum(axis=1, keepdims=True) * self.count, 1.0)

        def summed(values: Any) -> Any:
            return (values * weight).sum(axis=(1, 3), keepdims=True)

        mean = summed(grouped) / number if self.centred else 0.0 * number
        variance = summed((grouped - mean) ** 2) / (np.maximum(number - 1.0, 1.0) if self.sample else number)
        run.write(self.output, self.normalized(x, mean, variance))

    def quantize(self, plan: Plan) -> QuantSequenceNorm:
        """Choose the output's fraction bits, and make the integers of gain, bias and epsilon."""
        return QuantSequenceNorm(self.name, self.input, self.output, *self.integers(plan), self.sample)


def count_step(contract: Any) -> Step:
    """Return the step of the first pass, which adds the values and the squares of each group to its sums, and writes nothing."""
    add_to_sum, add_to_squares = contract.add_to_sum, contract.add_to_squares
    sum_high, sum_low = contract.sum_high, contract.sum_low

    def step(
        n: int, t: int, k: int, x: Any, out: Any, high: Any, low: Any, squares_high: Any, squares_low: Any, steps: Any, gain: Any,
        gain_shift: Any, bias: Any, epsilon: int, count: int, inner: int, centred: int, outside: int, least: int, most: int, sample: int,
        most_steps: int,
    ) -> int:  # fmt: skip
        counted = 0
        if steps[n, 0] < most_steps:
            steps[n, 0] = steps[n, 0] + 1
            counted = 1
        for g in range(out.shape[2] // count):
            start = g // inner * count * inner + g % inner
            added = 0
            squared = 0
            for c in range(count):
                value = counted * x[n, t, start + c * inner]
                added += centred * value
                squared += value * value
            total = add_to_sum(high[n, g], low[n, g], added)
            high[n, g] = sum_high(total)
            low[n, g] = sum_low(total)
            squares = add_to_squares(squares_high[n, g], squares_low[n, g], squared)
            squares_high[n, g] = sum_high(squares)
            squares_low[n, g] = sum_low(squares)
        return 0

    return step


def sequence_norm_step(contract: Any) -> Step:
    """Return the step of the second pass, which writes the normalized features of a step by the sums of all steps."""
    add_to_sum, add_to_squares, saturate = contract.add_to_sum, contract.add_to_squares, contract.saturate
    mean_square, mean_distance, added_root = contract.mean_square, contract.mean_distance, contract.added_root
    norm_exponent, norm_scale = contract.norm_exponent, contract.norm_scale
    normalize_distance, sample_square = contract.normalize_distance, contract.sample_square

    def step(
        n: int, t: int, k: int, x: Any, out: Any, high: Any, low: Any, squares_high: Any, squares_low: Any, steps: Any, gain: Any,
        gain_shift: Any, bias: Any, epsilon: int, count: int, inner: int, centred: int, outside: int, least: int, most: int, sample: int,
        most_steps: int,
    ) -> int:  # fmt: skip
        number = saturate(steps[n, 0], 1, most_steps) * count
        for g in range(out.shape[2] // count):
            start = g // inner * count * inner + g % inner
            total = add_to_sum(high[n, g], low[n, g], 0)
            square = mean_square(number, total, add_to_squares(squares_high[n, g], squares_low[n, g], 0))
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
        return 1

    return step


@dataclass(frozen=True)
class QuantSequenceNorm(QuantNormalized):
    """Compute `SequenceNorm` of integers; the state is the sums of the first pass, in two parts each, and the number of steps.

    A sum has at most 2^31 - 1 values. Sessions refuse a sequence with more steps than `most_steps`.
    """

    sample: bool = field(default=False, metadata=LEFT_OUT)

    by_rows = False
    needs_end: ClassVar[bool] = True

    @property
    def whole_sequences(self) -> bool:
        """Return True: each step needs all others."""
        return True

    @property
    def most_steps(self) -> int:
        """Return the most steps of a sequence, floor((2^31 - 1) / count)."""
        return MOST_SUMMED // self.count

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and those that do not have one feature per gain."""
        checks.expect(self.input, self.gain.size, True)
        checks.expect(self.output, self.gain.size, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the parts of both sums, and the number of steps."""
        return sums_of(self.groups, self.most_steps)

    def step_loop(self) -> StepLoop:
        """Return the steps of both passes."""
        numbers = (*self.numbers, int(self.sample), self.most_steps)
        return StepLoop(sequence_norm_step, numbers, before=count_step)


def sums_of(groups: int, most_steps: int) -> tuple[StateArray, ...]:
    """Return the state arrays of the sums of values and of squares of each group, and of the number of steps."""
    size, low = (groups,), MOST_SUMMED
    return (
        StateArray("high", size, np.int16, 32767, least=-32768),
        StateArray("low", size, np.int32, low, least=0),
        StateArray("squares_high", size, np.int32, 1 << 30, least=0),
        StateArray("squares_low", size, np.int32, low, least=0),
        StateArray("steps", (1,), np.int32, most_steps, least=0),
    )
