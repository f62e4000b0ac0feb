"""The bytes of a quantized model are counted here."""

from __future__ import annotations

from typing import Any

ROW_BYTES = 4 + 4 + 1 + 1
"""The bytes of a matrix's row beside its weights: bias, multiplier, left_shift and pre_shift."""


def byte_counts(model: Any) -> dict[str, int]:
    """Return the bytes of a model's ``weights``, of the parameters of its ``rows``, of its ``tables``, and of the ``state`` of one stream.

    A table that several gates have is counted once.
    """
    matrices = [found.matrix for found in model.matrices]
    own = [layer.own_bytes() for layer in model.layers]
    functions = {(f.params.tobytes(), f.table.tobytes()): f for layer in model.layers for f in layer.functions()}
    return {
        "weights": sum(m.weight_bytes for m in matrices) + sum(b.weights for b in own),
        "rows": sum(len(m.bias) * ROW_BYTES for m in matrices) + sum(b.rows for b in own),
        "tables": sum(2 * f.table.size for f in functions.values()),
        "state": sum(b.state for b in own),
    }
