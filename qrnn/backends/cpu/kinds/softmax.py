"""Softmax over rows on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class SoftmaxRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantSoftmax, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer

    def _call(self, place: Int64Array, x: Any, out: Any) -> Call:
        layer, own = self._layer, np.empty(x.shape[1], np.int64)
        return self.tasks.call("softmax", "softmax", place, layer.table, layer.in_frac, x, out, own)

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        layer, tensors = self._layer, walk.tensors
        return [self._call(walk.place_of(layer.output), tensors[layer.input], tensors[layer.output])]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        (x,) = inputs
        out: Int16Array = np.empty_like(x)
        wide = np.zeros((1, x.shape[1]), np.int16)  # The scratch of the call is as wide as a row.
        self.tasks.alone((x, out), Reused(self._layer.name, lambda control, _: self._call(control, wide, wide), 3))
        return out


RUN = SoftmaxRun
