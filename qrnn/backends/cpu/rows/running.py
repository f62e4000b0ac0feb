"""Sums and means of all steps so far over whole sequences: from step to step each sum is one number, and features go by vectors."""

from __future__ import annotations

from typing import Any

from numba import int64

from qrnn.arithmetic.fixedpoint import saturate16, shift_right_round
from qrnn.arithmetic.reductions import add_to_sum, divide_sum, sum_high, sum_low
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def add_step(added: Any, x: Any, count: int, inner: int) -> None:
    """Set added [outer · inner] to the sums over ``count`` of x [outer · count · inner]."""
    if count == 1:
        for j in range(added.shape[0]):
            added[j] = int64(x[j])
        return
    for start in range(0, added.shape[0], inner):
        for i in range(inner):
            added[start + i] = int64(x[start * count + i])
        for c in range(1, count):
            for i in range(inner):
                added[start + i] += int64(x[start * count + c * inner + i])


@jit
def add_up(
    place: Any, last_alone: bool, count: int, inner: int, averaged: int, up: int, down: int, most: int, lengths: Any, x: Any, out: Any,
    high: Any, low: Any, steps: Any, totals: Any, added: Any,
) -> None:  # fmt: skip
    """Take the steps of sequences place[FIRST] … place[LAST] - 1, as `qrnn.model.kinds.running.running_sum_step` does one.

    x [N, T, outer · count · inner], out [N, T, F]; with ``last_alone`` only the row of the last step is written. totals [F] and added [F]
    are scratch, int64.
    """
    for n in range(place[FIRST], place[LAST]):
        for j in range(totals.shape[0]):
            totals[j] = int64(high[n, j]) * 2147483648 + int64(low[n, j])
        for t in range(lengths[n]):
            if steps[n, 0] < most:
                steps[n, 0] += 1
                add_step(added, x[n, t], count, inner)
                for j in range(totals.shape[0]):
                    totals[j] = add_to_sum(sum_high(totals[j]), sum_low(totals[j]), added[j])
            else:
                for j in range(totals.shape[0]):
                    totals[j] = add_to_sum(sum_high(totals[j]), sum_low(totals[j]), int64(0))
            if last_alone and t + 1 < lengths[n]:
                continue
            divisor = (int64(steps[n, 0]) * count) << down
            for j in range(totals.shape[0]):
                if averaged > 0:
                    out[n, t, j] = divide_sum(totals[j], divisor, up)
                else:
                    out[n, t, j] = saturate16(shift_right_round(totals[j] << up, down))
        for j in range(totals.shape[0]):
            high[n, j], low[n, j] = sum_high(totals[j]), sum_low(totals[j])
