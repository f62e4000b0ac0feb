"""Layers of kind attention pool give at each step the mean of all steps so far, weighted by a softmax of scores over these steps.

The running value followed by `qrnn.model.kinds.last_step.LastStep` is the attention pooling of a sequence of any length over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.running_softmax import LOWEST_EXPONENT, MOST_WEIGHTED
from qrnn.model.indexed_inputs import IndexedInputs, QuantIndexedInputs
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Bytes, Rounding, Scratch, StateArray, Step, StepLoop
from qrnn.model.parts import Int32Array, QuantInitialState, require
from qrnn.model.power_table import check_power_table, power_table
from qrnn.model.reduced import MOST_FEATURES, mean_frac
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class AttentionPool(IndexedInputs):
    """Compute y_t = Σ e^(s_τ) · v_τ / Σ e^(s_τ) over τ = 0 … t.

    The scores s are ``left`` [N, T, S], the values v are ``right`` [N, T, V]; feature k of the output is the mean of value right_index[k]
    by score left_index[k]. So one score may weigh all values, and several heads may weigh the same ones or each its own.
    """

    keeps_state: ClassVar[bool] = True
    least_frac: ClassVar[int] = 0

    def equation(self, run: Equations) -> None:
        """Compute the weighted means in float64, with the largest score so far taken off."""
        scores, values = self.operands(run)
        y = np.zeros_like(values)
        top = np.full_like(values[:, 0], -np.inf)
        weight, total = np.zeros_like(top), np.zeros_like(top)
        for t in range(values.shape[1]):
            higher = np.maximum(top, scores[:, t])
            fall, own = np.exp(top - higher), np.exp(scores[:, t] - higher)
            weight, total, top = weight * fall + own, total * fall + own * values[:, t], higher
            y[:, t] = total / weight
        run.write(self.output, y)

    def quantize(self, plan: Plan) -> QuantAttentionPool:
        """Give the means their fraction bits, and make the integer layer with the table of powers."""
        left, right = self.fracs(plan)
        own = mean_frac(plan, self.output, right)
        return QuantAttentionPool(
            self.name, self.left, self.right, self.output, self.left_index, self.right_index, left, right, own, power_table()
        )  # fmt: skip


def attention_pool_step(contract: Any) -> Step:
    """Return the step that adds the values, weighted, to the sums, and writes the sums over that of the weights."""
    power_place, power_exponent = contract.power_place, contract.power_exponent
    power_mantissa, weighted_sum, weighted_mean = contract.power_mantissa, contract.weighted_sum, contract.weighted_mean
    sum_high, sum_low, joined_sum = contract.sum_high, contract.sum_low, contract.joined_sum

    def step(
        n: int, t: int, k: int, scores: Any, values: Any, out: Any, exponent: Any, weight_high: Any, weight_low: Any, high: Any, low: Any,
        steps: Any, left: Any, right: Any, in_frac: int, up: int, down: int, most: int, table: Any, mantissa: Any, rise: Any, below: Any,
    ) -> int:  # fmt: skip
        counted = 0
        if steps[n, 0] < most:
            steps[n, 0] = steps[n, 0] + 1
            counted = 1
        for i in range(exponent.shape[2]):
            place = power_place(scores[n, t, i], in_frac)
            own = power_exponent(place)
            largest = exponent[n, 0, i]
            if counted > 0:
                largest = max(largest, own)
            mantissa[n, i] = counted * power_mantissa(place, table)
            rise[n, i] = largest - exponent[n, 0, i]
            below[n, i] = max(largest - own, 0)
            exponent[n, 0, i] = largest
            weight = joined_sum(weight_high[n, i], weight_low[n, i])
            weight = weighted_sum(weight, rise[n, i], mantissa[n, i] << 15, below[n, i])
            weight_high[n, i] = sum_high(weight)
            weight_low[n, i] = sum_low(weight)
        for j in range(out.shape[2]):
            head = left[j]
            total = joined_sum(high[n, j], low[n, j])
            total = weighted_sum(total, rise[n, head], mantissa[n, head] * values[n, t, right[j]], below[n, head])
            high[n, j] = sum_high(total)
            low[n, j] = sum_low(total)
            weight_of = joined_sum(weight_high[n, head], weight_low[n, head])
            out[n, k, j] = weighted_mean(total, weight_of, up, down)
        return 1

    return step


@dataclass(frozen=True)
class QuantAttentionPool(QuantIndexedInputs):
    """Compute `AttentionPool` of integers: sums in units of a power of 2 that follows the largest score, over the sum of the weights.

    ``table`` [129] holds 2^(23 + k / 128). The state is, for each score, the largest exponent so far and the sum of the weights, for each
    feature the weighted sum of its values, in two parts each, and the number of steps. Sessions refuse a step past `most_steps`; a step
    that is taken all the same changes no sum.
    """

    table: Int32Array

    by_rows = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_power_table(f"layer {self.name}", self.table)
        require(self.out_frac >= 0, f"layer {self.name}: out_frac {self.out_frac} not in 0…15")
        require(
            max(self.heads, self.left_index.size) <= MOST_FEATURES,
            f"layer {self.name}: {self.heads} scores and {self.left_index.size} features, at most {MOST_FEATURES}",
        )

    @property
    def heads(self) -> int:
        """Return the number of scores that have a state."""
        return 1 + int(self.left_index.max())

    @property
    def most_steps(self) -> int:
        """Return the most steps of a sequence, 2^22."""
        return MOST_WEIGHTED

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and indices outside of their tensors."""
        super().check(checks)
        checks.expect(self.output, self.left_index.size, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the largest exponents so far, the parts of the sums of weights and of weighted values, and the number of steps."""
        heads, features = self.heads, self.left_index.size
        start = QuantInitialState(np.full(heads, LOWEST_EXPONENT, np.int32))
        least, most, lows = LOWEST_EXPONENT, 1 << 30, (1 << 31) - 1
        return (
            StateArray("exponent", (1, heads), np.int32, -least, starts=(start,), least=least),
            StateArray("weight_high", (heads,), np.int32, most, least=0),
            StateArray("weight_low", (heads,), np.int32, lows, least=0),
            StateArray("high", (features,), np.int32, most),
            StateArray("low", (features,), np.int32, lows, least=0),
            StateArray("steps", (1,), np.int32, self.most_steps, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step, which brings all sums to the units of the largest score so far before it adds to them."""
        by = self.out_frac - self.right_frac
        numbers = (self.left_frac, max(by, 0), max(-by, 0), self.most_steps, self.table)
        shape = (self.heads,)
        scratch = (Scratch(shape, np.int32), Scratch(shape, np.int32), Scratch(shape, np.int32))
        return StepLoop(attention_pool_step, (self.left_index, self.right_index, *numbers), scratch)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the roundings of weights and sums, and that of each mean."""
        return (
            Rounding(self.name, "weights to 24 bits; sums where a larger score shifts them", "nothing"),
            Rounding(self.name, f"each weighted mean, once, to {self.out_frac} bits", "int16"),
        )

    def own_bytes(self) -> Bytes:
        """Return the bytes of the indices, the table and the state."""
        return Bytes(self.table.nbytes, super().own_bytes().rows, QuantLayer.own_bytes(self).state)
