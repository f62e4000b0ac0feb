"""ONNX's operator Attention, of opset 23 on: scaled dot-product attention of several heads over the steps of a sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.pair_masks import left_by_numbers, masked_scores
from qrnn.onnx_import.operators.step_attention import attention_layer
from qrnn.onnx_import.operators.step_scores import LEFT, RIGHT, Scores
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import BATCH, TIME, Array, Features

OPERANDS = ("the queries", "the keys", "the values")


def _by_heads(node: Node, k: int, heads: int) -> Features:
    """Return an operand as [N, heads, T, D]: it is that, or [N, T, heads · D]."""
    value = node.features(k, OPERANDS[k])
    if value.axes == (BATCH, None, TIME, None):
        return value
    if value.axes != (BATCH, TIME, None):
        raise node.refuse(f"reads {value.describe()} as {OPERANDS[k]}; expected [N, T, heads · D] or [N, heads, T, D]")
    if heads < 1 or value.ids.shape[-1] % heads:
        raise node.damaged(f"has {heads} heads of {value.ids.shape[-1]} features")
    ids = value.ids.reshape(1, 1, heads, -1)
    return Features(np.swapaxes(ids, 1, 2), (BATCH, None, TIME, None))


@operator("Attention")
def attention(node: Node, build: Builder) -> Features:
    """Import Attention without past keys and values, a cap of the scores, or another output than the first."""
    if build.one_step or any(node.has_input(k) for k in range(4, len(node.inputs))):
        raise node.refuse(
            "reads past keys and values of earlier calls, or how many of them count; re-export for whole sequences, without a cache"
        )
    if node.take("softcap", 0.0) != 0.0:
        raise node.refuse("softcap is not supported; re-export without it")
    node.take("softmax_precision"), node.take("qk_matmul_output_mode")
    own, other = (int(node.take(name, 0)) for name in ("q_num_heads", "kv_num_heads"))
    queries, keys, values = _by_heads(node, 0, own), _by_heads(node, 1, other), _by_heads(node, 2, other)
    heads, shared = queries.ids.shape[1], keys.ids.shape[1]
    if shared != values.ids.shape[1] or heads % shared or queries.ids.shape[-1] != keys.ids.shape[-1]:
        raise node.damaged(
            f"reads {queries.describe()}, {keys.describe()} and {values.describe()}, which do not fit each other"
        )
    node.reserve_features(heads * (keys.ids.shape[-1] + values.ids.shape[-1]))
    keys, values = (Features(x.ids.repeat(heads // shared, axis=1), x.axes) for x in (keys, values))
    scale = float(node.take("scale", queries.ids.shape[-1] ** -0.5))
    causal = ("right", 0) if node.take("is_causal", 0) else None
    scores = Scores((queries, keys), (TIME, TIME), scale, None, RIGHT)
    if node.has_input(3):
        like = Features(queries.ids[..., :1], (BATCH, None, LEFT, RIGHT))
        scores = masked_scores(node, build, scores, like, node.input(3), lambda array: _left(node, array))
    if causal is not None and scores.mask not in (None, causal):
        raise node.refuse("masks later steps and, by another mask, some earlier ones; re-export with one mask")
    scores = replace(scores, mask=causal or scores.mask)
    ids = attention_layer(node, build, scores, queries, keys, values)
    if node.features(0, OPERANDS[0]).ids.ndim == 4:
        return Features(ids.reshape(1, heads, 1, -1), (BATCH, None, TIME, None))
    return Features(ids.reshape(1, 1, -1), (BATCH, TIME, None))


def _left(node: Node, mask: Array) -> Array:
    """Return where a mask leaves the scores: one of conditions where it holds, one of numbers where it adds 0."""
    return mask if mask.dtype == np.bool_ else left_by_numbers(node, mask)


@axis_rule("Attention")
def attention_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the batch and the steps of the queries; the features are those of the values."""
    queries, keys, values = node.inputs[:3]
    for a, b in ((queries, keys), (keys, values)):
        roles.same(a.axes[0], b.axes[0], node.name)
    roles.same(keys.axes[-2], values.axes[-2], node.name)
    if queries.rank == 4:
        return AxisTensor((*queries.axes[:3], values.axes[3]))
    size, own, other = values.axes[2].size, int(node.take("q_num_heads", 1)), int(node.take("kv_num_heads", 1))
    features = None if size is None or other < 1 else size // other * own
    return AxisTensor((*queries.axes[:2], roles.made(features, node.name)))
