"""Matrices of about 16 bits, as the sum of two of 8: a layer of the weights rounded, and one of what the rounding left.

    y = W x + b = (W₁ x + b) + W₂ x        W₁ = round(W / s) · s by rows, W₂ = W - W₁, so that |W₂| ≤ s

Both are layers of the same kind with weights of 8 bits of their own, W₂'s steps about 256 times finer, and a layer that adds their outputs.
The first keeps the name NAME of the layer, the others are called NAME.fine and NAME.sum, and their output is the layer's.

It costs twice the multiply-adds and bytes of the layer, where no width of operands helps because the weights' own rounding is what an output
shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.add import Add
from qrnn.model.layer import Layer
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.parts import FloatArray
from qrnn.quantization.matrix import WEIGHT_LIMIT, integer_weights, row_scales


def as_written(model: FloatModel, scheme: Mapping[str, Any]) -> FloatModel:
    """Return ``model`` with the layers that its conversion by ``scheme`` (`qrnn.Scheme.to_dict`) has; the function is the same.

    With weights of 16 bits these are two of each dense layer and convolution, and their sum. Names of layers and tensors are then those of
    the converted model.
    """
    if scheme.get("weights", 8) != 16:
        return model
    return with_fine_weights(model, [layer.name for layer in model.layers if isinstance(layer, MatrixLayer)])


def with_fine_weights(model: FloatModel, names: Collection[str]) -> FloatModel:
    """Return ``model`` with each of the dense layers and convolutions ``names`` as two layers and their sum; the function is the same.

    QuantizationError for a name that is no such layer of the model.
    """
    known = {layer.name for layer in model.layers if isinstance(layer, MatrixLayer)}
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise QuantizationError(
                f"fine weights of {name!r}: no dense layer or convolution of model {model.name!r} has this name; expected {listed}"
            )
    layers: list[Layer] = []
    tensors = dict(model.tensors)
    taken = set(tensors) | {layer.name for layer in model.layers}
    for layer in model.layers:
        if layer.name not in names or not isinstance(layer, MatrixLayer):
            layers.append(layer)
            continue
        columns = layer.columns
        scale = row_scales(columns, np.zeros(len(columns)))
        if not (columns - integer_weights(columns, scale) * scale[:, None]).any():  # it lies on the grid already
            layers.append(layer)
            continue
        coarse = _carried(columns / scale[:, None], layer.weight.shape[1]) * scale[:, None]
        second, joined = (_free(f"{layer.name}.{word}", taken) for word in ("fine", "sum"))
        left, right = (_free(f"{layer.output}.{word}", taken) for word in ("coarse", "fine"))
        fine = layer.with_weights((columns - coarse,))
        layers.append(replace(layer.with_weights((coarse,)), output=left))
        layers.append(replace(fine, name=second, output=right, bias=np.zeros_like(layer.bias)))
        layers.append(Add(joined, left, right, layer.output))
        tensors[left] = tensors[right] = tensors[layer.output]
    return replace(model, layers=tuple(layers), tensors=tensors)


def _carried(rows: FloatArray, features: int) -> FloatArray:
    """Return integers near ``rows`` [R, K · F], each of which is rounded with the error of the one before it: its step before, or the feature.

    The errors of columns that multiply about the same value then cancel in the sum, so that W₂ x is small, and the integers of its format are
    fine. Rounded one by one they may add up to more than y itself.
    """
    order = np.arange(rows.shape[1]).reshape(-1, features).T.reshape(-1)
    found, error = np.zeros_like(rows), np.zeros(len(rows))
    for k in order:
        wanted = rows[:, k] + error
        found[:, k] = np.where(rows[:, k] == 0.0, 0.0, np.clip(np.rint(wanted), -WEIGHT_LIMIT, WEIGHT_LIMIT))
        error = np.where(rows[:, k] == 0.0, error, wanted - found[:, k])
    return found


def _free(name: str, taken: set[str]) -> str:
    """Return ``name``, with strokes behind it until it is none of ``taken``, which it joins."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name
