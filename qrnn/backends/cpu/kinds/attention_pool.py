"""Attention pooling on the CPU: whole sequences by loops of their own, steps of streams by the layer's definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.sequence_loops import SequenceLoop
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.attention_pool import QuantAttentionPool
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel


def runs_of(left: Int64Array, right: Int64Array) -> Int64Array:
    """Return the runs of features that one score weighs and whose values lie side by side: score, first feature, end, first value, [R, 4]."""
    breaks = (np.diff(left) != 0) | (np.diff(right) != 1)
    begin = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    end = np.append(begin[1:], left.size)
    return np.stack([left[begin], begin, end, right[begin]], axis=1).astype(np.int64)


class AttentionPoolRun(SequenceLoop):
    """See the module."""

    ARRAYS = 8

    def __init__(self, layer: QuantAttentionPool, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        by = layer.out_frac - layer.right_frac
        runs = runs_of(layer.left_index, layer.right_index)
        self._numbers = (layer.left_frac, max(by, 0), max(-by, 0), layer.most_steps, layer.table, runs)
        self._sizes = (layer.heads, 3), (layer.heads,), (layer.left_index.size,)

    @property
    def _work(self) -> int:
        return sum(self._sizes[2])

    def _call(self, place: Int64Array, arrays: Sequence[Any], last_alone: bool) -> Call:
        scratch = (np.zeros(size, np.int64) for size in self._sizes)
        return self.tasks.call("attention_pool", "pool", place, last_alone, *self._numbers, *arrays, *scratch)


RUN = AttentionPoolRun
