"""Embedding layers have a thread for each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.parts import TensorFormat


@kernel(THREADS)
def run_embedding(table: Any, tokens: Any, out: Any) -> None:
    """Set out[m] = table[tokens[m]]; tokens [M] int64 are checked before."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        m, k = i // out.shape[1], i % out.shape[1]
        out[m, k] = table[tokens[m], k]


class DeviceEmbedding(DeviceRowLayer):
    """A table of features on the device, of which each token names a row."""

    kind = QuantEmbedding

    def __init__(self, layer: QuantEmbedding, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._table = upload(layer.table)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the rows of the table that the tokens name."""
        (tokens,) = inputs
        out = device_array((tokens.size, self.features), np.int16)
        for_each(run_embedding, out.size, self._table, tokens, out)
        return out
