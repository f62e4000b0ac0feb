"""Attention pooling over time: a softmax of scores over all steps of a sequence, times values, summed over these steps.

A softmax over time is known only at the end of a sequence, so no layer computes it. Its features stand for scores, and their product with
values for pairs of a score and a value, until a sum over time makes a layer of kind attention pool of them, and its last step. The product and
the sum may be one MatMul.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import LARGE_FILL, Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.two_tensors import broadcast
from qrnn.onnx_import.values import BATCH, MERGED, TIME, Features, TimeWeights


class Pairs(NamedTuple):
    """The scores of features that stand for weights over time, and the values that they are multiplied by, if they are; ids, row-major."""

    scores: IndexArray
    values: IndexArray | None


def softmax_over_time(node: Node, build: Builder, value: Features) -> Features:
    """Return features that stand for the softmax of scores over the time axis of ``value``."""
    fill = build.fill_of(value)
    if fill is not None and fill > -LARGE_FILL:
        raise node.refuse(
            f"is a softmax over all steps, of which a mask set those behind each sequence to {fill:g}; expected -{LARGE_FILL:g} or less, which "
            "leaves them out"
        )
    scores = build.computable(node, value.ids)
    return _pending(node, build, TimeWeights(scores, None), value.ids.shape, value.axes)


def as_one_sequence(build: Builder, value: Features) -> Features:
    """Return a value with time as its axis of steps, where it is one with a batch that the file declares as 1, and has no batch axis."""
    if BATCH in value.axes or build.baked[BATCH] != {1} or sum(axis in MERGED for axis in value.axes) != 1:
        return value
    return Features(value.ids, tuple(TIME if axis in MERGED else axis for axis in value.axes))


def pairs_of(build: Builder, value: Features) -> Pairs | None:
    """Return what features stand for that are weights over time, with values or without; None where one of them is anything else."""
    flat = value.ids.reshape(-1)
    scores, values = np.empty_like(flat), np.empty_like(flat)
    with_values = set()
    for part in build.book.parts(flat):
        found = build.time_weights.get(part.tensor.start)
        if found is None:
            return None
        scores[part.positions] = found.scores[part.indices]
        if found.values is not None:
            values[part.positions] = found.values[part.indices]
        with_values.add(found.values is not None)
    if len(with_values) != 1:
        return None
    return Pairs(scores, values if with_values.pop() else None)


def weighted_values(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return features that stand for the product of weights over time and values at the same steps; None where neither is such weights."""
    for weights, values in ((a, b), (b, a)):
        found = pairs_of(build, weights)
        if found is None or found.values is not None:
            continue
        aligned = broadcast(node, build, weights, values)
        if aligned is None:
            raise node.refuse(
                f"multiplies a softmax over time {weights.describe()} and {values.describe()}; only values with the same batch and time "
                "axes, and with features of the same shape or of size 1, can be weighted"
            )
        pairs = _aligned(node, build, *aligned)
        return _pending(node, build, pairs, aligned[0].ids.shape, aligned[0].axes)
    return None


def pooled(node: Node, build: Builder, value: Features) -> Features | None:
    """Return the sum over time of weighted values, without a TIME axis; None where ``value`` is anything else."""
    found = pairs_of(build, value)
    if found is None or found.values is None:
        return None
    return _pool(node, build, found.scores, found.values, value)


def product_over_time(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return the product of two matrices, [.., M, T] · [.., T, P], of which one holds weights over time and the other values; else None."""
    a, b = as_one_sequence(build, a), as_one_sequence(build, b)
    if min(a.ids.ndim, b.ids.ndim) < 2 or a.axes[-1] is not TIME or b.axes[-2] is not TIME:
        return None
    rows = Features(a.ids, (*a.axes[:-1], None))
    columns = Features(b.ids, (*b.axes[:-2], None, b.axes[-1]))
    aligned = broadcast(node, build, rows, columns)
    if aligned is None:
        return None
    for weights, values in (aligned, aligned[::-1]):
        found = pairs_of(build, weights)
        if found is not None and found.values is None:
            pairs = _aligned(node, build, weights, values)
            assert pairs.values is not None
            return _pool(node, build, pairs.scores, pairs.values, weights)
    return None


def _aligned(node: Node, build: Builder, weights: Features, values: Features) -> TimeWeights:
    """Return the scores and the values of two values of one shape."""
    found = pairs_of(build, weights)
    assert found is not None
    return TimeWeights(found.scores, build.computable(node, values.ids))


def _pending(
    node: Node, build: Builder, pairs: TimeWeights, shape: tuple[int, ...], axes: tuple[object | None, ...]
) -> Features:
    tensor = build.result(node, pairs.scores.size, True, kind="weights")
    build.time_weights[tensor.start] = pairs
    return Features(tensor.ids.reshape(shape), axes)  # type: ignore[arg-type]


def _pool(node: Node, build: Builder, scores: IndexArray, values: IndexArray, like: Features) -> Features:
    """Add the layer that pools ``values`` by ``scores``, and return its last step in the shape of ``like``."""
    left, left_index = build.operand(node, Features(scores, (None,)))
    right, right_index = build.operand(node, Features(values, (None,)))
    for tensor in (left, right):
        if not tensor.has_time:
            raise node.refuse(
                f"weighs '{tensor.name}' over time, which has no time axis; run this part outside the model"
            )
    used, order = np.unique(left_index, return_inverse=True)
    if used.size < left.features:  # each feature of the scores would have a state
        left, places = build.gathered(node, used + left.start)
        left_index = places[order.reshape(-1)]
    output = build.result(node, scores.size, True, part=".running")
    build.layers.append(AttentionPool(node.name, left.name, right.name, output.name, left_index, right_index))
    ids = output.ids.reshape(like.ids.shape)
    return build.last_step(node, Features(ids, like.axes))
