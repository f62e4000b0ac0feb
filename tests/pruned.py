"""Networks whose matrices have zeros in blocks, as pruned ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn import layers
from qrnn.model.float_model import FloatModel


def pruned(
    rng: np.random.Generator, shape: tuple[int, int], block: tuple[int, int], density: float
) -> npt.NDArray[np.float64]:
    """Return random weights of which each block is zero unless its random number is below ``density``."""
    kept = rng.random([-(-n // size) for n, size in zip(shape, block, strict=True)]) < density
    mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)[: shape[0], : shape[1]]
    return rng.uniform(-1, 1, shape) / np.sqrt(shape[1]) * mask


CELLS: dict[str, tuple[Callable[..., Any], int, dict[str, Any]]] = {
    "lstm": (layers.lstm, 4, {}),
    "gru": (layers.gru, 3, {}),
    "gru_before": (layers.gru, 3, {"linear_before_reset": False}),
    "rnn": (layers.rnn, 1, {}),
}
"""The function of the builder, how many gates have rows, and what the function is told besides."""


def network(
    seed: int, cell: str, features: int, hidden: int, block: tuple[int, int], density: float, outputs: int = 13
) -> FloatModel:
    """Return a recurrent layer and a dense layer, all of whose matrices are pruned; each gate begins with a block of rows."""
    rng = np.random.default_rng(seed)
    make, gates, options = CELLS[cell]
    weights = [
        np.concatenate([pruned(rng, (hidden, k), block, density) for _ in range(gates)]) for k in (features, hidden)
    ]
    y = make(layers.input("x", features=features), *weights, **options).output
    z = layers.dense(y, pruned(rng, (outputs, hidden), block, density), bias=rng.normal(size=outputs))
    return layers.model("pruned", outputs={"y": y, "z": z})
