"""Recurrent layers over time for each band: their sequences are those of the bands, by the loops of recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from qrnn.backends.cpu.banded_run import BandedRun
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import Flow, SequenceCalls, StreamCalls
from qrnn.backends.cpu.side_by_side import copies_of, most_copies
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.per_band import QuantPerBand
from qrnn.model.parts import Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel


class PerBandRun(BandedRun):
    """See the module. A step of M streams is one of M · B streams, whose states lie one after the other in those of the model."""

    _banded: QuantPerBand

    def __init__(self, layer: QuantPerBand, model: QuantModel, tasks: Tasks) -> None:
        most = most_copies(layer, tasks.isa) if len(layer.directions) == 1 else 1
        copies = max(g for g in range(1, most + 1) if layer.bands % g == 0)
        self._together = layer
        if copies > 1:
            self._together = replace(layer, bands=layer.bands // copies, directions=copies_of(layer, copies, 1))
        super().__init__(layer, self._together, model, tasks)

    def step_calls(
        self, flow: Flow, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array, walk: StreamCalls | None = None
    ) -> list[Call]:
        """Return the calls of one step of the streams of a flow; see `RecurrentRun.step_calls`. No team shares them: each has many rows."""
        layer, B = self._together, self._together.bands
        rows = np.zeros(B * len(flow.rows), np.int64)
        each = Flow(np.zeros(3, np.int64), rows, rows)
        spread = self.tasks.call("bands", "spread", flow.control, B, flow.rows, each.control, each.rows)
        x, y, h = x.reshape(-1, layer.input_size), y.reshape(-1, layer.output_size), h.reshape(-1, layer.output_size)
        data = (x, h, c.reshape(len(h), layer.cell_size), y)
        if self.side_by_side is self:
            return [spread, *super().step_calls(each, *data)]
        return [spread, *self.side_by_side.step_calls(each, *data)]

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences, of which each band is one; see `LayerRun.sequence_calls`."""
        layer, B = self._together, self._together.bands
        N, T, I, P = walk.rows.size, walk.steps[layer.input], layer.input_size, layer.output_size
        D = len(layer.directions)
        states = walk.rows.layers[layer.name]
        for tensor, state in zip(layer.outputs[1:], states, strict=False):
            walk.tensors[tensor] = state.reshape(N, -1)
        row, each = walk.place(False), np.array([0, N * B, 0])
        call, copying = partial(self.tasks.call, "bands"), partial(self.tasks.call, "copying")
        x, lengths = np.zeros((N, B, T, I), np.int16), np.repeat(walk.lengths(layer.input), B)
        calls = [call("take_bands", row, walk.tensors[layer.input].reshape(N, T, B, I), x)]
        for number in range(D):
            own: list[Any] = [s[:, 0] if D == 1 else np.zeros_like(s[:, 0]) for s in states]
            y = np.zeros((N, B, T, P), np.int16)
            h, c = own[0].reshape(N * B, P), own[1].reshape(N * B, layer.cell_size)
            if D > 1:
                calls += [copying("take_part", row, number, s, o) for s, o in zip(states, own, strict=True)]
            data = (x.reshape(N * B, T, I), lengths, h, c, y.reshape(N * B, T, P))
            calls.append(self.side_by_side.sequence_call(walk, number, each, data))
            if D > 1:
                calls += [copying("put_part", row, number, o, s) for s, o in zip(states, own, strict=True)]
            calls.append(call("put_bands", row, number, y, walk.tensors[layer.output].reshape(N, T, B, D, P)))
        return calls


RUN = PerBandRun
