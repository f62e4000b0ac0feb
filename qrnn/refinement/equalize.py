"""Channels between dense layers brought to equal ranges; the float function stays the same.

For a function f with f(s·a) = s·f(a) for s > 0 (the identity, ReLU, leaky ReLU), a diagonal S > 0 and

    y = V f(U x + b) + d            Ũ = S U,  b̃ = S b,  Ṽ = V S⁻¹            y = Ṽ f(Ũ x + b̃) + d

the channels of f's value can be scaled at will (Nagel et al., ICCV 2019, section 4.1; Meller et al.: "Same, Same But Different", ICML
2019). Rows of U have a scale each, so that nothing is lost there. What is read by V has *one* scale for all channels, and its small
channels then have few units; after

    S_k = sqrt(max|V_·k| / max|f_k|)                                               over calibration data, normalized to a geometric mean of 1

a channel's range and what its weights make of it are balanced, as in SmoothQuant with α = 1/2 (Xiao et al., ICML 2023).

U is a dense layer; f any of the three, and last steps; V all that reads it, dense layers and the input weights W of recurrent ones. A
channel that is a graph output or is read by anything else is left alone.

Not done, and why. *h of LSTM, GRU and RNN with tanh*: h = o · tanh(c) is bounded by what tanh is, and no unit can be scaled through it;
only signs can, and integers within ±127 have no use for them. *ReLU states* could be scaled, by the rows and the columns of R; then
states that are outputs, or go in and out of a run, would be other numbers. *Graph inputs* against W's columns are the input scheme
8-per-feature: it folds S into the columns, and 1/S into the boundary. *Columns of R against a scale for each unit of h*: h reaches its
operand by a shift, one for the layer, because the contract's operands are shifts; a scale for each unit would be a multiplication for
each unit and step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray


def equalize(model: FloatModel, batch: Batch) -> FloatModel:
    """Return ``model`` with every dense layer's channels scaled where that is exact, or ``model`` itself where no channel can be."""
    largest: dict[str, FloatArray] = {}

    def see(name: str, values: FloatArray, mask: object) -> None:
        if isinstance(mask, np.ndarray):
            values = values[mask]
        largest[name] = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0, initial=0.0)

    chains = [(p, chain) for p, layer in enumerate(model.layers) if (chain := _chain(model, layer)) is not None]
    if not chains:
        return model
    run_oracle_batch(model, batch, see)
    layers = list(model.layers)
    for place, (tensor, readers) in chains:
        columns = np.max([np.abs(w).max(axis=0) for p in readers for w in layers[p].input_weights], axis=0)
        scale = _scales(columns, largest[tensor])
        scaled = layers[place].with_output_scaled(scale)
        assert scaled is not None  # `_chain` has asked
        layers[place] = scaled
        for p in readers:
            layers[p] = layers[p].with_input_divided(scale)
    return replace(model, layers=tuple(layers))


def _chain(model: FloatModel, layer: Layer) -> tuple[str, list[int]] | None:
    """Return the tensor that the readers V read, and the layers' places; None where a channel may not be scaled."""
    tensor = layer.output
    if layer.with_output_scaled(np.ones(model.tensors[tensor].features)) is None:
        return None
    while True:
        if any(tensor == part[0] for output in model.outputs for part in output.parts):
            return None
        places = [p for p, layer in enumerate(model.layers) if tensor in layer.inputs]
        readers = [model.layers[p] for p in places]
        if readers and all(reader.multiplies(tensor) for reader in readers):
            return tensor, places
        if len(readers) != 1 or not readers[0].homogeneous:
            return None
        tensor = readers[0].output


def _scales(columns: FloatArray, largest: FloatArray) -> FloatArray:
    """Return the scales S; channels that are never used or never read have 1."""
    used = (columns > 0.0) & (largest > 0.0)
    if not used.any():
        return np.ones_like(columns)
    scale = np.sqrt(np.where(used, columns, 1.0) / np.where(used, largest, 1.0))
    result: FloatArray = np.where(used, scale / np.exp(np.log(scale[used]).mean()), 1.0)
    return result
