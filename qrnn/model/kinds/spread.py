"""Layers of kind spread give at each step the variance of all steps so far, or their standard deviation; the last one is that of the sequence.

Sums of the values and of their squares are exact in 64 bits, so that nothing is centred first, no square is stored in 16 bits, and chunks of a
sequence give what the whole does. Followed by `qrnn.model.kinds.last_step.LastStep` it is what statistics pools have (Snyder et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Rounding, StateArray, Step, StepLoop
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import LEFT_OUT, require
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_STEPS = (1 << 16) - 1
"""The most steps of a sequence, with which n times the sum of squares stays below 2^62."""

EPSILON_MAX = (1 << 30) - 1
"""The largest epsilon in units of the input's, squared, with which n^2 times it stays below 2^62."""

MOST_FEATURES = 1 << 24
"""The most features of a step."""

MOST_SHIFT = 46
"""The largest shift of the contract's rounding."""


@dataclass(frozen=True)
class Spread(Layer):
    """Compute y_t = Σ (x_s - mean)² / n + epsilon of the steps s = 0 … t, n = t + 1, for each feature; with ``root`` its square root.

    With ``sample`` the divisor is n - 1, and 1 for one step, as of the estimate of a variance by a sample.
    """

    name: str
    input: str
    output: str
    features: int
    root: bool = True
    sample: bool = False
    epsilon: float = 0.0

    keeps_state: ClassVar[bool] = True
    least_frac: ClassVar[int] = 0

    def equation(self, run: Equations) -> None:
        """Compute the variances, or their roots, in float64."""
        x = run.read(self.input)
        n = np.arange(1, x.shape[1] + 1)[:, None]
        middle = x[:, :1]  # a variance is the same of values less a constant, and more exact of small ones
        total, squares = np.cumsum(x - middle, axis=1), np.cumsum((x - middle) ** 2, axis=1)
        variance = np.maximum(squares - total**2 / n, 0.0) / (np.maximum(n - 1, 1) if self.sample else n)
        run.write(self.output, np.sqrt(variance + self.epsilon) if self.root else variance + self.epsilon)

    def quantize(self, plan: Plan) -> QuantSpread:
        """Choose the output's fraction bits, and make the integer of epsilon; QuantizationError where that is too large."""
        in_frac = plan.frac(self.input, self.name)
        out_frac, reason = output_frac(plan, self.output)
        least = max(0, in_frac - 15 if self.root else 2 * in_frac - MOST_SHIFT)
        out_frac = min(max(out_frac, least), 15, in_frac + 15 if self.root else 2 * in_frac)
        epsilon = int(round_half_up(self.epsilon * 4.0**in_frac))
        if epsilon > EPSILON_MAX:
            raise QuantizationError(
                f"layer {self.name!r}: epsilon {self.epsilon:g} is too large beside an input with {in_frac} fraction bits, expected at most "
                f"{EPSILON_MAX / 4.0**in_frac:g}"
            )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        return QuantSpread(
            self.name, self.input, self.output, self.features, in_frac, out_frac, self.root, self.sample, epsilon
        )


def spread_step(contract: Any) -> Step:
    """Return the step that adds x and x² to their sums, and writes the variance, or with ``root`` its square root.

    With n steps so far, sum S and sum of squares Q, n · Q - S² is n² times the variance.
    """
    add_to_sum, sum_high, sum_low = contract.add_to_sum, contract.sum_high, contract.sum_low
    divide_sum, shift_right_round, saturate16 = contract.divide_sum, contract.shift_right_round, contract.saturate16
    saturate, integer_root = contract.saturate, contract.integer_root

    def step(
        n: int, t: int, k: int, x: Any, out: Any, high: Any, low: Any, squares_high: Any, squares_low: Any, steps: Any, root: int,
        sample: int, epsilon: int, up: int, down: int, most: int, largest: int,
    ) -> int:  # fmt: skip
        counted = 0
        if steps[n, 0] < most:
            steps[n, 0] = steps[n, 0] + 1
            counted = 1
        for j in range(out.shape[2]):
            value = counted * x[n, t, j]
            total = add_to_sum(high[n, j], low[n, j], value)
            high[n, j] = sum_high(total)
            low[n, j] = sum_low(total)
            squares = add_to_sum(squares_high[n, j], squares_low[n, j], value * value)
            squares_high[n, j] = sum_high(squares)
            squares_low[n, j] = sum_low(squares)
            number = steps[n, 0]
            # no sums but those of a damaged state lie outside of these bounds
            within = saturate(total, 0 - number * 32768, number * 32768)
            spread = saturate(number * saturate(squares, 0, number * 1073741824) - within * within, 0, largest)
            if sample > 0 and number > 1:
                spread = saturate(spread + spread // (number - 1), 0, largest)
            spread = saturate(spread + number * number * epsilon, 0, largest)
            if root > 0:
                out[n, k, j] = divide_sum(integer_root(spread), number << down, up)
            else:
                out[n, k, j] = saturate16(shift_right_round(spread // (number * number), down))
        return 1

    return step


@dataclass(frozen=True)
class QuantSpread(QuantOneInput):
    """Compute `Spread` of integers: exact sums of all steps so far and of their squares; a root is rounded down to whole units of x / n first.

    ``epsilon`` is an integer in units of x². The state is both sums, in two parts each, and the number of steps, at most 65,535.
    """

    name: str
    input: str
    output: str
    features: int
    in_frac: int
    out_frac: int
    root: bool = True
    sample: bool = field(default=False, metadata=LEFT_OUT)
    epsilon: int = field(default=0, metadata=LEFT_OUT)

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(1 <= self.features <= MOST_FEATURES, f"{where}: features {self.features}")
        require(0 <= self.epsilon <= EPSILON_MAX, f"{where}: epsilon {self.epsilon} not in 0…{EPSILON_MAX}")
        self.check_fracs(least=0)
        up, down = self.shifts
        fits = up <= 15 and down <= 15 if self.root else up == 0 and down <= MOST_SHIFT
        require(fits, f"{where}: out_frac {self.out_frac} for an input with {self.in_frac} fraction bits")

    @property
    def shifts(self) -> tuple[int, int]:
        """Return by how many bits the root, or the variance, is shifted left, and by how many right."""
        by = self.out_frac - (self.in_frac if self.root else 2 * self.in_frac)
        return max(by, 0), max(-by, 0)

    @property
    def most_steps(self) -> int:
        """Return the most steps of a sequence."""
        return MOST_STEPS

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and an output of another size than the input."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.features, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the parts of both sums, and the number of steps."""
        size, low = (self.features,), MOST_SUMMED
        return (
            StateArray("high", size, np.int16, 32767, least=-32768),
            StateArray("low", size, np.int32, low, least=0),
            StateArray("squares_high", size, np.int16, 32767, least=-32768),
            StateArray("squares_low", size, np.int32, low, least=0),
            StateArray("steps", (1,), np.int32, MOST_STEPS, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step."""
        numbers = (int(self.root), int(self.sample), self.epsilon, *self.shifts, MOST_STEPS, (1 << 62) - 1)
        return StepLoop(spread_step, numbers)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the rounding of the result; what is cut off before is less than a unit of x / n, or of x²."""
        what = "the root" if self.root else "the variance"
        return (Rounding(self.name, f"{what}, once, to {self.out_frac} bits", "int16"),)
