"""Layers that take each sequence's own last step have a thread for each element."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qrnn.backends.cuda import elements
from qrnn.backends.cuda.device_layer import DeviceLayer, Run
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.parts import TensorFormat


class DeviceLastStep(DeviceLayer):
    """The last step of each sequence, on the device."""

    kind = QuantLastStep

    def __init__(self, layer: QuantLastStep, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._zero = upload(tensors[layer.output].nearest_zero)

    def run(self, run: Run) -> None:
        """Copy the last valid step of each sequence."""
        x = run.tensors[self.layer.input]
        out = device_array((x.shape[0], x.shape[2]), np.int16)
        for_each(elements.last_step, out.size, run.lengths[self.layer.input].device, self._zero, x, out)
        run.tensors[self.layer.output] = out
