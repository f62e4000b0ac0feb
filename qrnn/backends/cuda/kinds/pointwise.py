"""Pointwise layers: a thread an element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.backends.cuda import heads
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array, flat
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.parts import TensorFormat, pack_gates


class DevicePointwise(DeviceRowLayer):
    """A pointwise layer on the device."""

    kind = QuantPointwise

    def __init__(self, layer: QuantPointwise, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._function = tuple(upload(part) for part in pack_gates((layer.function,)))
        self._formats = layer.in_frac, layer.function.out_frac - layer.out_frac

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        (x,) = inputs
        out = device_array(x.shape, np.int16)
        for_each(heads.pointwise, x.size, *self._function, *self._formats, flat(x), flat(out))
        return out
