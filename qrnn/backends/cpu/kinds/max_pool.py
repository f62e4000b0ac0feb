"""Max pools on the CPU: vectors of channels, of the steps and bands where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import Flow
from qrnn.backends.cpu.tasks import Tasks
from qrnn.backends.cpu.window_run import Share, WindowRun
from qrnn.model.kinds.max_pool import QuantMaxPool
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class MaxPoolRun(WindowRun):
    """See the module."""

    arrays_from, advance_from = 6, 3

    def __init__(self, layer: QuantMaxPool, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._pool = layer
        self._time = layer.time.taps, layer.time.stride, layer.time.dilation

    @property
    def step_macs(self) -> int:
        """Return what a step counts as, in multiply-adds: one for each value that it compares."""
        layer = self._pool
        return layer.places * layer.channels * layer.time.taps * layer.step_taps

    @property
    def _inner(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._pool.band_numbers, self._pool.line_numbers

    def _scratch(self) -> tuple[Int16Array, Int16Array]:
        features = self._pool.features
        return np.zeros(features, np.int16), np.zeros(features // self._pool.lines, np.int16)

    def outputs_call(self, place: Int64Array, share: Share, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that computes outputs; see `WindowRun.outputs_call`."""
        fixed = (share, past, self._time, *self._inner)
        return self.tasks.call("max_pool", "pool", place, *fixed, *arrays, *self._scratch())

    def advance_call(self, place: Int64Array, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that advances the states; see `WindowRun.advance_call`."""
        return self.tasks.call("max_pool", "advance", place, past, self._pool.time.stride, *arrays)

    def step_call(self, before: Flow, after: Flow, x: Int16Array, out: Int16Array, states: Sequence[Any]) -> Call:
        """Return the call of one step of streams; see `WindowRun.step_call`."""
        fixed = (after, self._time, *self._inner, x, out)
        return self.tasks.call("max_pool", "step_streams", before, *fixed, *states, *self._scratch())


RUN = MaxPoolRun
