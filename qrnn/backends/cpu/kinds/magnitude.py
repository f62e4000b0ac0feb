"""Magnitudes and powers of two features on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.magnitude import QuantMagnitude
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel

ELEMENT_MACS = 16
"""What a magnitude counts as, in multiply-adds."""


class MagnitudeRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantMagnitude, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer, self._features = layer, layer.left_index.size
        indices = (np.ascontiguousarray(index, np.int64) for index in (layer.left_index, layer.right_index))
        self._numbers = (layer.root, *layer.square_shifts, layer.epsilon, layer.shift, *indices)

    def _call(self, place: Int64Array, arrays: Sequence[Any]) -> Call:
        """Return the call for rows of ``arrays``: one or two inputs, and the output."""
        a, b, out = arrays[0], arrays[-2], arrays[-1]
        squares = np.zeros(self._features, np.int64)
        return self.tasks.call("magnitude", "magnitudes", place, *self._numbers, squares, a, b, out)

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        arrays = [walk.tensors[name] for name in (*self._layer.inputs, self._layer.output)]
        return [self._call(walk.place_of(self._layer.output), arrays)]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        given = [np.ascontiguousarray(x) for x in inputs]
        out = np.empty((len(given[0]), self._features), np.int16)
        how = Reused(self._layer.name, self._call, 2 + len(self._numbers))
        macs = ELEMENT_MACS * self._features
        self.tasks.in_tasks((given[0], given[-1], out), how, macs, self.tasks.tuning.task_macs)
        return out


RUN = MagnitudeRun
