"""Attention pooling on the CPU: whole sequences by loops of their own, steps of streams by the layer's definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.defined import DefinedSteps
from qrnn.backends.cpu.layer_calls import SequenceCalls
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.attention_pool import QuantAttentionPool
from qrnn.model.parts import IndexArray, Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel

ARRAYS = 8
"""Which argument of a call is the first array of sequences, the lengths."""


def runs_of(left: Int64Array, right: Int64Array) -> Int64Array:
    """Return the runs of features that one score weighs and whose values lie side by side: score, first feature, end, first value, [R, 4]."""
    breaks = (np.diff(left) != 0) | (np.diff(right) != 1)
    begin = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    end = np.append(begin[1:], left.size)
    return np.stack([left[begin], begin, end, right[begin]], axis=1).astype(np.int64)


class AttentionPoolRun(DefinedSteps):
    """See the module."""

    def __init__(self, layer: QuantAttentionPool, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        by = layer.out_frac - layer.right_frac
        runs = runs_of(layer.left_index, layer.right_index)
        self._numbers = (layer.left_frac, max(by, 0), max(-by, 0), layer.most_steps, layer.table, runs)
        self._sizes = (layer.heads, 3), (layer.heads,), (layer.left_index.size,)
        read = [name for other in model.layers if layer.output in other.inputs for name in other.outputs]
        shown = any(tensor == layer.output for output in model.outputs for tensor, _, _ in output.parts)
        self._last_alone = not shown and all(
            name in model.tensors and not model.tensors[name].has_time for name in read
        )
        """Whether nothing reads another row than the last one of a sequence: only last steps make tensors without time of one over time."""

    def _pool(self, place: Int64Array, arrays: Sequence[Any], last_alone: bool) -> Call:
        """Return the call for sequences of ``arrays``: lengths, scores, values, out and the states."""
        scratch = (np.zeros(size, np.int64) for size in self._sizes)
        return self.tasks.call("attention_pool", "pool", place, last_alone, *self._numbers, *arrays, *scratch)

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the call of whole sequences; see `LayerRun.sequence_calls`."""
        inputs, out, states = self._arrays(walk, walk.rows)
        name = self._layer.inputs[0]
        N, T, lengths = walk.rows.size, walk.steps[name], walk.lengths(name)
        arrays = (x.reshape(N, T, x.shape[1]) for x in (*inputs, out))
        return [self._pool(walk.place(False), [lengths, *arrays, *states], self._last_alone)]

    def steps(
        self, inputs: Sequence[Int16Array], states: Sequence[Any], lengths: IndexArray, out_rows: int, past: int
    ) -> tuple[Int16Array, Int64Array]:
        """Run the layer over a padded batch; see `CpuEngine.steps`."""
        N, T = inputs[0].shape[:2]
        out = np.zeros((N, T, self._sizes[2][0]), np.int16)
        kept = [np.ascontiguousarray(state) for state in states]
        given = np.ascontiguousarray(lengths, np.int64)
        if N:
            arrays = (given, *(np.ascontiguousarray(x) for x in inputs), out, *kept)
            how = Reused((self._layer.name, "pool"), lambda control, own: self._pool(control, own, False), ARRAYS)
            self.tasks.in_tasks(arrays, how, T * sum(self._sizes[2]), self.tasks.tuning.task_macs)
        for state, after in zip(states, kept, strict=True):
            if after is not state:
                state[...] = after
        return out[:, :out_rows], given.copy()

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the call of padded batches; see `LayerRun.ahead`."""
        if runs:
            row = np.zeros((1, 1, 1), np.int16)
            states = [np.zeros((1, *state.shape), state.dtype) for state in self._layer.states()]
            yield self._pool(np.zeros(3, np.int64), [np.zeros(1, np.int64), row, row, row, *states], False)


RUN = AttentionPoolRun
