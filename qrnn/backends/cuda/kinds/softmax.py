"""Softmax layers have a thread for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.general import softmax_row
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import TensorFormat


@kernel(THREADS)
def run_softmax(table: Any, in_frac: Any, x: Any, out: Any) -> None:
    """Compute the softmax of x [M, F] into out [M, F], Q1.14, a thread for each row."""
    m = cuda.grid(1)
    if m < x.shape[0]:
        softmax_row(x[m], in_frac, table, out[m])


class DeviceSoftmax(DeviceRowLayer):
    """A softmax layer on the device."""

    kind = QuantSoftmax

    def __init__(self, layer: QuantSoftmax, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._table = upload(layer.table)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the softmax of each row."""
        (x,) = inputs
        out = device_array(x.shape, np.int16)
        for_each(run_softmax, x.shape[0], self._table, self.layer.in_frac, x, out)
        return out
