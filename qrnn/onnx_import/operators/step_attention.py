"""Attention over the steps of a sequence: a softmax of products of queries and keys at all pairs of steps, times values.

A product for each pair of steps is no tensor of a model. Its features stand for the queries and keys, with the scale and the mask that they
were given since, until a product with values makes a layer of kind attention of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.model.kinds.attention import Attention
from qrnn.model.parts import IndexArray
from qrnn.model.windowed import MOST_ELEMENTS
from qrnn.onnx_import.builder import LARGE_FILL, Builder
from qrnn.onnx_import.expressions import multiple_of, term_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.pair_masks import left_by_numbers, masked_scores
from qrnn.onnx_import.operators.step_scores import LEFT, MOST_STEPS, OVER_STEPS, RIGHT, Scores, scores_of
from qrnn.onnx_import.values import BATCH, TIME, Features, Tensor, is_shape


def product_of_steps(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return the products at all pairs of steps of [.., steps, D] · [.., D, steps]; None where the operands are others."""
    if build.one_step or a.axes[-2] not in OVER_STEPS or b.axes[-1] not in OVER_STEPS:
        return None
    symbols = a.axes[-2], b.axes[-1]
    if a.axes[-1] is not None or b.axes[-2] is not None or a.ids.shape[-1] != b.ids.shape[-2]:
        return None
    assert symbols[0] is not None
    assert symbols[1] is not None
    right = Features(np.swapaxes(b.ids, -1, -2), (*b.axes[:-2], b.axes[-1], None))
    aligned = _aligned(node, a, right)
    if aligned is None or any(symbol in OVER_STEPS for symbol in aligned[0].axes[:-2]):
        raise node.refuse(
            f"multiplies {a.describe()} and {b.describe()} at all pairs of steps; expected the batch and heads of both on the same axes"
        )
    for symbol in symbols:
        if symbol is not TIME and (BATCH in aligned[0].axes or build.baked[BATCH] - {1}):
            raise node.refuse(
                f"multiplies {a.describe()} and {b.describe()} at all pairs of steps of all sequences; re-export with batch and time apart"
            )
    scale = 1.0
    factors = []
    for value in aligned:
        factor, bare = _unscaled(build, value)
        scale *= factor
        factors.append(bare)
    return _pending(node, build, Scores((factors[0], factors[1]), symbols, scale))


def _unscaled(build: Builder, value: Features) -> tuple[float, Features]:
    """Return a number and features whose product a value is: where graphs scale queries or keys, that becomes the scale of the scores."""
    term, factor, offset = multiple_of(term_of(build, value))
    if offset or term.ids is None:
        return 1.0, value
    return factor, Features(term.ids.reshape(value.ids.shape), value.axes)


def _aligned(node: Node, a: Features, b: Features) -> tuple[Features, Features] | None:
    """Return two values [.., steps, F] with the same axes in front; None where these differ."""
    rank = max(a.ids.ndim, b.ids.ndim)
    ids = [value.ids.reshape((1,) * (rank - value.ids.ndim) + value.ids.shape) for value in (a, b)]
    axes = [(None,) * (rank - value.ids.ndim) + value.axes for value in (a, b)]
    if axes[0][:-2] != axes[1][:-2]:
        return None
    try:
        shape = np.broadcast_shapes(ids[0].shape[:-2], ids[1].shape[:-2])
    except ValueError:
        return None
    node.reserve_features(int(np.prod(shape)) * (ids[0].shape[-1] + ids[1].shape[-1]))
    left, right = (np.broadcast_to(x, (*shape, *x.shape[-2:])) for x in ids)
    return Features(left, axes[0]), Features(right, axes[1])


def _pending(node: Node, build: Builder, scores: Scores, like: Features | None = None) -> Features:
    """Return features that stand for products at pairs of steps, in the shape of ``like``."""
    lead = scores.factors[0]
    shape = (*lead.ids.shape[:-2], 1, 1) if like is None else like.ids.shape
    axes = (*lead.axes[:-2], LEFT, RIGHT) if like is None else like.axes
    tensor = build.result(node, int(np.prod(shape)), True, kind="scores")
    build.scores[tensor.start] = scores
    return Features(tensor.ids.reshape(shape), axes)


# --- what a graph does with them before it multiplies values by them ----------------------------------------------------------------------


