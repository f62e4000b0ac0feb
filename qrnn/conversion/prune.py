"""Pruning by magnitude: of a float model's matrices, blocks of the smallest weights become zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray


def prune(
    model: FloatModel, density: float = 0.25, block: tuple[int, int] = (8, 4), parts: Iterable[str] | None = None
) -> FloatModel:
    """Return the model with blocks of weights set to zero, those whose squares have the smallest sums.

    Of each matrix [R, K] the share ``density`` of its blocks of ``block`` = (rows, columns) is kept, rounded up. Blocks begin at row 0 of
    each gate and at column 0; the last ones may be smaller. ``parts`` names what is pruned: ``LAYER``, or ``LAYER.W`` and ``LAYER.R`` for the
    matrices of a recurrent layer that read its input and its state. Without it, these are the matrices of recurrent and dense layers.

    This is one step without training, which costs accuracy: train the network further with these zeros kept, and convert what comes out.
    Weights that are 0 stay 0 in the integer model, so a network that was pruned elsewhere needs none of this.

    Source: LPCNet (Valin and Skoglund 2019) and RNNoise keep blocks of 8 rows and 4 columns. Raises QuantizationError
    for a density that is not above 0 and at most 1, a block without rows or columns, and parts that the model does not have.
    """
    if not 0 < density <= 1:
        raise QuantizationError(f"density = {density!r}, expected a number above 0 and at most 1")
    if len(block) != 2 or not all(isinstance(n, int) and n >= 1 for n in block):
        raise QuantizationError(f"block = {block!r}, expected two whole numbers from 1 on: rows and columns")
    wanted = None if parts is None else set(parts)
    left = set() if wanted is None else set(wanted)
    layers = []
    for layer in model.layers:
        values = []
        for found in layer.weights():
            names = {layer.name, f"{layer.name}.{found.width}"}
            chosen = isinstance(layer, Recurrent | Dense) if wanted is None else bool(names & wanted)
            left -= names
            values.append(pruned(found.values, density, block, _gates(layer, found.values)) if chosen else found.values)
        layers.append(layer.with_weights(values) if values else layer)
    if left:
        raise QuantizationError(
            f"parts: {', '.join(sorted(left))} not found, expected some of the layers with weights: "
            f"{', '.join(layer.name for layer in model.layers if layer.weights())}"
        )
    return replace(model, layers=tuple(layers))


def pruning_named(text: str) -> tuple[float, tuple[int, int]]:
    """Return density and block of ``DENSITY`` or ``DENSITY,RxC``, as the command line has them."""
    density, _, block = text.partition(",")
    try:
        rows, columns = (int(n) for n in (block or "8x4").split("x"))
        return float(density), (rows, columns)
    except ValueError:
        raise QuantizationError(f"--prune {text!r}, expected DENSITY or DENSITY,RxC such as 0.25 or 0.25,8x4") from None


def _gates(layer: Layer, weight: FloatArray) -> int:
    """Return how many parts the rows of a matrix have, each with blocks of its own."""
    size = layer.hidden_size if isinstance(layer, Recurrent) else len(weight)
    return len(weight) // size if len(weight) % size == 0 else 1


def pruned(weight: FloatArray, density: float, block: tuple[int, int], gates: int = 1) -> FloatArray:
    """Return weights [G·H, K] with zeros in all blocks but ⌈density · blocks⌉, which have the largest sums of squares."""
    rows, columns = len(weight) // gates, weight.shape[1]
    padding = [(0, 0), (0, -rows % block[0]), (0, -columns % block[1])]
    padded = np.pad(weight.reshape(gates, rows, columns), padding)
    shape = (gates, padded.shape[1] // block[0], block[0], padded.shape[2] // block[1], block[1])
    energy = np.square(padded).reshape(shape).sum(axis=(2, 4))
    kept = np.zeros(energy.size, bool)
    kept[np.argsort(-energy, axis=None, kind="stable")[: int(np.ceil(density * energy.size))]] = True
    mask = kept.reshape(energy.shape).repeat(block[0], axis=1).repeat(block[1], axis=2)[:, :rows, :columns]
    result: FloatArray = np.where(mask.reshape(weight.shape), weight, 0.0)
    return result
