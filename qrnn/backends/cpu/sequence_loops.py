"""Layers with a state whose whole sequences run by loops of their own, and whose steps of streams run by their definitions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.defined import DefinedSteps
from qrnn.backends.cpu.layer_calls import SequenceCalls
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import IndexArray, Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


def last_alone(model: QuantModel, tensor: str) -> bool:
    """Return whether nothing reads another row of a tensor over time than the last one of a sequence.

    Of a tensor over time, only last steps make tensors without time.
    """
    read = [name for layer in model.layers if tensor in layer.inputs for name in layer.outputs]
    shown = any(name == tensor for output in model.outputs for name, _, _ in output.parts)
    return not shown and all(name in model.tensors and not model.tensors[name].has_time for name in read)


class SequenceLoop(DefinedSteps):
    """A layer that gives a row for each step, and of which often nothing but the last row is read.

    Its loop is called with (place, last alone, *numbers, lengths, *inputs, out, *states, *scratch): the inputs [N, T, …], and out [N, T, F],
    of which only the last rows are written where they alone are wanted.
    """

    ARRAYS: ClassVar[int]
    """Which argument of a call is the first array of sequences, the lengths."""

    def __init__(self, layer: QuantLayer, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        (output,) = layer.outputs
        self._last_alone = last_alone(model, output)

    @property
    @abstractmethod
    def _work(self) -> int:
        """What a step counts as, in multiply-adds."""

    @abstractmethod
    def _call(self, place: Int64Array, arrays: Sequence[Any], last_alone: bool) -> Call:
        """Return the call for sequences of ``arrays``: lengths, the inputs, out and the states."""

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the call of whole sequences; see `LayerRun.sequence_calls`."""
        inputs, out, states = self._arrays(walk, walk.rows)
        name = self._layer.inputs[0]
        N, T, lengths = walk.rows.size, walk.steps[name], walk.lengths(name)
        arrays = (x.reshape(N, T, x.shape[1]) for x in (*inputs, out))
        return [self._call(walk.place(False), [lengths, *arrays, *states], self._last_alone)]

    def steps(
        self, inputs: Sequence[Int16Array], states: Sequence[Any], lengths: IndexArray, out_rows: int, past: int
    ) -> tuple[Int16Array, Int64Array]:
        """Run the layer over a padded batch; see `CpuEngine.steps`."""
        N, T = inputs[0].shape[:2]
        (output,) = self._layer.outputs
        out = np.zeros((N, T, self.model.tensors[output].features), np.int16)
        kept = [np.ascontiguousarray(state) for state in states]
        given = np.ascontiguousarray(lengths, np.int64)
        if N:
            arrays = (given, *(np.ascontiguousarray(x) for x in inputs), out, *kept)
            how = Reused((self._layer.name, "loop"), lambda control, own: self._call(control, own, False), self.ARRAYS)
            self.tasks.in_tasks(arrays, how, T * self._work, self.tasks.tuning.task_macs)
        for state, after in zip(states, kept, strict=True):
            if after is not state:
                state[...] = after
        return out[:, :out_rows], given.copy()

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the call of padded batches; see `LayerRun.ahead`."""
        if runs:
            row = np.zeros((1, 1, 1), np.int16)
            states = [np.zeros((1, *state.shape), state.dtype) for state in self._layer.states()]
            rows = [row] * (len(self._layer.inputs) + 1)
            yield self._call(np.zeros(3, np.int64), [np.zeros(1, np.int64), *rows, *states], False)
