"""Embeddings on the CPU: the rows of a table that tokens name."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.parts import Int16Array
from qrnn.model.quant_model import QuantModel


class EmbeddingRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantEmbedding, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        layer = self._layer
        place, out = walk.place_of(layer.output), walk.tensors[layer.output]
        return [self.tasks.call("embedding", "embedding", place, layer.table, walk.source(layer.input), out)]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        (tokens,) = inputs
        found: Int16Array = self._layer.table[tokens]
        return found


RUN = EmbeddingRun
