"""Layers that add two tensors: a thread an element."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.backends.cuda import heads
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.work import device_array, flat
from qrnn.model.kinds.add import QuantAdd


class DeviceAdd(DeviceRowLayer):
    """A sum of two tensors on the device."""

    kind = QuantAdd

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        a, b = inputs
        out = device_array(a.shape, np.int16)
        for_each(heads.add, a.size, *self.layer.shifts, flat(a), flat(b), flat(out))
        return out
