"""Softmax layers: a thread a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.backends.cuda import heads
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import TensorFormat


class DeviceSoftmax(DeviceRowLayer):
    """A softmax layer on the device."""

    kind = QuantSoftmax

    def __init__(self, layer: QuantSoftmax, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._table = upload(layer.table)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        (x,) = inputs
        out = device_array(x.shape, np.int16)
        for_each(heads.softmax, x.shape[0], self._table, self.layer.in_frac, x, out)
        return out
