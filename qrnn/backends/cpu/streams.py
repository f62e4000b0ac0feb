"""Streams on the CPU: a whole step of the model, from floats to floats, as one list of calls that compiled code goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import StreamRows
from qrnn.backends.cpu.calls import CallList
from qrnn.backends.cpu.layer_calls import StreamCalls
from qrnn.backends.cpu.layer_run import LayerRunner
from qrnn.backends.cpu.threads.pool import shared_pool


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
        workers = min(engine.tasks.workers, capacity)
        self._workers = [_Worker(self, engine, self._tensors) for _ in range(workers)]
        self._macs, self._task_macs = (
            sum(run.step_macs for run in engine.layer_runs.values()),
            engine.tasks.tuning.stream_task_macs,
        )
        self._alone = capacity if len(self._workers) == 1 else 2 * self._task_macs // max(self._macs, 1)

    def alike(self, real: npt.DTypeLike) -> CpuStreams:
        """Return buffers of the same streams for reals of another type; see `StreamRows.alike`."""
        return CpuStreams(self._engine, self.size, real, self)

    def runner(self, count: int) -> Callable[[], Any]:
        """Return a function that steps the first ``count`` streams; see `StreamRows.runner`."""
        if count > self._alone:
            return super().runner(count)
        return self._workers[0].whole.runner(0, count)  # no Python between

    def layer_calls(self) -> CallList:
        """Return the calls of a step from integers to integers, for measuring: those of layers, without inputs' and outputs' real numbers."""
        worker = self._workers[0]
        return CallList(worker.of_layers, worker.control, self._code)

    def run(self, count: int) -> bool:
        """Run the first ``count`` sequences or streams; see `ModelRows.run`."""
        if count <= self._alone:
            return self._workers[0].whole.run(0, count) == 0
        shares = min(len(self._workers), count * self._macs // self._task_macs)
        bounds = [count * k // shares for k in range(shares + 1)]
        spans = list(zip(self._workers, bounds[:-1], bounds[1:], strict=False))
        # no stream's state changes before all inputs are known to be good
        pool = shared_pool()
        if not all(list(pool.map(lambda span: span[0].read(*span[1:]), spans))):
            return False
        return all(list(pool.map(lambda span: span[0].step(*span[1:]), spans)))


class _Worker(StreamCalls):
    """One thread's calls, on rows control[FIRST] … control[LAST] - 1."""

    def __init__(self, streams: CpuStreams, engine: LayerRunner, tensors: dict[str, Any]) -> None:
        super().__init__(engine.model, engine.tasks, streams, tensors)
        reading = [self.input_call(name) for name in streams.inputs]
        self.of_layers = [call for run in engine.layer_runs.values() for call in run.stream_calls(self)]
        step = self.of_layers + [call for name in streams.outputs for call in self.output_calls(name)]
        self.whole = CallList(reading + step, self.control, engine.code)
        self._reading, self._step = (CallList(calls, self.control, engine.code) for calls in (reading, step))

    def read(self, first: int, last: int) -> bool:
        """The inputs of rows first … last - 1; False where one is no number of the model's."""
        return self._reading.run(first, last) == 0

    def step(self, first: int, last: int) -> bool:
        """What comes after them."""
        return self._step.run(first, last) == 0
