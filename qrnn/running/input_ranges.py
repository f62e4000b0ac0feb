"""How many values of a batch lie beyond the ranges that calibration gave the graph inputs, where integers clip them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.boundary import beyond_range
from qrnn.model.quant_model import QuantModel

PIECE = 256
"""The sequences that are looked at together, which bounds the memory that it takes."""


@dataclass(frozen=True)
class Beyond:
    """How many of the ``total`` values of the graph input ``name`` at its real steps are ``clipped``."""

    name: str
    clipped: int
    total: int

    def plus(self, more: Beyond) -> Beyond:
        """Return the counts of both, for further values of the same input."""
        return Beyond(self.name, self.clipped + more.clipped, self.total + more.total)

    def __str__(self) -> str:
        """Return the count in words."""
        return f"{self.clipped} of the {self.total} values of input {self.name!r}"


def inputs_beyond(model: QuantModel, batch: Batch) -> tuple[Beyond, ...]:
    """Return the counts of each graph input of features, in their order; values after a sequence's length do not count."""
    found = []
    for graph_input in model.inputs:
        if graph_input.kind == "features":
            name, clipped, total = graph_input.name, 0, 0
            for _, _, piece in batch.chunks(PIECE):
                beyond = beyond_range(piece.features[name], model.tensors[name])
                real = piece.along(model.length_rules[name]).real(beyond) if graph_input.has_time else beyond
                clipped, total = clipped + int(np.count_nonzero(real)), total + real.size
            found.append(Beyond(name, clipped, total))
    return tuple(found)
