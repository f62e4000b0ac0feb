"""Attention pooling: the mean of all steps of a sequence, weighted by a softmax of scores over these steps."""

from __future__ import annotations

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import place
from qrnn.layers.tensors import Tensor, sequence, simple_layer
from qrnn.model.kinds.attention_pool import AttentionPool


def attention_pool(scores: Tensor, values: Tensor, *, shared: bool = False, name: str | None = None) -> Tensor:
    """Take the mean of all steps so far, weighted by a softmax of scores over these steps: y_t = Σ e^(s_τ) · v_τ / Σ e^(s_τ), τ = 0 … t.

    Its `qrnn.layers.last_step` is the attention pooling of each sequence over its own length. A sequence has at most 2^22 steps.

    Parameters
    ----------
    scores: [N, T, S], a score for each step and head.
    values: [N, T, V]. Each head weighs V / S neighbouring values, so that S divides V and the output is [N, T, V].
    shared: every head weighs all values, and the output is [N, T, S · V], head by head (Lin et al. 2017, A structured self-attentive
        sentence embedding).

    References
    ----------
    Yang et al. 2016, Hierarchical attention networks for document classification.
    """
    where = place("attention_pool", name)
    scores, values = sequence(where, scores), sequence(where, values)
    S, V = scores.features, values.features
    if shared:
        left, right = np.repeat(np.arange(S), V), np.tile(np.arange(V), S)
    elif V % S:
        raise DataError(
            f"{where}: {S} scores for {V} values, expected a number of scores that divides that of values; or say shared=True"
        )
    else:
        left, right = np.repeat(np.arange(S), V // S), np.arange(V)
    return simple_layer(
        "attention_pool",
        name,
        (scores, values),
        (left.size, True),
        lambda out, names: AttentionPool(out, names[0], names[1], out, left, right),
    )
