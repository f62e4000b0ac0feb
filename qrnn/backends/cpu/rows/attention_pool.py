"""Attention pooling over whole sequences: from step to step each sum is one number, and features that one score weighs go by vectors."""

from __future__ import annotations

from typing import Any

from numba import int64

from qrnn.arithmetic.reductions import sum_high, sum_low
from qrnn.arithmetic.running_softmax import (
    joined_sum,
    power_exponent,
    power_mantissa,
    power_place,
    weighted_mean,
    weighted_sum,
)
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST

HEAD, BEGIN, END, VALUE = 0, 1, 2, 3
"""The columns of a run of features: the score ``HEAD`` weighs the values from ``VALUE`` on for features BEGIN … END - 1."""

MANTISSA, RISE, BELOW = 0, 1, 2
"""The columns of what a step makes of a score."""


@jit
def weighted(totals: Any, values: Any, begin: int, end: int, first: int, mantissa: int, rise: int, below: int) -> None:
    """Set totals[j], j = begin … end - 1, to `weighted_sum` of itself and of the value from ``first`` on, times the mantissa.

    One of the shifts is 0 in every step: that of the sums, but where a score is the largest so far.
    """
    own, given = totals[begin:end], values[first : first + end - begin]
    if rise == 0:
        for j in range(own.shape[0]):
            own[j] = weighted_sum(own[j], 0, mantissa * int64(given[j]), below)
    else:
        for j in range(own.shape[0]):
            own[j] = weighted_sum(own[j], rise, mantissa * int64(given[j]), 0)


@jit
def pool(
    place: Any, last_alone: bool, in_frac: int, up: int, down: int, most: int, table: Any, runs: Any, lengths: Any, scores: Any, values: Any,
    out: Any, exponent: Any, weight_high: Any, weight_low: Any, high: Any, low: Any, steps: Any, heads: Any, weights: Any, totals: Any,
) -> None:  # fmt: skip
    """Take the steps of sequences place[FIRST] … place[LAST] - 1, as `qrnn.model.kinds.attention_pool.attention_pool_step` does one.

    scores [N, T, S], values [N, T, V], out [N, T, F]; with ``last_alone`` only the row of the last step is written. ``runs`` [R, 4] have
    every feature once. heads [S, 3], weights [S] and totals [F] are scratch, int64.
    """
    for n in range(place[FIRST], place[LAST]):
        for i in range(weights.shape[0]):
            weights[i] = joined_sum(int64(weight_high[n, i]), int64(weight_low[n, i]))
        for j in range(totals.shape[0]):
            totals[j] = joined_sum(int64(high[n, j]), int64(low[n, j]))
        for t in range(lengths[n]):
            counted = int64(0)
            if steps[n, 0] < most:
                steps[n, 0] += 1
                counted = int64(1)
            for i in range(weights.shape[0]):
                at = power_place(int64(scores[n, t, i]), in_frac)
                own, before = power_exponent(at), int64(exponent[n, 0, i])
                largest = max(before, own) if counted > 0 else before
                heads[i, MANTISSA] = counted * power_mantissa(at, table)
                heads[i, RISE] = largest - before
                heads[i, BELOW] = max(largest - own, 0)
                exponent[n, 0, i] = largest
                weights[i] = weighted_sum(weights[i], heads[i, RISE], heads[i, MANTISSA] << 15, heads[i, BELOW])
            for r in range(runs.shape[0]):
                i, begin, end = runs[r, HEAD], runs[r, BEGIN], runs[r, END]
                weighted(
                    totals,
                    values[n, t],
                    begin,
                    end,
                    runs[r, VALUE],
                    heads[i, MANTISSA],
                    heads[i, RISE],
                    heads[i, BELOW],
                )
                if not last_alone or t + 1 == lengths[n]:
                    for j in range(begin, end):
                        out[n, t, j] = weighted_mean(totals[j], weights[i], up, down)
        for i in range(weights.shape[0]):
            weight_high[n, i], weight_low[n, i] = sum_high(weights[i]), sum_low(weights[i])
        for j in range(totals.shape[0]):
            high[n, j], low[n, j] = sum_high(totals[j]), sum_low(totals[j])
