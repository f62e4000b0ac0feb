"""Matrices of about 16 bits, as the sum of two of 8: a layer of the weights rounded, and one of what the rounding left.

    y = W x + b = (W₁ x + b) + W₂ x        W₁ = round(W / s) · s by rows, W₂ = W - W₁, so that |W₂| ≤ s / 2

Both are layers of the same kind with weights of 8 bits of their own, W₂'s steps about 256 times finer, and a layer that adds their outputs.
It costs twice the multiply-adds and bytes of the layer, where no width of operands helps because the weights' own rounding is what an output
shows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.add import Add
from qrnn.model.layer import Layer
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.quantization.matrix import integer_weights, row_scales


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
        coarse = integer_weights(columns, scale) * scale[:, None]
        if not (columns - coarse).any():  # it lies on the grid already
            layers.append(layer)
            continue
        first, second, left, right = (
            _free(f"{name}.{word}", taken)
            for name, word in (
                (layer.name, "coarse"), (layer.name, "fine"), (layer.output, "coarse"), (layer.output, "fine"),
            )
        )  # fmt: skip
        fine = layer.with_weights((columns - coarse,))
        layers.append(replace(layer.with_weights((coarse,)), name=first, output=left))
        layers.append(replace(fine, name=second, output=right, bias=np.zeros_like(layer.bias)))
        layers.append(Add(layer.name, left, right, layer.output))
        tensors[left] = tensors[right] = tensors[layer.output]
    return replace(model, layers=tuple(layers), tensors=tensors)


def _free(name: str, taken: set[str]) -> str:
    """Return ``name``, with strokes behind it until it is none of ``taken``, which it joins."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name
