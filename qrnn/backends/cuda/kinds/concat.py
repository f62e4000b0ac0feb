"""Layers that gather features from several tensors: a launch a part, a thread an element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.backends.cuda import heads
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.parts import TensorFormat


class DeviceConcat(DeviceRowLayer):
    """A layer that gathers features, on the device."""

    kind = QuantConcat

    def __init__(self, layer: QuantConcat, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._indices = tuple(upload(part.indices) for part in layer.parts)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        M, column = inputs[0].shape[0], 0
        out = device_array((M, self.features), np.int16)
        for part, indices, x in zip(self.layer.parts, self._indices, inputs, strict=True):
            width = indices.shape[0]
            for_each(heads.align_part, M * width, part.in_frac, self.layer.out_frac, indices, x, column, out)
            column += width
        return out
