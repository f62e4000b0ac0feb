"""Channels between convolutions brought to equal ranges; the float function stays the same.

    y = V f(U x + b) + d            Ũ = S U,  b̃ = S b,  Ṽ = V S⁻¹            y = Ṽ f(Ũ x + b̃) + d

as in `qrnn.refinement.equalize`, for a diagonal S > 0 with one scale for each channel, where U and V are convolutions and f is ReLU, or the
magnitude of pairs of channels, sqrt(a² + b²). A tensor has one scale for all channels, so that a quiet one has few units: with

    S_c = min((max over channels of max f) / max f_c, 2^3)                         over calibration data

it has up to eight times as many, and no more than the loudest. V's columns of loud channels then are the largest ones, so that those of quiet
channels lose up to three bits in V's rows; that costs little where weights have about 16 bits (`qrnn.quantization.fine_weights`), and more
than it gains where they have 8.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray, IndexArray

LARGEST_SCALE = 8.0
"""The most by which a quiet channel is scaled."""


def equal_channels(model: FloatModel, batch: Batch) -> FloatModel:
    """Return ``model`` with the channels of its convolutions scaled where that is exact, or ``model`` itself where none can be."""
    chains = [(place, *chain) for place in range(len(model.layers)) if (chain := _chain(model, place)) is not None]
    if not chains:
        return model
    wanted = {tensor for _, tensor, _, _ in chains}
    largest: dict[str, FloatArray] = {}

    def see(name: str, values: FloatArray, mask: object) -> None:
        if name in wanted:
            seen = values[mask] if isinstance(mask, np.ndarray) else values
            largest[name] = np.abs(seen).reshape(-1, values.shape[-1]).max(axis=0, initial=0.0)

    run_oracle_batch(model, batch, see)
    layers = list(model.layers)
    for place, tensor, writes, readers in chains:
        by_channel = largest[tensor].reshape(-1, int(writes.max()) + 1).max(axis=0)
        loudest = by_channel.max(initial=0.0)
        scale = np.where(by_channel > 0.0, loudest / np.where(by_channel > 0.0, by_channel, 1.0), 1.0)
        scale = np.minimum(scale, LARGEST_SCALE)
        writer = layers[place]
        assert isinstance(writer, Conv)
        scaled = writer.with_output_scaled(np.tile(scale[writes], writer.places))
        assert scaled is not None  # the same in every band
        layers[place] = scaled
        for k in readers:
            reader = layers[k]
            assert isinstance(reader, Conv)
            layers[k] = replace(reader, weight=reader.weight / scale[None, :, None, None])
    return replace(model, layers=tuple(layers))


def _chain(model: FloatModel, place: int) -> tuple[str, IndexArray, list[int]] | None:
    """Return what is scaled by scaling the channels of the layer at ``place``; None where a scale would not be exact.

    These are the tensor that is read instead of the layer's own, the channel of it that each channel of the layer becomes, and the places of
    its readers.
    """
    writer = model.layers[place]
    if not isinstance(writer, Conv):
        return None
    functions = _readers(model, writer.output)
    if functions is None or len(functions) != 1:
        return None
    function = model.layers[functions[0]]
    writes = _channels(writer, function)
    readers = None if writes is None else _readers(model, function.outputs[0])
    if writes is None or not readers:
        return None
    channels = int(writes.max()) + 1
    for k in readers:
        reader = model.layers[k]
        if not isinstance(reader, Conv) or reader.groups != 1 or reader.weight.shape[1] != channels:
            return None
    return function.outputs[0], writes, readers


def _readers(model: FloatModel, tensor: str) -> list[int] | None:
    """Return the places of the layers that read a tensor; None where a graph output does."""
    if any(tensor == part for output in model.outputs for part, _, _ in output.parts):
        return None
    return [k for k, layer in enumerate(model.layers) if tensor in layer.inputs]


def _channels(writer: Conv, function: Layer) -> IndexArray | None:
    """Return, for each channel of a convolution, the channel of the function's output that alone is computed from it; None where it varies."""
    units = len(writer.weight)
    if isinstance(function, Pointwise):
        return np.arange(units) if function.activation.kind == "relu" else None
    if not isinstance(function, Magnitude) or function.left != function.right or not function.root or function.epsilon:
        return None
    channels = function.left_index.size // writer.places
    if channels * writer.places != function.left_index.size:
        return None
    writes = np.full(units, -1, dtype=np.int64)
    for index in (function.left_index, function.right_index):
        for k, feature in enumerate(index):
            channel, unit = k % channels, int(feature) % units
            if writes[unit] not in (-1, channel):
                return None
            writes[unit] = channel
    return writes if (writes >= 0).all() else None
