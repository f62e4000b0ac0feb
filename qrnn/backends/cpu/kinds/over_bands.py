"""Recurrent layers over the bands of each time step: every step is a sequence of bands, by the loops of recurrent layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from qrnn.backends.cpu.banded_run import BandedRun
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls, SequenceCalls, StreamCalls
from qrnn.model.kinds.over_bands import QuantOverBands


class OverBandsRun(BandedRun):
    """See the module. Streams and whole sequences do not differ: both are rows, of which each is a sequence."""

    _banded: QuantOverBands

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
        rows = len(given)
        x, lengths = given.reshape(rows, B, layer.input_size), np.full(rows, B, np.int64)
        out = walk.tensors[layer.output].reshape(rows, B, D, P)
        call, calls = partial(self.tasks.call, "bands"), list[Call]()
        starts = layer.begin(1)
        for number in range(D):
            own = [np.zeros((rows, start.shape[2]), start.dtype) for start in starts]
            calls += [
                call("begin", place, np.ascontiguousarray(s[0, number]), o) for s, o in zip(starts, own, strict=True)
            ]
            y = out[:, :, 0] if D == 1 else np.zeros((rows, B, P), np.int16)
            calls.append(self.sequence_call(walk, number, place, (x, lengths, own[0], own[1], y)))
            if D > 1:
                calls.append(call("put_parts", place, number, y, out))
        return calls


RUN = OverBandsRun
