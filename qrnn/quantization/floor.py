"""The floor of a conversion: what rounding the weights costs, and nothing else.

The floor model is the float model with every matrix of weights rounded to the nearest on the grid that conversion has for its width. The
scale and the offset of each graph input's features are folded into weights and biases first, so that rows are rounded as they multiply
features of equal size about zero. Its error against the float model is what the weights' width alone costs: operands, formats, gate functions
and states come on top. An offset folds where a conversion folds it: where all readers of the graph input have biases for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Weights
from qrnn.model.parts import FloatArray
from qrnn.quantization.calibrate import real_rows
from qrnn.quantization.matrix import integer_weights, row_scales


@dataclass(frozen=True)
class Features:
    """What is folded of a graph input's features: their ``scale`` [F], 0 for a constant one, and their ``offset`` [F]."""

    scale: FloatArray
    offset: FloatArray


def floor_model(model: FloatModel, batch: Batch, weights: int = 8) -> FloatModel:
    """Return ``model`` with its weights rounded.

    Parameters
    ----------
    model: the float model.
    batch: data from which the scales and offsets of graph inputs' features are taken.
    weights: the width of recurrent layers' weights, 8 or 4 (`qrnn.Scheme.weights`); all others have 8 bits.
    """
    folded = features_of(model, batch)
    return replace(model, layers=tuple(_of_layer(layer, folded, weights) for layer in model.layers))


def features_of(model: FloatModel, batch: Batch) -> dict[str, Features]:
    """Return what is folded of each graph input: deviations and means over the real steps of ``batch``; means of 0 where none can be folded."""
    found = {}
    for name in batch.features:
        rows = real_rows(model, batch, name)
        features = model.tensors[name].features
        readers = [layer for layer in model.layers if name in layer.inputs]
        if not len(rows):
            found[name] = Features(np.ones(features), np.zeros(features))
        elif all(reader.folds_offset for reader in readers):
            mean = rows.mean(axis=0)
            found[name] = Features((rows - mean).std(axis=0), mean)
        else:
            found[name] = Features(np.sqrt((rows**2).mean(axis=0)), np.zeros(features))
    return found


def _of_layer(layer: Layer, folded: Mapping[str, Features], weights: int) -> Layer:
    """Return the layer with rounded weights, and with biases that make up for what was rounded of the product with an offset."""
    offset = next((folded[name].offset for name in layer.inputs if name in folded and folded[name].offset.any()), None)
    if offset is None:
        return layer.with_weights([_rounded(w, folded, weights) for w in layer.weights()])
    shifted = layer.with_input_shifted(offset)
    return shifted.with_weights([_rounded(w, folded, weights) for w in layer.weights()]).with_input_shifted(-offset)


def _rounded(given: Weights, folded: Mapping[str, Features], weights: int) -> FloatArray:
    """Return a matrix of weights as the real numbers that its integers are worth; a constant feature's are kept, which multiply nothing."""
    columns = np.ones(given.values.shape[1])
    if given.reads in folded:
        columns = np.resize(folded[given.reads].scale, given.values.shape[1])
    scaled = given.values * columns
    bits = weights if given.recurrent else 8
    units = row_scales(scaled, np.zeros(len(scaled)), bits)
    rounded = integer_weights(scaled, units, bits) * units[:, None]
    varies = columns > 0.0
    result: FloatArray = np.where(varies, rounded / np.where(varies, columns, 1.0), given.values)
    return result
