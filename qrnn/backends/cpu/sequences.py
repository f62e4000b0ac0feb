"""Whole sequences of one shape on the CPU, from floats to floats, as calls that compiled code goes through: for short work, which Python
would take longer to prepare than to do.

The buffers stay between runs, so that nothing is allocated but what the user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from qrnn.backends.base import ModelRows
from qrnn.backends.cpu import stream_rows
from qrnn.backends.cpu.calls import STATUS, Call, CallList
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantLastStep
from qrnn.model.quant_recurrent import QuantRecurrent

if TYPE_CHECKING:
    from qrnn.backends.cpu.engine import CpuEngine

SEQUENCE_ELEMENTS = 1 << 18
"""Larger tensors are not kept: they are better written where the user gets them."""


class CpuSequences(ModelRows):
    """See `ModelRows`."""

    def __init__(self, engine: CpuEngine, size: int, steps: int, real: Any) -> None:
        super().__init__(engine.model, size, steps, real)
        tensors = {
            name: np.zeros((self.rows_of(fmt.has_time), fmt.features), np.int16)
            for name, fmt in engine.model.tensors.items()
        }
        calls = _SequenceCalls(engine, self, tensors, steps)
        self._without_time = calls.place(False)
        reading = [calls.input_call(name) for name in self.inputs]
        work = [call for layer in engine.model.layers for call in calls.layer_calls(layer)]
        writing = [call for name in self.outputs for call in calls.output_calls(name)]
        self._parts = list(_in_lists([*reading, *work, *writing], calls.place(True)))
        self._rows = size * steps

    def run(self, count: int) -> bool:
        self._without_time[STATUS] = 0
        for part in self._parts:
            if isinstance(part, CallList):
                if part.run(0, self._rows):
                    return False
            else:
                part()
        return bool(self._without_time[STATUS] == 0)


def _in_lists(calls: Iterable[Call | Callable[[], Any]], control: Int64Array) -> Iterable[CallList | Callable[[], Any]]:
    """Neighbouring calls together; what is shared by several threads is begun from Python."""
    together: list[Call] = []
    for call in calls:
        if isinstance(call, Call):
            together.append(call)
            continue
        yield CallList(together, control)
        yield call
        together = []
    yield CallList(together, control)


class _SequenceCalls(LayerCalls):
    def __init__(self, engine: CpuEngine, rows: ModelRows, tensors: dict[str, Any], steps: int) -> None:
        super().__init__(engine, rows, tensors)
        self._steps = steps
        self._places = {True: np.array([0, rows.size * steps, 0]), False: np.array([0, rows.size, 0])}
        self._lengths = np.full(rows.size, steps, np.int64)

    def place(self, has_time: bool) -> Int64Array:
        return self._places[has_time]

    def last_step(self, layer: QuantLastStep) -> list[Call]:
        tensors = self.tensors
        return [
            Call(stream_rows.last_step, self.place(False), self._steps, tensors[layer.input], tensors[layer.output])
        ]

    def recurrent(self, layer: QuantRecurrent) -> list[Any]:
        N, T, P, D = self.rows.size, self._steps, layer.output_size, len(layer.directions)
        x = self.tensors[layer.input].reshape(N, T, layer.input_size)
        h, c = self.rows.layers[layer.name]
        self.tensors[layer.h_n] = h.reshape(N, -1)
        if layer.c_n is not None:
            self.tensors[layer.c_n] = c.reshape(N, -1)
        out = self.tensors[layer.output]
        if D == 1:
            return [self.engine.sequence_call(layer, 0, x, self._lengths, h[:, 0], c[:, 0], out.reshape(N, T, P))]
        calls: list[Any] = []
        for number in range(D):
            own_h, own_c, y = np.zeros_like(h[:, 0]), np.zeros_like(c[:, 0]), np.zeros((N, T, P), np.int16)
            place = (self.place(False), number)
            calls += [Call(stream_rows.take_part, *place, h, own_h), Call(stream_rows.take_part, *place, c, own_c)]
            calls.append(self.engine.sequence_call(layer, number, x, self._lengths, own_h, own_c, y))
            calls += [Call(stream_rows.put_part, *place, own_h, h), Call(stream_rows.put_part, *place, own_c, c)]
            parts = out.reshape(N * T, D, P)
            calls.append(Call(stream_rows.put_part, self.place(True), number, y.reshape(N * T, P), parts))
        return calls
