"""The quantized model is everything a backend or an export needs, as integers; nothing in it is a float except the boundary's scales.

Tensors between layers are int16, batch first, ``[N, T, F]`` or ``[N, F]``; real = q · 2^-frac, or q · scale[f] for graph inputs and
embeddings (`TensorFormat`). Each dataclass checks its own arrays, so a model that exists is well formed; `QuantModel` checks that layers
fit together and proves that no accumulator can overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.model.check import check_model, prove
from qrnn.model.quant_graph import QuantGraph


@dataclass(frozen=True)
class QuantModel(QuantGraph):
    """A whole quantized model; construction checks the graph and proves every accumulator (``proof``: layer → largest bound)."""

    def __post_init__(self) -> None:
        check_model(self)
        object.__setattr__(self, "proof", prove(self))