def through(node: Node, build: Builder) -> Any:
    """Return what a node makes of products at pairs of steps; None for a node that reads none, or only moves their axes."""
    found = [scores_of(build, value) for value in node.inputs]
    place = next((k for k, scores in enumerate(found) if scores is not None), None)
    if place is None:
        return None
    scores, value = found[place], node.inputs[place]
    assert scores is not None
    if node.op == "Softmax":
        return _softmax(node, build, scores, value)
    if node.op in ("Mul", "Div"):
        return _scaled(node, build, scores, value, place)
    if node.op in ("Add", "Sub"):
        return _added(node, build, scores, value, place)
    if node.op == "Where":
        return _chosen(node, build, scores, value, place)
    if node.op == "IsNaN" and scores.over is not None:
        return np.zeros((), np.bool_)  # each step reads itself, so that no sum of weights is 0
    return None


def _softmax(node: Node, build: Builder, scores: Scores, value: Features) -> Features:
    axis = node.axis(int(node.take("axis", 1 if node.opset < 13 else -1)), value.ids.ndim)
    over = value.axes[axis]
    if over not in (LEFT, RIGHT) or scores.over is not None or (node.opset < 13 and axis != value.ids.ndim - 1):
        raise node.refuse(
            f"axis={axis} of {value.describe()}, products at pairs of steps; expected a softmax over the steps of the keys, once"
        )
    return _pending(node, build, replace(scores, over=over), value)


def _scaled(node: Node, build: Builder, scores: Scores, value: Features, place: int) -> Features:
    other = node.input(1 - place)
    if (
        not isinstance(other, np.ndarray)
        or is_shape(other)
        or other.size != 1
        or scores.over is not None
        or (node.op == "Div" and place)
    ):
        raise node.refuse(
            f"multiplies or divides {value.describe()}, products at pairs of steps, by something else than one constant before their softmax; "
            "run this part outside the model"
        )
    if scores.mask is not None:
        raise node.refuse(
            "scales products at pairs of steps behind their mask; re-export with the mask right before the softmax"
        )
    factor = float(other.reshape(-1)[0])
    if node.op == "Div" and factor == 0.0:
        raise node.damaged("divides by 0")
    return _pending(
        node, build, replace(scores, scale=scores.scale * factor if node.op == "Mul" else scores.scale / factor), value
    )


def _added(node: Node, build: Builder, scores: Scores, value: Features, place: int) -> Features:
    other = node.input(1 - place)
    if scores.over is not None or (node.op == "Sub" and place):
        raise node.refuse(
            "adds to a softmax over steps, or subtracts products at pairs of steps; run this part outside the model"
        )
    sign = -1.0 if node.op == "Sub" else 1.0
    return _masked(node, build, scores, value, other, lambda array: left_by_numbers(node, array * sign))


def _chosen(node: Node, build: Builder, scores: Scores, value: Features, place: int) -> Features:
    condition, fill = node.input(0), node.input(3 - place)
    if place == 0 or not isinstance(fill, np.ndarray) or is_shape(fill) or fill.size != 1:
        raise node.refuse(
            "chooses by products at pairs of steps, or between them and something else than one constant; run this part outside the model"
        )
    if isinstance(condition, np.ndarray) and not is_shape(condition) and (condition.astype(bool) == (place == 1)).all():
        return value
    if scores.over is not None or float(fill.reshape(-1)[0]) > -LARGE_FILL:
        raise node.refuse(
            f"fills products at pairs of steps with {float(fill.reshape(-1)[0]):g}; expected -{LARGE_FILL:g} or less, before their softmax"
        )
    return _masked(node, build, scores, value, condition, lambda array: array.astype(bool) == (place == 1))


def _masked(node: Node, build: Builder, scores: Scores, value: Features, mask: Any, allowed: Any) -> Features:
    """Return products with a mask, of which ``allowed`` says where it leaves them."""
    made = masked_scores(node, build, scores, value, mask, allowed)
    return value if made is scores else _pending(node, build, made, value)


# --- the layer ----------------------------------------------------------------------------------------------------------------------------


