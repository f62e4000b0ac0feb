"""Streams on the CPU: a whole step of the model, from floats to floats, as one list of calls that compiled code goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn.backends.base import StreamRows
from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.layer_calls import CallMaker, LayerCalls
from qrnn.backends.cpu.pools import shared_pool
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.parts import Int64Array

STREAM_TASK_MACS = 1 << 20
"""A thread's share of a step does at least about so many multiply-adds."""


class CpuStreams(StreamRows):
    """See `StreamRows`. Rows are shared out over threads, each with calls and scratch of its own."""

    def __init__(self, engine: CallMaker, capacity: int) -> None:
        super().__init__(engine.model, capacity)
        self._engine = engine
        self._tensors: dict[str, Any] = {}
        for name, fmt in engine.model.tensors.items():
            self._tensors[name] = np.zeros((capacity, fmt.features), np.int16)
        self._alias()
        self._workers = [_Worker(self, engine, self._tensors) for _ in range(min(engine.workers, capacity))]
        self._macs = sum(
            d.ih.weight.size + d.matrix_hh.weight.size
            for layer in engine.model.recurrent_layers
            for d in layer.directions
        )
        self._alone = capacity if len(self._workers) == 1 else 2 * STREAM_TASK_MACS // max(self._macs, 1)

    def _alias(self) -> None:
        """Of one step: a sequence's last step is the step, and h_n is y; c_n is int32."""
        for layer in self.model.layers:
            if isinstance(layer, QuantLastStep):
                self._tensors[layer.output] = self._tensors[layer.input]
            elif isinstance(layer, QuantRecurrent):
                self._tensors[layer.h_n] = self._tensors[layer.output]
                if layer.c_n is not None:
                    self._tensors[layer.c_n] = np.zeros((self.size, layer.hidden_size), np.int32)

    def runner(self, count: int) -> Callable[[], Any]:
        if count > self._alone:
            return super().runner(count)
        return self._workers[0].whole.runner(0, count)  # no Python between

    def run(self, count: int) -> bool:
        if count <= self._alone:
            return self._workers[0].whole.run(0, count) == 0
        shares = min(len(self._workers), count * self._macs // STREAM_TASK_MACS)
        bounds = [count * k // shares for k in range(shares + 1)]
        spans = list(zip(self._workers, bounds[:-1], bounds[1:], strict=False))
        # no stream's state changes before all inputs are known to be good
        pool = shared_pool()
        if not all(list(pool.map(lambda span: span[0].read(*span[1:]), spans))):
            return False
        return all(list(pool.map(lambda span: span[0].step(*span[1:]), spans)))


class _Worker(LayerCalls):
    """One thread's calls, on rows place[0] … place[1] - 1."""

    def __init__(self, streams: CpuStreams, engine: CallMaker, tensors: dict[str, Any]) -> None:
        super().__init__(engine, streams, tensors)
        self._streams, self._place = streams, np.zeros(3, np.int64)
        self._read_out = {tensor for output in engine.model.outputs for tensor, _, _ in output.parts}
        reading = [self.input_call(name) for name in streams.inputs]
        step = [call for layer in engine.model.layers for call in self.layer_calls(layer)]
        step += [call for name in streams.outputs for call in self.output_calls(name)]
        self.whole = CallList(reading + step, self._place, engine.code)
        self._reading, self._step = (CallList(calls, self._place, engine.code) for calls in (reading, step))

    def read(self, first: int, last: int) -> bool:
        """The inputs of rows first … last - 1; False where one is no number of the model's."""
        return self._reading.run(first, last) == 0

    def step(self, first: int, last: int) -> bool:
        """What comes after them."""
        return self._step.run(first, last) == 0

    def place(self, has_time: bool) -> Int64Array:
        return self._place

    def last_step(self, layer: QuantLastStep) -> list[Call]:
        return []  # the one step is the last one

    def recurrent(self, layer: QuantRecurrent) -> list[Call]:
        states = self._streams.layers[layer.name]
        h, c = states[0][:, 0], states[1][:, 0]
        x, y = self.tensors[layer.input], self.tensors[layer.output]
        calls = [self.engine.step_call(layer, self._place, self._streams.rows, x, h, c, y)]
        if layer.c_n in self._read_out:
            rows = self._streams.rows, c, self.tensors[layer.c_n]
            calls.append(self.engine.rows_call("gather", self._place, *rows))
        return calls
