"""Attention pooling over the steps of a sequence, and what attention within a step is made of: products of matrices, and softmax by groups."""

from __future__ import annotations

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count, place
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.kinds.group_softmax import GroupSoftmax
from qrnn.model.kinds.matmul import MatMul


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


def matmul(a: Tensor, b: Tensor, rows: int, columns: int, *, groups: int = 1, name: str | None = None) -> Tensor:
    """Return a · b of the matrices that each step of two tensors holds, for each of ``groups`` groups.

    A step of ``a`` holds [groups, rows, K], one of ``b`` [groups, K, columns], and one of the output [groups, rows, columns], all row-major.
    Sums of products are exact, and rounded once.
    """
    where = place("matmul", name)
    pair = readable(where, a), readable(where, b)
    sizes = {"rows": rows, "columns": columns, "groups": groups}
    height, width, number = (count(where, key, value) for key, value in sizes.items())
    inner = pair[0].features // (number * height)
    if pair[0].has_time != pair[1].has_time:
        raise DataError(f"{where}: one of its inputs has a time axis and the other has none")
    if (pair[0].features, pair[1].features) != (number * height * inner, number * inner * width) or not inner:
        raise DataError(
            f"{where}: inputs of {pair[0].features} and {pair[1].features} features, expected groups · rows · K and groups · K · columns "
            f"with groups={number}, rows={height}, columns={width}"
        )
    return simple_layer(
        "matmul",
        name,
        pair,
        (number * height * width, pair[0].has_time),
        lambda out, names: MatMul(out, names[0], names[1], out, number, height, inner, width),
    )


def group_softmax(t: Tensor, groups: int, *, name: str | None = None) -> Tensor:
    """Compute the softmax over each of ``groups`` groups of neighbouring features, of equal sizes."""
    where = place("group_softmax", name)
    t, number = readable(where, t), count(where, "groups", groups)
    if t.features % number:
        raise DataError(f"{where}: groups={number}, expected a divisor of its input's {t.features} features")
    return simple_layer(
        "group_softmax",
        name,
        (t,),
        (t.features, t.has_time),
        lambda out, names: GroupSoftmax(out, names[0], out, number),
    )
