"""The floor of a conversion: what rounding the weights costs, and nothing else.

The floor model is the float model with every matrix of weights rounded to the nearest on the grid that conversion has for its width. The
scale of each graph input's features is folded into the weights first, so that rows are rounded as they multiply features of equal size;
rows that lie on a grid without that (`qrnn.quantization.grid`) keep their integers. Its
error against the float model is what the weights' width alone costs: operands, formats, gate functions and states come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.layer_facts import Weights
from qrnn.model.parts import FloatArray
from qrnn.quantization.matrix import integer_weights, kept_steps, row_scales

FloorWidths = tuple[int, tuple[tuple[str, str], ...]]


def floor_widths(scheme: Mapping[str, Any]) -> FloorWidths:
    """Return what a floor depends on in the ``scheme`` of a model's provenance: the width of weights, and those of single matrices."""
    given = scheme.get("widths", {})
    return int(scheme.get("weights", 8)), tuple(
        sorted((k, str(v)) for k, v in given.items() if k.endswith((".W", ".R")))
    )


def floor_of(real: FloatModel, scheme: Mapping[str, Any], batch: Batch) -> FloatModel:
    """Return the floor model of a conversion, whose ``scheme`` is that of the written model's provenance."""
    weights, widths = floor_widths(scheme)
    return floor_model(real, batch, weights, dict(widths))


def floor_model(
    model: FloatModel, batch: Batch, weights: int = 8, widths: Mapping[str, str] | None = None
) -> FloatModel:
    """Return ``model`` with its weights rounded.

    Parameters
    ----------
    model: the float model.
    batch: data from which the scales of graph inputs' features are taken.
    weights: the width of recurrent layers' weights, 8 or 4 (`qrnn.Scheme.weights`); all others have 8 bits.
    widths: those of single matrices, by keys such as ``lstm.W`` (`qrnn.Scheme.widths`); other keys do not matter here.
    """
    scales = feature_scales(model, batch)
    layers = []
    for layer in model.layers:
        bits = {part: int((widths or {}).get(f"{layer.name}.{part}", weights)) for part in ("W", "R")}
        rounded = [_rounded(w, scales, bits["W" if w.reads else "R"] if w.recurrent else 8) for w in layer.weights()]
        layers.append(layer.with_weights(rounded))
    return replace(model, layers=tuple(layers))


def feature_scales(model: FloatModel, batch: Batch) -> dict[str, FloatArray]:
    """Return the standard deviation of each feature of each graph input, [F], over the real steps of ``batch``; 1 for a constant one."""
    found = {}
    for name, values in batch.features.items():
        rows = batch.along(model.length_rules[name]).real(values) if name in model.length_rules else values
        spread = rows.std(axis=0, dtype=np.float64) if len(rows) else np.ones(values.shape[-1])
        found[name] = np.where(spread > 0.0, spread, 1.0)
    return found


def _rounded(given: Weights, scales: Mapping[str, FloatArray], bits: int) -> FloatArray:
    """Return a matrix of weights as the real numbers that its integers are worth."""
    columns = np.ones(given.values.shape[1])
    if given.reads in scales:
        scale = scales[given.reads]
        columns = np.tile(scale, given.values.shape[1] // len(scale))
    folded = given.values * columns
    units = row_scales(folded, np.zeros(len(folded)), bits)
    result: FloatArray = integer_weights(folded, units, bits) * units[:, None] / columns
    # A row that is on a grid as it stands is not rounded at all: with one scale for all features its integers are what they were.
    steps = kept_steps(given.values, bits)
    on_grid = steps > 0.0
    result[on_grid] = integer_weights(given.values[on_grid], steps[on_grid], bits) * steps[on_grid, None]
    return result
