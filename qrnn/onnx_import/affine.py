"""Constants that a graph multiplies features by or adds to them, folded into the layers of weights around them.

An importer's handler makes an `Affine`; when all layers are known, `with_affine_folded` lets the layers that read its output read its input
instead, with other weights and biases. So (x - mean) / std before a network costs nothing, and the scale and the offset of raw inputs
are chosen as if the graph had none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.layer import Layer
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.normalized import Normalized


def with_affine_folded(
    layers: list[Layer], outputs: Collection[str], reserve: Callable[[str, int], None]
) -> list[Layer]:
    """Return ``layers`` with each `Affine` folded into others where that is exact.

    It folds into the layers that read it, where they read it by a matrix; where others read it, or a graph output does, into the layer of
    weights before it. Where there is none it stays; of a graph input it becomes a dense layer with one weight a row, which reads raw values by
    a scale and an offset for each feature. ``outputs`` are the tensors that graph outputs read; ``reserve`` is told of weights before they
    are made.
    """
    done = list(layers)
    for tensor in [layer.output for layer in layers if isinstance(layer, Affine)]:
        # The layer is looked up by its output: another one may have folded into it.
        affine = next(layer for layer in done if isinstance(layer, Affine) and layer.output == tensor)
        left = affine.output in outputs
        for place, reader in enumerate(done):
            if affine.output not in reader.inputs:
                continue
            folded = _reading(reader, affine)
            left = left or folded is None
            done[place] = folded or reader
        place = done.index(affine)
        if left:
            done[place] = _written(affine, done[:place], reserve)
        else:
            del done[place]
    return done


def _reading(reader: Layer, affine: Affine) -> Layer | None:
    """Return ``reader`` as it reads the input of ``affine`` for its output; None where it cannot."""
    scale, offset = affine.scale, affine.offset
    if isinstance(reader, Affine):
        return replace(
            reader, input=affine.input, scale=reader.scale * scale, offset=reader.scale * offset + reader.offset
        )
    if (
        len(reader.inputs) != 1
        or not reader.input_weights
        or not scale.all()
        or (offset.any() and not reader.folds_offset)
    ):
        return None
    made: Any = reader
    if offset.any():
        made = made.with_input_shifted(offset)
    if (scale != 1.0).any():
        made = made.with_input_divided(1.0 / scale)
    result: Layer = replace(made, input=affine.input)
    return result


def _written(affine: Affine, before: list[Layer], reserve: Callable[[str, int], None]) -> Layer:
    """Return the layer that writes what ``affine`` does: the weights or normalization before it with others, a dense one, or itself."""
    writer = next((layer for layer in before if affine.input in layer.outputs), None)
    if isinstance(writer, MatrixLayer | LayerNorm | Normalized):
        reserve(affine.name, writer.weight.size if isinstance(writer, MatrixLayer) else 2 * affine.scale.size)
        if (made := writer.with_output_affine(affine.scale, affine.offset)) is not None:
            return replace(made, name=affine.name, output=affine.output)
    if writer is not None:
        return affine
    reserve(affine.name, affine.scale.size**2)
    return Dense(affine.name, affine.input, affine.output, np.diag(affine.scale), affine.offset)
