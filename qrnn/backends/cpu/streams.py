"""Streams on the CPU: a whole step of the model, from floats to floats, as one list of calls that compiled code goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import StreamRows
from qrnn.backends.cpu.calls import CallList
from qrnn.backends.cpu.layer_calls import USERS, StreamCalls
from qrnn.backends.cpu.layer_run import LayerRunner
from qrnn.backends.cpu.python_calls import address_of
from qrnn.backends.cpu.threads.pool import shared_pool
from qrnn.backends.cpu.threads.team import ListsCall, most_workers


class CpuStreams(StreamRows):
    """See `StreamRows`. Rows are shared out over threads, each with calls and scratch of its own."""

    def __init__(
        self, engine: LayerRunner, capacity: int, real: npt.DTypeLike = np.float64, like: CpuStreams | None = None
    ) -> None:
        super().__init__(engine.model, capacity, real, like)
        self._code, self._engine = engine.code, engine
        self._tensors: dict[str, Any] = {}
        for name, fmt in engine.model.tensors.items():
            self._tensors[name] = np.zeros((capacity, fmt.features), np.int16)
        for run in engine.layer_runs.values():
            run.share_tensors(self._tensors)
        workers, tuning = min(engine.tasks.workers, capacity), engine.tasks.tuning
        self._workers = [_Worker(self, engine, self._tensors, teams=k == 0) for k in range(workers)]
        self._macs, self._task_macs = (
            max(1, sum(run.step_macs for run in engine.layer_runs.values())),
            tuning.stream_task_macs,
        )
        self._alone = capacity if workers == 1 else 2 * self._task_macs // self._macs
        self._shared: tuple[ListsCall, ...] = ()
        if self._alone < capacity and most_workers(tuning) > 1:
            control, helpers = np.zeros(3, np.int64), min(workers, most_workers(tuning)) - 1
            # No stream's state changes before all inputs are known to be good.
            lists = [w.reading for w in self._workers], [w.step for w in self._workers]
            self._shared = tuple(ListsCall(control, each, helpers, tuning) for each in lists)
            self._together = CallList(self._shared, control, engine.code)
            self._shared_count = 0
        # Inputs and outputs are kept apart, for they may have the same names.
        self._readers = {name: [w.read_at[name] for w in self._workers] for name in self._workers[0].read_at}
        self._writers = {name: [w.written_at[name] for w in self._workers] for name in self._workers[0].written_at}
        self.read_in_place, self.written_in_place = frozenset(self._readers), frozenset(self._writers)

    def lend(self, inputs: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Let runs read and write these arrays; see `StreamRows.lend`."""
        for places, arrays in ((self._readers, inputs), (self._writers, outputs)):
            for name, array in arrays.items():
                address = address_of(array)
                for words, number in places[name]:
                    words[number] = address

    def take_back(self) -> None:
        """Let runs read and write ``inputs`` and ``outputs`` again; see `StreamRows.lend`."""
        self.lend(
            {name: self.inputs[name] for name in self._readers}, {name: self.outputs[name] for name in self._writers}
        )

    def alike(self, real: npt.DTypeLike) -> CpuStreams:
        """Return buffers of the same streams for reals of another type; see `StreamRows.alike`."""
        return CpuStreams(self._engine, self.size, real, self)

    def runner(self, count: int) -> Callable[[], Any]:
        """Return a function that steps the first ``count`` streams; see `StreamRows.runner`."""
        if count > self._alone:
            return super().runner(count)
        return self._workers[0].whole.runner(0, count)  # No Python code runs between the calls.

    def layer_calls(self) -> CallList:
        """Return the calls of a step from integers to integers, for measuring: those of layers, without inputs' and outputs' real numbers."""
        worker = self._workers[0]
        return CallList(worker.of_layers, worker.control, self._code)

    def run(self, count: int) -> bool:
        """Run the first ``count`` sequences or streams; see `ModelRows.run`."""
        if count <= self._alone:
            return self._workers[0].whole.run(0, count) == 0
        if self._shared:
            if count != self._shared_count:
                self._shared_count = count
                for call in self._shared:
                    call.share(self._spans(count), count * self._macs)
            self._shared[0].wake()  # The same helper threads make both.
            return self._together.run(0, count) == 0
        spans, pool = list(zip(self._workers, self._spans(count), strict=False)), shared_pool()
        if any(list(pool.map(lambda one: one[0].reading.run(*one[1]), spans))):
            return False
        return not any(list(pool.map(lambda one: one[0].step.run(*one[1]), spans)))

    def _spans(self, count: int) -> list[tuple[int, int]]:
        """Return the rows of each worker, of those that have work."""
        shares = min(len(self._workers), count * self._macs // self._task_macs)
        return list(pairwise(count * k // shares for k in range(shares + 1)))


class _Worker(StreamCalls):
    """One thread's calls, on rows control[FIRST] … control[LAST] - 1."""

    def __init__(self, streams: CpuStreams, engine: LayerRunner, tensors: dict[str, Any], teams: bool) -> None:
        super().__init__(engine.model, engine.tasks, streams, tensors, teams)
        of_inputs = {name: self.input_call(name) for name in streams.inputs}
        reading = list(of_inputs.values())
        self.of_layers = [call for run in engine.layer_runs.values() for call in run.stream_calls(self)]
        of_outputs = {name: self.output_calls(name) for name in streams.outputs}
        step = self.of_layers + [call for calls in of_outputs.values() for call in calls]
        self.whole = CallList(reading + step, self.control, engine.code)
        self.reading, self.step = (CallList(calls, self.control, engine.code) for calls in (reading, step))
        """The inputs of rows, and what comes after them."""
        self.read_at = {
            name: call.frame.place(USERS) for name, call in of_inputs.items() if streams.inputs[name].dtype != np.int64
        }
        """The words that hold the addresses of the values of inputs of real numbers, by the inputs' names."""
        self.written_at = {
            name: calls[0].frame.place(USERS) for name, calls in of_outputs.items() if self.written_at_once(name)
        }
        """The words that hold the addresses of the values of outputs that one call writes, by the outputs' names."""
