"""Pointwise layers have a thread for each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import fixedpoint
from qrnn.arithmetic.gates import IN_FRAC
from qrnn.backends.cuda.cells import evaluate
from qrnn.backends.cuda.contract import device
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array, flat
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.parts import TensorFormat, pack_gates

align16, shift_right_round = device(fixedpoint.align16), device(fixedpoint.shift_right_round)


@kernel(THREADS)
def run_pointwise(params: Any, tables: Any, in_frac: Any, out_shift: Any, x: Any, out: Any) -> None:
    """Set out[i] = round(gate(align16(x[i])) / 2^out_shift), flat."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        value = evaluate(align16(int64(x[i]), in_frac, params[0, IN_FRAC]), params, tables, 0)
        out[i] = shift_right_round(value, out_shift)


class DevicePointwise(DeviceRowLayer):
    """A pointwise layer on the device."""

    kind = QuantPointwise

    def __init__(self, layer: QuantPointwise, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._function = tuple(upload(part) for part in pack_gates((layer.function,)))
        self._formats = layer.in_frac, layer.function.out_frac - layer.out_frac

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the values of the gate function."""
        (x,) = inputs
        out = device_array(x.shape, np.int16)
        for_each(run_pointwise, x.size, *self._function, *self._formats, flat(x), flat(out))
        return out
