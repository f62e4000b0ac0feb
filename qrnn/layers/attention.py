"""Attention pooling over the steps of a sequence, and what attention within a step is made of: products of matrices, and softmax by groups."""

from __future__ import annotations

import numpy as np

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import count, place, shaped
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.attention import MOST_KEPT, Attention
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.kinds.group_softmax import GroupSoftmax
from qrnn.model.kinds.matmul import MatMul
from qrnn.model.windowed import MOST_ELEMENTS


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


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    heads: int = 1,
    key_heads: int | None = None,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    most_steps: int = 1024,
    name: str | None = None,
) -> Tensor:
    """Compute y_t = Σ e^(q_t · k_τ · scale) · v_τ / Σ e^(q_t · k_τ · scale) for each head: attention over the steps of a sequence.

    The output is [N, T, heads · E] with the steps of the queries. Without ``causal`` the sum is over all steps τ of the sequence of the keys
    and values, which may have a time axis of its own: the model then runs over whole sequences alone. With ``causal`` all go over one time
    axis, the sum is over τ = 0 … t, and the model streams: the layer's state keeps the keys and values of past steps.

    Parameters
    ----------
    queries: [N, T, heads · D], head by head.
    keys: [N, T', key_heads · D].
    values: [N, T', key_heads · E].
    heads: the number of heads of queries, and of the output.
    key_heads: the number of heads of keys and values, as many as ``heads`` where it is left out; every heads / key_heads neighbouring heads of
        queries read one of them.
    scale: what the products of queries and keys are multiplied by; 1 / √D where it is left out.
    causal: each step reads steps up to its own.
    window: of a causal layer, the number of steps that each one reads, its own among them; all of them where it is left out.
    most_steps: of a causal layer without a window, the most steps of a sequence: it keeps their keys and values, 2 · most_steps ·
        key_heads · (D + E) bytes for each stream. Sessions refuse a step past these.

    References
    ----------
    Luong et al. 2015, Effective approaches to attention-based neural machine translation; Vaswani et al. 2017, Attention is all you need.
    """
    where = place("attention", name)
    q, k, v = sequence(where, queries), sequence(where, keys), sequence(where, values)
    H = count(where, "heads", heads)
    G = H if key_heads is None else count(where, "key_heads", key_heads)
    D, E = q.features // H, v.features // G
    if H % G or q.features != H * D or (k.features, v.features) != (G * D, G * E) or not D or not E:
        raise DataError(
            f"{where}: queries, keys and values of {q.features}, {k.features} and {v.features} features with heads={H}, key_heads={G}; "
            "expected heads · D, key_heads · D and key_heads · E, and a key_heads that divides heads"
        )
    if window is not None and not causal:
        raise UnsupportedError(
            f"{where}: window={window} without causal=True; only windows of past steps are supported"
        )
    factor = 1.0 / D**0.5 if scale is None else float(shaped(where, "scale", scale, (), "one number"))
    kept = 0
    if causal:
        kept = count(where, "most_steps", most_steps) if window is None else count(where, "window", window)
        if kept > MOST_KEPT or kept * G * (D + E) > MOST_ELEMENTS:
            raise UnsupportedError(
                f"{where}: {kept} steps of {G * (D + E)} keys and values are kept, at most {MOST_KEPT} steps and {MOST_ELEMENTS} numbers; "
                "give a smaller window or most_steps"
            )

    def make(out: str, names: tuple[str, ...]) -> Attention:
        return Attention(out, names[0], names[1], names[2], out, H, G, D, E, factor, kept, window is not None)

    return simple_layer("attention", name, (q, k, v), (H * E, True), make)


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
