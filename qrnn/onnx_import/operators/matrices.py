"""Products of two computed matrices, and softmax over an inner axis: attention within a step, over its bands or heads."""

from __future__ import annotations

import numpy as np

from qrnn.model.kinds.group_softmax import GroupSoftmax
from qrnn.model.kinds.matmul import MOST_PRODUCTS, MatMul
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.attention import product_over_time
from qrnn.onnx_import.operators.step_attention import attended, product_of_steps
from qrnn.onnx_import.operators.two_tensors import broadcast
from qrnn.onnx_import.steps import repeated
from qrnn.onnx_import.values import TIME, Features, Tensor


def softmax_of_groups(node: Node, build: Builder, value: Features, axis: int) -> Features:
    """Return the softmax over one feature axis of several."""
    moved = np.moveaxis(value.ids, axis, -1)
    size = moved.shape[-1]
    tensor = _in_order(node, build, moved)
    output = build.result(node, moved.size, tensor.has_time)
    build.layers.append(GroupSoftmax(node.name, tensor.name, output.name, moved.size // size))
    return Features(np.moveaxis(output.ids.reshape(moved.shape), -1, axis), value.axes)


def product_of_two(node: Node, build: Builder, a: Features, b: Features) -> Features:
    """Return the product of two computed matrices, [.., M, K] · [.., K, P]: within a step, or of a softmax over time and values."""
    if (weighted := product_over_time(node, build, a, b)) is not None:
        return weighted
    if (weighted := attended(node, build, a, b)) is not None:
        return weighted
    shapes = f"multiplies {a.describe()} and {b.describe()}"
    if min(a.ids.ndim, b.ids.ndim) < 2:
        raise node.refuse(f"{shapes}; only matrices can be multiplied, re-export with two axes at least")
    if (pairs := product_of_steps(node, build, a, b)) is not None:
        return pairs
    if TIME in (a.axes[-2], b.axes[-1]) and not build.one_step:
        if (scores := _of_vector(node, build, a, b)) is not None:
            return scores
        raise node.refuse(
            f"{shapes}: the steps of a sequence by something that is neither another one nor a vector of each sequence"
        )
    if any(axis is not None for axis in (*a.axes[-2:], *b.axes[-2:])) or a.ids.shape[-1] != b.ids.shape[-2]:
        raise node.refuse(
            f"{shapes}; of two computed matrices only those within a step, or a softmax over time and values at the same steps, can be "
            "multiplied"
        )
    rows, inner, columns = a.ids.shape[-2], a.ids.shape[-1], b.ids.shape[-1]
    lead = broadcast(node, build, _lead(a), _lead(b))
    if lead is None:
        raise node.refuse(f"{shapes}; expected the batch and time of both on the same axes")
    shape = lead[0].ids.shape
    groups = int(np.prod(shape))
    if groups * rows * inner * columns > MOST_PRODUCTS:
        raise node.refuse(f"{shapes}: more than {MOST_PRODUCTS} products in a step")
    node.reserve_features(groups * inner * (rows + columns) + groups * rows * columns)
    left = _in_order(node, build, np.broadcast_to(a.ids, (*shape, rows, inner)))
    right = _in_order(node, build, np.broadcast_to(b.ids, (*shape, inner, columns)))
    if left.has_time != right.has_time:
        raise node.refuse(f"{shapes}, one with a time axis and one without; run this part outside the model")
    output = build.result(node, groups * rows * columns, left.has_time)
    build.layers.append(MatMul(node.name, left.name, right.name, output.name, groups, rows, inner, columns))
    return Features(output.ids.reshape(*shape, rows, columns), (*lead[0].axes, None, None))


def _of_vector(node: Node, build: Builder, a: Features, b: Features) -> Features | None:
    """Return products of each step of a sequence and vectors without time, [.., M, D] · [.., D, T] or [.., T, D] · [.., D, M]; else None."""
    turned = a.axes[-2] is TIME
    steps, vectors = (a, _turned(b)) if turned else (_turned(b), a)
    if TIME in vectors.axes or steps.axes[-1] is not None or set(vectors.axes[-2:]) != {None}:
        return None
    if steps.axes[-2] is not TIME or steps.ids.shape[-1] != vectors.ids.shape[-1]:
        return None
    count, size = vectors.ids.shape[-2:]
    lead = broadcast(node, build, _lead(steps), _lead(vectors))
    if lead is None:
        return None
    shape, axes = lead[0].ids.shape, lead[0].axes
    groups = int(np.prod(shape))
    if groups * count * size > MOST_PRODUCTS:
        raise node.refuse(f"multiplies {a.describe()} and {b.describe()}: more than {MOST_PRODUCTS} products in a step")
    node.reserve_features(groups * size * (count + 1) + groups * count)
    ids = np.broadcast_to(vectors.ids, (*shape, count, size))
    rule = build.length_rule(steps)
    held = repeated(node, build, Features(ids[..., None, :, :], (*axes, None, None, None)), len(shape), rule)
    left = _in_order(node, build, held.ids)
    right = _in_order(node, build, np.broadcast_to(steps.ids[..., 0, :], (*shape, size)))
    output = build.result(node, groups * count, True)
    build.layers.append(MatMul(node.name, left.name, right.name, output.name, groups, count, size, 1))
    if turned:
        return Features(output.ids.reshape(*shape, 1, count), (*axes, TIME, None))
    return Features(output.ids.reshape(*shape, count, 1), (*axes, None, TIME))


def _turned(value: Features) -> Features:
    """Return a value with its last two axes exchanged."""
    return Features(np.swapaxes(value.ids, -1, -2), (*value.axes[:-2], value.axes[-1], value.axes[-2]))


def einsum_of_two(node: Node, build: Builder, a: Features, b: Features, texts: list[str], result: str) -> Features:
    """Return an Einsum of two computed tensors as a product of matrices, where each has at most one axis of its own."""
    own, other = texts
    both = [letter for letter in result if letter in own and letter in other]
    inner = [letter for letter in own if letter in other and letter not in result]
    free = [[letter for letter in text if letter not in both and letter not in inner] for text in texts]
    once = all(len(set(text)) == len(text) for text in texts)
    if (
        not once
        or any(len(letters) > 1 for letters in free)
        or any(x not in result for letters in free for x in letters)
        or not inner
    ):
        raise node.refuse(
            f"multiplies {a.describe()} and {b.describe()} by '{own},{other}->{result}'; of two computed tensors only products of matrices are "
            "supported, with one axis of its own in each"
        )

    def placed(value: Features, text: str, order: list[str]) -> Features:
        places = [text.index(letter) for letter in order]
        return Features(value.ids.transpose(places), tuple(value.axes[k] for k in places))

    def as_matrix(value: Features, text: str, letters: list[str], last: bool) -> Features:
        moved = placed(value, text, [*both, *letters, *inner])
        axes, sizes = moved.axes[len(both) :], moved.ids.shape[len(both) :]
        outer = (axes[0], sizes[0]) if letters else (None, 1)
        tail = axes[len(letters) :]
        if len(tail) > 1 and set(tail) != {None}:
            raise node.refuse(f"sums over several axes of {value.describe()}, of which one is no axis of features")
        size = int(np.prod(sizes[len(letters) :]))
        ids = moved.ids.reshape(*moved.ids.shape[: len(both)], outer[1], size)
        made = Features(ids, (*moved.axes[: len(both)], outer[0], tail[0]))
        return _turned(made) if last else made

    left, right = as_matrix(a, own, free[0], False), as_matrix(b, other, free[1], True)
    product = product_of_two(node, build, left, right)
    letters = [*both, *(free[0] or "1"), *(free[1] or "2")]
    kept = [k for k, letter in enumerate(letters) if letter in result]
    ids = product.ids.reshape([product.ids.shape[k] for k in kept])
    made = Features(ids, tuple(product.axes[k] for k in kept))
    return placed(made, "".join(letters[k] for k in kept), list(result))


def _lead(value: Features) -> Features:
    """Return the axes of a value before those of its matrices, with an id of each matrix."""
    return Features(value.ids[..., 0, 0], value.axes[:-2])


def _in_order(node: Node, build: Builder, ids: IndexArray) -> Tensor:
    """Return a tensor of exactly these features, row-major."""
    tensor, indices = build.operand(node, Features(ids.reshape(-1), (None,)))
    if tensor.features == indices.size and np.array_equal(indices, np.arange(indices.size)):
        return tensor
    return build.gathered(node, indices + tensor.start)[0]
