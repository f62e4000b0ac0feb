"""Sums of two tensors on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class AddRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantAdd, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer

    def _call(self, place: Int64Array, a: Any, b: Any, out: Any) -> Call:
        return self.tasks.call("add", "add", place, *self._layer.shifts, a, b, out)

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        layer, tensors = self._layer, walk.tensors
        place = walk.place_of(layer.output)
        return [self._call(place, tensors[layer.left], tensors[layer.right], tensors[layer.output])]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        a, b = inputs
        out: Int16Array = np.empty_like(a)
        how = Reused(self._layer.name, lambda control, arrays: self._call(control, *arrays), 4)
        self.tasks.alone((a, b, out), how)
        return out


RUN = AddRun
