"""A recurrent layer over the bands of each time step: the steps are sequences of the kernels of recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qrnn.backends.base import Trace
from qrnn.backends.cuda import elements
from qrnn.backends.cuda.device_layer import Run, Setting
from qrnn.backends.cuda.kinds.recurrent import DeviceRecurrent
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.over_bands import QuantOverBands
from qrnn.model.parts import TensorFormat


class DeviceOverBands(DeviceRecurrent):
    """Such a layer on the device."""

    kind = QuantOverBands

    def __init__(self, layer: QuantOverBands, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self.state_limits = {}
        self._starts = tuple(upload(start) for start in layer.begin(1))

    def run(self, run: Run) -> None:
        """Run all directions over the bands of every step, and put the output into ``run``."""
        layer, lengths = self.layer, run.lengths[self.layer.input]
        run.tensors[layer.output] = self._over_bands(run.setting, run.tensors[layer.input], lengths, run.trace)
        run.lengths[layer.output] = lengths

    def _over_bands(self, setting: Setting, x: Any, lengths: Lengths, trace: Trace | None) -> Any:
        (N, T, F), B = x.shape, self.layer.bands
        begin = tuple(_repeated(start, N * T) for start in self._starts)
        each = lengths.each_step_of(T, B)
        y, _ = self.recurrent(setting, x.reshape(N * T, B, F // B), begin, each, trace, in_place=True)
        return y.reshape(N, T, B * y.shape[2])


def _repeated(start: Any, rows: int) -> Any:
    """Return an array [1, D, W] as [rows, D, W]."""
    _, D, W = start.shape
    out = device_array((1, rows, D * W), start.dtype)
    for_each(elements.repeat, out.size, start.reshape(1, D * W), out)
    return out.reshape(rows, D, W)
