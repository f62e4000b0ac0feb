"""Pointwise layers on the CPU: a gate function of every element."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.functions import lookup_of, pack_function, variant_of
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.parts import INT16_LANES
from qrnn.backends.cpu.steps import EITHER, UNIT
from qrnn.backends.cpu.tasks import ROWS, Reused, Tasks
from qrnn.backends.cpu.vector import INT16
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class PointwiseRun(LayerRun):
    """See the module."""

    in_place = True

    def __init__(self, layer: QuantPointwise, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        function, isa = layer.function, tasks.isa
        wider, rounded = function.in_frac - layer.in_frac, function.out_frac - layer.out_frac
        bounds = next((span for span in (UNIT, INT16) if _within(function.bounds, span)), None)
        lookup = lookup_of((function,), bounds is not None and isa is not None and isa.int16_lanes)
        variant = (variant_of(function), (wider > 0) - (wider < 0), rounded > 0, lookup, bounds or EITHER)
        self._kernel = Kernel(f"{ROWS}.pointwise", "compiled", variant)
        record, table = pack_function(function, lookup)
        self._fixed = (np.array(record, np.int64), table, abs(wider), rounded)

    def _call(self, place: Int64Array, x: Any, out: Any) -> Call:
        return Call(self._kernel, place, *self._fixed, x, out, np.zeros(INT16_LANES, np.int16), isa=self.tasks.isa)

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


def _within(bounds: tuple[int, int], span: tuple[int, int]) -> bool:
    return span[0] <= bounds[0] and bounds[1] <= span[1]


RUN = PointwiseRun
