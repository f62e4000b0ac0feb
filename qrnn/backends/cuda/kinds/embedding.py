"""Embedding layers: a thread an element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.backends.cuda import heads
from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.parts import TensorFormat


class DeviceEmbedding(DeviceRowLayer):
    """A table of features on the device, of which each token names a row."""

    kind = QuantEmbedding

    def __init__(self, layer: QuantEmbedding, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._table = upload(layer.table)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        (tokens,) = inputs
        out = device_array((tokens.size, self.features), np.int16)
        for_each(heads.embedding, out.size, self._table, tokens, out)
        return out
