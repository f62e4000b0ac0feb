"""A model whose input has offsets, made from one without: the biases of what reads it are greater by what the weights make of them.

Both give the same bits for the same real inputs, as long as no integer of either is clamped. A backend that took the integer 0 for the
real one anywhere, in a padded step or before the first, would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qrnn.errors import QrnnError
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import AnyMatrix, Int64Array
from qrnn.model.quant_model import QuantModel


def with_offset(model: QuantModel, tensor: str, offset: Sequence[int]) -> QuantModel | None:
    """Return ``model`` with an offset for each feature of a scaled tensor; None where a bias leaves the overflow proof."""
    shift = np.array(offset, np.int64)
    fmt = replace(model.tensors[tensor], offset=tuple(offset))
    try:
        layers = tuple(_folded(layer, shift) if tensor in layer.inputs else layer for layer in model.layers)
        return replace(model, layers=layers, tensors={**model.tensors, tensor: fmt})
    except (QrnnError, OverflowError):
        return None


def _folded(layer: QuantLayer, shift: Int64Array) -> QuantLayer:
    if isinstance(layer, QuantDense):
        return replace(layer, matrix=_biased(layer.matrix, shift))
    assert isinstance(layer, QuantRecurrent)
    return replace(layer, directions=tuple(replace(d, ih=_biased(d.ih, shift)) for d in layer.directions))


def _biased(matrix: AnyMatrix, shift: Int64Array) -> AnyMatrix:
    bias = matrix.bias + matrix.weight.astype(np.int64) @ shift
    if np.abs(bias).max() > (1 << 31) - 1:
        raise OverflowError
    return replace(matrix, bias=bias.astype(np.int32))
