"""What layers with windows over time have in common on the CPU: calls for streams, whole sequences and padded batches.

The outputs of whole sequences are computed from the state before them, and then the state is advanced. So the windows of one sequence can be
shared out over threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import Flow, SequenceCalls, StreamCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.backends.cpu.threads.pool import shared_pool
from qrnn.backends.cpu.threads.team import Spins, TeamCall, barrier_flags, most_workers
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import IndexArray, Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel

Share = tuple[int, int]
"""Which part of each sequence's windows a call computes, and of how many parts."""

WHOLE: Share = (0, 1)


class WindowRun(LayerRun):
    """See the module. Arrays of calls are (lengths, out_lengths, x, out, *states), with sequences as their first axis."""

    def __init__(self, layer: QuantLayer, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        (self._input,), (self._output,) = layer.inputs, layer.outputs

    @abstractmethod
    def outputs_call(self, place: Int64Array, share: Share, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that computes outputs of whole sequences, with ``past`` steps past their end, from the states before them."""

    @abstractmethod
    def advance_call(self, place: Int64Array, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that computes the states after these steps, and the lengths of the outputs."""

    @abstractmethod
    def step_call(self, before: Flow, after: Flow, x: Int16Array, out: Int16Array, states: Sequence[Any]) -> Call:
        """Return the call of one step of streams."""

    arrays_from: int
    """The argument of `outputs_call` where its arrays begin."""

    advance_from: int
    """The argument of `advance_call` where its arrays begin."""

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the call of one step of streams; see `LayerRun.stream_calls`."""
        flows = walk.flow_of(self._input), walk.flow_of(self._output)
        states = walk.streams.layers[self._layer.name]
        return [self.step_call(*flows, walk.tensors[self._input], walk.tensors[self._output], states)]

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences; see `LayerRun.sequence_calls`."""
        N, past, place = walk.rows.size, self._layer.steps_past_end, walk.place(False)
        tensors = ((name, walk.tensors[name]) for name in (self._input, self._output))
        x, out = (tensor.reshape(N, walk.steps[name], tensor.shape[1]) for name, tensor in tensors)
        states = walk.rows.layers[self._layer.name]
        arrays = (walk.lengths(self._input), np.zeros(N, np.int64), x, out, *states)
        macs = out.shape[1] * self.step_macs
        workers = self._team_size(macs) if walk.teams and N == 1 else 1
        return [self._shared(place, workers, past, arrays, macs), self.advance_call(place, past, arrays)]

    def _team_size(self, macs: int) -> int:
        """Return how many threads share the windows of a sequence alone, of so many multiply-adds."""
        tuning = self.tasks.tuning
        return max(1, min(self.tasks.workers, most_workers(tuning), macs // tuning.team_run_macs))

    def _shared(self, place: Int64Array, workers: int, past: int, arrays: Sequence[Any], macs: int) -> Call:
        """Return `outputs_call` by so many threads."""
        alone = self.outputs_call(place, WHOLE, past, arrays)
        if workers == 1:
            return alone
        tuning = self.tasks.tuning
        calls = [self.outputs_call(place, (me, workers), past, arrays) for me in range(workers)]
        return TeamCall(calls, alone, barrier_flags(workers, tuning), Spins.of(tuning, macs))

    def steps(
        self, inputs: Sequence[Int16Array], states: Sequence[Any], lengths: IndexArray, out_rows: int, past: int
    ) -> tuple[Int16Array, Int64Array]:
        """Run the layer over a padded batch; see `CpuEngine.steps`."""
        (x,) = inputs
        N, T, _ = x.shape
        room = max(out_rows, self._layer.rows_in(T))
        out = np.zeros((N, room, self.model.tensors[self._output].features), np.int16)
        kept = [np.ascontiguousarray(state) for state in states]
        given, written = np.ascontiguousarray(lengths, np.int64), np.zeros(N, np.int64)
        if N:
            self._run((given, written, np.ascontiguousarray(x), out, *kept), (T + past) * self.step_macs, past)
        for state, after in zip(states, kept, strict=True):
            if after is not state:
                state[...] = after
        assert written.max(initial=0) <= out_rows
        return np.ascontiguousarray(out[:, :out_rows]), written

    def _run(self, arrays: Sequence[Any], macs: int, past: int) -> None:
        """Compute outputs, spread over sequences and, where there are few of them, over parts of each; then advance the states."""
        tasks, N = self.tasks, len(arrays[0])
        least = tasks.tuning.fused_task_macs
        parts = 1 if tasks.workers <= N else max(1, min(tasks.workers // N, macs // least))

        def outputs(share: Share) -> None:
            def make(control: Int64Array, own: Sequence[Any]) -> Call:
                return self.outputs_call(control, share, past, own)

            how = Reused(self._key("outputs", share, past), make, self.arrays_from)
            if parts > 1:
                tasks.alone(arrays, how)
            else:
                tasks.in_tasks(arrays, how, macs, least)

        if parts > 1:
            list(shared_pool().map(outputs, [(part, parts) for part in range(parts)]))
        else:
            outputs(WHOLE)

        def advance(control: Int64Array, own: Sequence[Any]) -> Call:
            return self.advance_call(control, past, own)

        tasks.alone(arrays, Reused(self._key("advance", past), advance, self.advance_from))

    def _key(self, *more: Hashable) -> Hashable:
        return (self._layer.name, *more)

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the calls that have to be compiled ahead; see `LayerRun.ahead`."""
        rows = [np.zeros((1, 1, self.model.tensors[name].features), np.int16) for name in (self._input, self._output)]
        states = [np.zeros((1, *state.shape), state.dtype) for state in self._layer.states()]
        numbers, place = np.zeros(1, np.int64), np.zeros(3, np.int64)
        arrays = (numbers, numbers, *rows, *states)
        teams = most_workers(self.tasks.tuning) > 1
        yield self._shared(place, 2 if runs and teams else 1, 0, arrays, 0)
        yield self.advance_call(place, 0, arrays)
        if stepped:
            flow = Flow(place, numbers, numbers)
            yield self.step_call(flow, flow, rows[0][:, 0], rows[1][:, 0], states)
