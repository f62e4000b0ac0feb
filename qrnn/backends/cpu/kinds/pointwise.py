"""Pointwise layers on the CPU: a gate function of every element."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.block_sizes import POINTWISE_BLOCK
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.parts import Int16Array, Int64Array, pack_gates
from qrnn.model.quant_model import QuantModel


class PointwiseRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantPointwise, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        formats = layer.in_frac, layer.function.out_frac - layer.out_frac
        self._fixed = (*pack_gates((layer.function,)), *formats)

    def _call(self, place: Int64Array, x: Any, out: Any) -> Call:
        own = np.empty(POINTWISE_BLOCK, np.int32)
        return self.tasks.call("pointwise", "pointwise", place, *self._fixed, x, out, own)

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        layer, tensors = self._layer, walk.tensors
        return [self._call(walk.place_of(layer.output), tensors[layer.input], tensors[layer.output])]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        (x,) = inputs
        out: Int16Array = np.empty_like(x)
        self.tasks.alone((x, out), Reused(self._layer.name, lambda control, a: self._call(control, *a), 5))
        return out


RUN = PointwiseRun
