"""Attention pooling over whole sequences: the sums stay in registers and caches from step to step, in one part each."""

from __future__ import annotations

from typing import Any

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

HEAD, BEGIN, END, OFFSET = 0, 1, 2, 3
"""The columns of a run of features: features BEGIN … END - 1 weigh values that lie ``OFFSET`` before them by the score ``HEAD``."""


@jit
def pool(
    place: Any, last_alone: bool, in_frac: int, up: int, down: int, most: int, table: Any, runs: Any, lengths: Any, scores: Any, values: Any,
    out: Any, exponent: Any, weight_high: Any, weight_low: Any, high: Any, low: Any, steps: Any, weights: Any, totals: Any,
) -> None:  # fmt: skip
    """Take the steps of sequences place[FIRST] … place[LAST] - 1, as `qrnn.model.kinds.attention_pool.attention_pool_step` does one.

    scores [N, T, S], values [N, T, V], out [N, T, F]; with ``last_alone`` the row of the last step alone is written. ``runs`` [R, 4] has every
    feature once. weights [S] and totals [F] int64 are scratch.
    """
    for n in range(place[FIRST], place[LAST]):
        for i in range(weights.shape[0]):
            weights[i] = joined_sum(weight_high[n, i], weight_low[n, i])
        for j in range(totals.shape[0]):
            totals[j] = joined_sum(high[n, j], low[n, j])
        for t in range(lengths[n]):
            counted = 0
            if steps[n, 0] < most:
                steps[n, 0] += 1
                counted = 1
            for r in range(runs.shape[0]):
                head, begin, end, offset = runs[r, HEAD], runs[r, BEGIN], runs[r, END], runs[r, OFFSET]
