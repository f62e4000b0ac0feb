"""The floor of a conversion: what rounding the weights costs, and nothing else.

The floor model is the float model with every matrix of weights rounded to the nearest on the grid that conversion has for its width. The
scale and the offset of each graph input's features are folded into weights and biases first, so that rows are rounded as they multiply
features of equal size about zero; rows that lie on a grid without that (`qrnn.quantization.grid`) keep their integers. Its error against the
float model is what the weights' width alone costs: operands, formats, gate functions and states come on top. An offset folds where a
conversion folds it: where all readers of the graph input have biases for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Weights
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.parts import FloatArray
from qrnn.quantization.calibrate import real_rows
from qrnn.quantization.matrix import integer_weights, kept_steps, row_scales

FloorWidths = tuple[int, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Features:
    """What is folded of a graph input's features: their ``scale`` [F], 0 for a constant one, and their ``offset`` [F]."""

    scale: FloatArray
    offset: FloatArray


def floor_widths(scheme: Mapping[str, Any]) -> FloorWidths:
    """Return what a floor depends on in the ``scheme`` of a model's provenance: the width of weights, and those of single matrices."""
    given = scheme.get("widths", {})
    return int(scheme.get("weights", 8)), tuple(
        sorted((k, str(v)) for k, v in given.items() if k.endswith((".W", ".R")))
    )


def floor_of(real: FloatModel, scheme: Mapping[str, Any], data: Batch | Mapping[str, Features]) -> FloatModel:
    """Return the floor model of a conversion, whose ``scheme`` is that of the written model's provenance."""
    weights, widths = floor_widths(scheme)
    return floor_model(real, data, weights, dict(widths))


def floor_model(
    model: FloatModel,
    data: Batch | Mapping[str, Features],
    weights: int = 8,
    widths: Mapping[str, str] | None = None,
) -> FloatModel:
    """Return ``model`` with its weights rounded.

    Parameters
    ----------
    model: the float model.
    data: data from which the scales and offsets of graph inputs' features are taken, or these.
    weights: the width of the weights of recurrent layers and convolutions, 8 or 4 (`qrnn.Scheme.weights`), while all others have 8 bits; or 16,
        with which those of recurrent layers have 8 bits, and the rounding of all others does not count.
    widths: those of single matrices, by keys such as ``lstm.W`` (`qrnn.Scheme.widths`); other keys do not matter here.
    """
    folded: Mapping[str, Features] = features_of(model, data) if isinstance(data, Batch) else data
    layers = []
    for layer in model.layers:
        bits = {part: int((widths or {}).get(f"{layer.name}.{part}", min(weights, 8))) for part in ("W", "R")}
        exact = weights == 16 and isinstance(layer, MatrixLayer)
        layers.append(layer if exact else _of_layer(layer, folded, bits))
    return replace(model, layers=tuple(layers))


def features_of(model: FloatModel, batch: Batch) -> dict[str, Features]:
    """Return what is folded of each graph input: deviations and means over the real steps of ``batch``; means of 0 where none can be folded."""
    found = {}
    for name in batch.features:
        rows = real_rows(model, batch, name)
        features = model.tensors[name].features
        if not len(rows):
            found[name] = Features(np.ones(features), np.zeros(features))
        elif _folds_offset(model, name):
            mean = rows.mean(axis=0)
            found[name] = Features((rows - mean).std(axis=0), mean)
        else:
            found[name] = Features(np.sqrt((rows**2).mean(axis=0)), np.zeros(features))
    return found


def _folds_offset(model: FloatModel, name: str) -> bool:
    """Return whether the offset of a graph input's features can be folded."""
    readers = [layer for layer in model.layers if name in layer.inputs]
    return all(reader.folds_offset and reader.multiplies(name) for reader in readers)


class FeatureSums:
    """`features_of` over batches that come one after the other: the number of rows, their mean, and the sum of squares about it [F]."""

    def __init__(self, model: FloatModel) -> None:
        self._model = model
        self._sums: dict[str, tuple[int, FloatArray, FloatArray]] = {}

    def add(self, batch: Batch) -> None:
        """Add the real steps of a batch, by the rule of Chan, Golub and LeVeque for means and squares of two sets."""
        for name in batch.features:
            rows = real_rows(self._model, batch, name)
            features = self._model.tensors[name].features
            count, mean, squares = self._sums.get(name, (0, np.zeros(features), np.zeros(features)))
            if len(rows):
                own = rows.mean(axis=0)
                apart, total = own - mean, count + len(rows)
                squares = squares + ((rows - own) ** 2).sum(axis=0) + apart**2 * (count * len(rows) / total)
                count, mean = total, mean + apart * (len(rows) / total)
            self._sums[name] = (count, mean, squares)

    def features(self) -> dict[str, Features]:
        """Return what `features_of` would of all of them."""
        found = {}
        for name, (count, mean, squares) in self._sums.items():
            if not count:
                found[name] = Features(np.ones(len(mean)), np.zeros(len(mean)))
            elif _folds_offset(self._model, name):
                found[name] = Features(np.sqrt(squares / count), mean)
            else:
                found[name] = Features(np.sqrt(squares / count + mean**2), np.zeros(len(mean)))
        return found


def _of_layer(layer: Layer, folded: Mapping[str, Features], bits: Mapping[str, int]) -> Layer:
    """Return the layer with weights rounded to ``bits`` of W and R, and with biases that make up for what that changes at the offset."""

    def rounded(of: Layer) -> Layer:
        return of.with_weights([_rounded(w, folded, bits.get(w.width, 8)) for w in of.weights()])

    offset = next((folded[name].offset for name in layer.inputs if name in folded and folded[name].offset.any()), None)
    if offset is None:
        return rounded(layer)
    return rounded(layer.with_input_shifted(offset)).with_input_shifted(-offset)


def _rounded(given: Weights, folded: Mapping[str, Features], bits: int) -> FloatArray:
    """Return a matrix of weights as the real numbers that its integers are worth; a constant feature's are kept, which multiply nothing."""
    columns = np.ones(given.values.shape[1])
    if given.reads in folded:
        columns = np.resize(folded[given.reads].scale, given.values.shape[1])
    scaled = given.values * columns
    units = row_scales(scaled, np.zeros(len(scaled)), bits)
    rounded = integer_weights(scaled, units, bits) * units[:, None]
    varies = columns > 0.0
    result: FloatArray = np.where(varies, rounded / np.where(varies, columns, 1.0), given.values)
    # A row that is on a grid as it stands is not rounded at all: with one scale for all features its integers are what they were.
    steps = kept_steps(given.values, bits)
    on_grid = steps > 0.0
    result[on_grid] = integer_weights(given.values[on_grid], steps[on_grid], bits) * steps[on_grid, None]
    return result
