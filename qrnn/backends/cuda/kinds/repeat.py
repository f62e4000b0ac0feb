"""Layers that give a vector at every step have a thread for each element."""

from __future__ import annotations

import numpy as np

from qrnn.backends.cuda import elements
from qrnn.backends.cuda.device_layer import DeviceLayer, Run
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.repeat import QuantRepeat


class DeviceRepeat(DeviceLayer):
    """A vector at every step, on the device."""

    kind = QuantRepeat

    def run(self, run: Run) -> None:
        """Copy the vector to each step of the tensor that says how many there are."""
        like, x = self.layer.like, run.tensors[self.layer.vector]
        steps = self.layer.count or run.tensors[like].shape[1]
        out = device_array((x.shape[0], steps, x.shape[1]), np.int16)
        for_each(elements.repeat, out.size, x, out)
        run.tensors[self.layer.output] = out
        given = run.lengths[like]
        counted = np.full(given.count, steps, np.int64)
        run.lengths[self.layer.output] = Lengths.of(counted) if self.layer.count else given
