"""Recurrent layers over the bands of each time step: every step is a sequence of bands, by the loops of recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from qrnn.backends.cpu.banded_run import BandedRun
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls, SequenceCalls, StreamCalls
from qrnn.backends.cpu.side_by_side import copies_of, most_copies
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.over_bands import QuantOverBands
from qrnn.model.quant_model import QuantModel


class OverBandsRun(BandedRun):
    """See the module. Streams and whole sequences do not differ: both are rows, of which each is a sequence."""

    _banded: QuantOverBands

    def __init__(self, layer: QuantOverBands, model: QuantModel, tasks: Tasks) -> None:
        self._copies = copies = most_copies(layer, tasks.isa)
        together = layer if copies == 1 else replace(layer, directions=copies_of(layer, copies, copies))
        super().__init__(layer, together, model, tasks)

    def share_tensors(self, tensors: dict[str, Any]) -> None:
        """Share nothing: the layer writes one tensor."""

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the calls of one step of streams."""
        return self.calls(walk)

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences."""
        return self.calls(walk)

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls over all rows; see `LayerRun.calls`."""
        layer, place = self._banded, walk.place_of(self._banded.input)
        B, D, P, given = layer.bands, len(layer.directions), layer.output_size, walk.tensors[layer.input]
        rows, copies = len(given), self._copies
        groups, each = -(-rows // copies), np.zeros(3, np.int64)
        x, lengths = np.zeros((groups, B, copies, layer.input_size), np.int16), np.full(groups, B, np.int64)
        out = walk.tensors[layer.output].reshape(rows, B, D, P)
        call = partial(self.tasks.call, "bands")
        calls = [
            call("group", place, copies, each),
            call("take_copies", place, given.reshape(rows, B, layer.input_size), x),
        ]
        starts = [np.tile(start[0], copies) for start in layer.begin(1)]
        for number in range(D):
            own = [np.zeros((groups, start.shape[1]), start.dtype) for start in starts]
            calls += [call("begin", each, np.ascontiguousarray(s[number]), o) for s, o in zip(starts, own, strict=True)]
            y = np.zeros((groups, B, copies, P), np.int16)
            data = (x.reshape(groups, B, -1), lengths, own[0], own[1], y.reshape(groups, B, -1))
            calls.append(self.side_by_side.sequence_call(walk, number, each, data))
            calls.append(call("put_copies", place, number, y, out))
        return calls


RUN = OverBandsRun
