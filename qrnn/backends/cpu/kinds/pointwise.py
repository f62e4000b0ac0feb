"""Pointwise layers on the CPU: a gate function of every element."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.arithmetic.gates import KIND
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.functions import LANES
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import ROWS, Reused, Tasks
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.parts import Int16Array, Int64Array, pack_gates
from qrnn.model.quant_model import QuantModel


class PointwiseRun(LayerRun):
    """See the module."""

    in_place = True

    def __init__(self, layer: QuantPointwise, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        wider, rounded = layer.function.in_frac - layer.in_frac, layer.function.out_frac - layer.out_frac
        kind = int(layer.function.params[KIND])
        self._kernel = Kernel(f"{ROWS}.pointwise", "compiled", (kind, (wider > 0) - (wider < 0), rounded > 0))
        self._fixed = (*pack_gates((layer.function,)), abs(wider), rounded)

    def _call(self, place: Int64Array, x: Any, out: Any) -> Call:
        return Call(self._kernel, place, *self._fixed, x, out, np.zeros(LANES, np.int16), isa=self.tasks.isa)

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
