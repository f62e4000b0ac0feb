"""Layers that gather features from several tensors have a launch for each part and a thread for each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import fixedpoint
from qrnn.backends.cuda.contract import device
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.parts import TensorFormat

align16 = device(fixedpoint.align16)


@kernel(THREADS)
def run_align(from_frac: Any, to_frac: Any, indices: Any, x: Any, column: Any, out: Any) -> None:
    """Set out[m, column + k] = align16(x[m, indices[k]]), or 0 for an index below 0."""
    i = cuda.grid(1)
    width = indices.shape[0]
    if i < x.shape[0] * width:
        m, k = i // width, i % width
        if indices[k] < 0:
            out[m, column + k] = 0
        else:
            out[m, column + k] = align16(int64(x[m, indices[k]]), from_frac, to_frac)


class DeviceConcat(DeviceRowLayer):
    """A layer that gathers features, on the device."""

    kind = QuantConcat

    def __init__(self, layer: QuantConcat, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._indices = tuple(upload(part.indices) for part in layer.parts)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the gathered features."""
        M, column = inputs[0].shape[0], 0
        out = device_array((M, self.features), np.int16)
        for part, indices, x in zip(self.layer.parts, self._indices, inputs, strict=True):
            width = indices.shape[0]
            for_each(run_align, M * width, part.in_frac, self.layer.out_frac, indices, x, column, out)
            column += width
        return out