def attended(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return the product of a softmax of products at pairs of steps and values, [.., Q, K] · [.., K, E]; None where neither is such a softmax.

    Both may be transposed, [.., E, K] · [.., K, Q].
    """
    turned = False
    scores, weights, values = scores_of(build, a), a, b
    if scores is None:
        turned, scores, weights = True, scores_of(build, b), b
        values = Features(np.swapaxes(a.ids, -1, -2), (*a.axes[:-2], a.axes[-1], a.axes[-2]))
    if scores is None:
        return None
    inner = weights.axes[-2 if turned else -1]
    outer = weights.axes[-1 if turned else -2]
    if scores.over is None or inner is not scores.over or outer not in (LEFT, RIGHT):
        raise node.refuse(
            f"multiplies {a.describe()} and {b.describe()}, products at pairs of steps, but not their softmax over the steps of the keys by "
            "values; run this part outside the model"
        )
    if values.ids.ndim < 2 or values.axes[-2] not in OVER_STEPS or values.axes[-1] is not None:
        raise node.refuse(
            f"weighs {values.describe()} by a softmax over steps; expected values at the same steps, and features last"
        )
    queries, keys = scores.factors if scores.over is RIGHT else scores.factors[::-1]
    symbol = scores.symbols[0 if scores.over is RIGHT else 1]
    own = _aligned(node, queries, values)
    same = weights.axes[:-2] == queries.axes[:-2] and weights.ids.shape[:-2] == queries.ids.shape[:-2]
    if own is None or not same or own[0].ids.shape != queries.ids.shape:
        raise node.refuse(
            f"weighs {values.describe()} by a softmax {weights.describe()}; expected the same batch and heads"
        )
    ids = attention_layer(node, build, scores, queries, keys, own[1])
    shape = (*queries.ids.shape[:-2], 1, values.ids.shape[-1])
    result = Features(ids.reshape(shape), (*queries.axes[:-2], symbol, None))
    return Features(np.swapaxes(result.ids, -1, -2), (*result.axes[:-2], None, symbol)) if turned else result


def attention_layer(
    node: Node, build: Builder, scores: Scores, queries: Features, keys: Features, values: Features
) -> IndexArray:
    """Add the layer of queries, keys and values, [.., heads, steps, features] each, and return the ids of its output, [heads · E]."""
    heads = int(np.prod(queries.ids.shape[:-2]))
    size, width = keys.ids.shape[-1], values.ids.shape[-1]
    k, v = keys.ids.reshape(heads, size), values.ids.reshape(heads, width)
    shared = next(
        every for every in range(heads, 0, -1)
        if heads % every == 0 and all(np.array_equal(x[::every].repeat(every, axis=0), x) for x in (k, v))
    )  # fmt: skip
    tensors = [_in_order(node, build, x) for x in (queries.ids, k[::shared], v[::shared])]
    if not all(tensor.has_time for tensor in tensors):
        raise node.refuse("weighs a tensor without a time axis over steps; run this part outside the model")
    kept, windowed = 0, False
    if scores.mask is not None:
        side, window = scores.mask
        if side != ("right" if scores.over is RIGHT else "left"):
            raise node.refuse("lets each step read later steps alone; only masks of earlier steps are supported")
        numbers = heads // shared * (size + width)
        kept, windowed = (window, True) if window else (min(MOST_STEPS, MOST_ELEMENTS // numbers), False)
        if len({build.rule_of(tensor) for tensor in tensors}) > 1:
            raise node.refuse(
                "masks later steps of a sequence that has other steps than the queries; re-export both at one rate"
            )
        if kept < 1 or kept * numbers > MOST_ELEMENTS:
            raise node.refuse(f"reads {kept} steps of {numbers} keys and values, more than {MOST_ELEMENTS} numbers")
        if not windowed:
            build.notes.append(
                f"{node.where}: each step reads all earlier ones, of which {kept} are kept; a sequence of more is refused"
            )
    elif build.rule_of(tensors[1]) != build.rule_of(tensors[2]):
        raise node.refuse(
            "weighs values by a softmax over other steps than theirs; expected keys and values of the same steps"
        )
    output = build.result(node, heads * width, True)
    q, key, val = (tensor.name for tensor in tensors)
    build.layers.append(
        Attention(
            node.name, q, key, val, output.name, heads, heads // shared, size, width, scores.scale, kept, windowed
        )
    )
    return output.ids


def _in_order(node: Node, build: Builder, ids: Any) -> Tensor:
    """Return a tensor of exactly these features, row-major."""
    tensor, indices = build.operand(node, Features(ids.reshape(-1), (None,)))
    if tensor.features == indices.size and np.array_equal(indices, np.arange(indices.size)):
        return tensor
    return build.gathered(node, indices + tensor.start)[0]
