"""Attention over the steps of a sequence: Attention by products, and MultiHeadAttention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.dense import product
from qrnn.keras_import.registry import Call, layer, refuse_lost_mask
from qrnn.keras_import.tensors import Value

MASKED = -1e9
"""What is added to the score of a later step."""


def _operands(call: Call) -> tuple[Value, Value, Value]:
    """Return query, value and key; the key is the value where none is given."""
    values = [*call.inputs, *(call.arguments[name] for name in ("query", "value", "key") if name in call.arguments)]
    if not 2 <= len(values) <= 3 or any(x.rank != 3 for x in values):
        call.settings.refuse(
            f"it is called with {', '.join(x.text() for x in values)}; expected two or three values [N, T, features]"
        )
    return values[0], values[1], values[2] if len(values) == 3 else values[1]


def _check_masks(graph: Graph, call: Call, query: Value, value: Value, key: Value) -> None:
    """Refuse masks that differ: padded keys take no part where queries and keys have one mask, as lengths have it."""
    for x in (query, value, key):
        graph.mixes_steps(x)
    if len({x.mask for x in (query, value, key)}) > 1 and query.sources & (value.sources | key.sources):
        refuse_lost_mask(call, next(x for x in (query, value, key) if x.mask is not None))


def _weighed(graph: Graph, call: Call, query: Value, key: Value, scores: str, causal: bool) -> str:
    """Return the softmax of scores [.., T, T'], without later steps where attention is causal."""
    if causal:
        steps = key.shape[1]
        if steps is None:
            length = graph.op("Slice", [graph.op("Shape", [key.name]), graph.ints(1), graph.ints(2)])
            square = graph.op("Expand", [graph.number(1.0), graph.op("Concat", [length, length], axis=0)])
            lower = graph.op("Trilu", [square], upper=0)
            fill = graph.op("Mul", [graph.op("Sub", [graph.number(1.0), lower]), graph.number(MASKED)])
        else:
            fill = graph.constant(np.triu(np.full((steps, steps), MASKED), 1), "later")
        scores = graph.op("Add", [scores, fill])
    return graph.op("Softmax", [scores], axis=-1)


@layer("Attention", keeps_mask=True)
def attention(graph: Graph, call: Call) -> Sequence[Value]:
    """Write softmax(query · keyᵀ) · value."""
    call.only("use_causal_mask", "return_attention_scores")
    query, value, key = _operands(call)
    _check_masks(graph, call, query, value, key)
    settings = call.settings
    if settings.choice("score_mode", ("dot",), "dot") and call.argument("return_attention_scores"):
        settings.refuse("return_attention_scores=True is not supported; take the result alone")
    scaled = settings.flag("use_scale", False)
    causal = bool(call.argument("use_causal_mask")) or settings.flag("causal", False)
    scores = graph.op("MatMul", [query.name, graph.transpose(key, [0, 2, 1]).name])
    if scaled:
        (scale,) = call.weights.take(call.layer.where, [("scale", ())])
        scores = graph.op("Mul", [scores, graph.number(float(scale))])
    weights = _weighed(graph, call, query, key, scores, causal)
    return [
        Value(graph.op("MatMul", [weights, value.name]), (*query.shape[:2], value.features), query.mask, query.sources)
    ]


@layer("MultiHeadAttention", keeps_mask=True)
def multi_head_attention(graph: Graph, call: Call) -> Sequence[Value]:
    """Write attention of several heads, each with its own projections of query, key and value."""
    call.only("use_causal_mask", "return_attention_scores", "query", "value", "key")
    query, value, key = _operands(call)
    _check_masks(graph, call, query, value, key)
    settings = call.settings
    if call.argument("return_attention_scores"):
        settings.refuse("return_attention_scores=True is not supported; take the result alone")
    if settings.take("use_gate", False) or settings.take("sliding_window") is not None:
        settings.refuse("use_gate and sliding_window are not supported; save the model without them")
    for name in ("output_shape", "flash_attention", "query_shape", "key_shape", "value_shape", "build_config"):
        if settings.take(name) is not None and name == "output_shape":
            settings.refuse("output_shape is not supported; put Dense behind it")
    axes = settings.take("attention_axes")
    if axes not in (None, [1], 1):
        settings.refuse(f"attention_axes={axes!r} is not supported; expected the axis of steps")
    heads, size = settings.size("num_heads"), settings.size("key_dim")
    deep = settings.take("value_dim")
    deep = size if deep is None else deep
    if type(deep) is not int or deep < 1:
        settings.damaged(f"value_dim={deep!r}, expected a whole number of at least 1")
    bias = settings.flag("use_bias", True)

    def projected(x: Value, path: str, name: str, each: int) -> Value:
        own = call.weights.child(path, name)
        wanted = [("kernel", (int(x.features or 0), heads, each)), *([("bias", (heads, each))] if bias else [])]
        kernel, *biases = own.take(f"{call.layer.where}: {name}", wanted)
        made = product(
            graph, x, kernel.reshape(-1, heads * each), biases[0].reshape(-1) if biases else None, heads * each
        )
        return graph.transpose(graph.reshape(made, [0, 0, heads, each], (None, x.shape[1], heads, each)), [0, 2, 1, 3])

    q = projected(query, "query_dense", "query", size)
    k = projected(key, "key_dense", "key", size)
    v = projected(value, "value_dense", "value", deep)
    scores = graph.op("MatMul", [q.name, graph.transpose(k, [0, 1, 3, 2]).name])
    scores = graph.op("Mul", [scores, graph.number(1 / math.sqrt(size))])
    weights = _weighed(graph, call, query, key, scores, bool(call.argument("use_causal_mask")))
    mixed = Value(graph.op("MatMul", [weights, v.name]), (None, heads, query.shape[1], deep), query.mask, query.sources)
    flat = graph.reshape(
        graph.transpose(mixed, [0, 2, 1, 3]), [0, 0, heads * deep], (None, query.shape[1], heads * deep)
    )
    features = int(query.features or 0)
    wanted = [("kernel", (heads, deep, features)), *([("bias", (features,))] if bias else [])]
    kernel, *biases = call.weights.child("output_dense", "attention_output").take(call.layer.where, wanted)
    return [product(graph, flat, kernel.reshape(-1, features), biases[0] if biases else None, features)]
