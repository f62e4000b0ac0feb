"""Layers that add two tensors have a thread for each element."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cuda.contract import device
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.work import device_array, flat
from qrnn.model.kinds.add import QuantAdd

add16 = device(fixedpoint.add16)


@kernel(THREADS)
def run_add(a_shift: Any, b_shift: Any, out_shift: Any, a: Any, b: Any, out: Any) -> None:
    """Set out[i] = add16(a[i], b[i]), flat."""
    i = cuda.grid(1)
    if i < a.shape[0]:
        out[i] = add16(int64(a[i]), int64(b[i]), a_shift, b_shift, out_shift)


class DeviceAdd(DeviceRowLayer):
    """A sum of two tensors on the device."""

    kind = QuantAdd

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the sum of the rows of both terms."""
        a, b = inputs
        out = device_array(a.shape, np.int16)
        for_each(run_add, a.size, *self.layer.shifts, flat(a), flat(b), flat(out))
        return out
