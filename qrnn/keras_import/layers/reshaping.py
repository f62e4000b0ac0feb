"""Layers that move, repeat, cut and pad elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.convolution import channels_are_last
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.tensors import Value, times


@layer("Flatten")
def flatten(graph: Graph, call: Call) -> Sequence[Value]:
    """Write all elements of a sequence side by side."""
    call.only()
    x = call.x
    if not channels_are_last(call.settings) and x.rank > 2:
        x = graph.transpose(x, [0, *range(2, x.rank), 1])
    if x.rank == 2:
        return [x]
    if x.sources:
        graph.mixes_steps(x)
    y = graph.reshape(x, [0, -1], (None, times(x.shape[1:])))
    return [Value(y.name, y.shape)]


@layer("Reshape")
def reshape(graph: Graph, call: Call) -> Sequence[Value]:
    """Write elements in another shape; the first axis stays that of steps where its size stays."""
    call.only()
    x, target = call.x, call.settings.take("target_shape")
    if not isinstance(target, (list, tuple)) or any(
        isinstance(k, bool) or not isinstance(k, int) or k < -1 for k in target
    ):
        call.settings.damaged(f"target_shape={target!r:.60}, expected sizes")
    sizes = list(target)
    known, total = times([k for k in sizes if k != -1]) or 1, times(x.shape[1:])
    if (
        sizes.count(-1) > 1
        or 0 in sizes
        or (total is not None and (total % known or (-1 not in sizes and total != known)))
    ):
        call.settings.damaged(f"target_shape={target!r:.60} does not fit {x.text()}")
    shape: list[int | None] = [
        total // known if k == -1 and total is not None else (None if k == -1 else k) for k in sizes
    ]
    written = list(sizes)
    same_steps = bool(x.shape[1:]) and bool(sizes) and times(x.shape[2:]) is not None
    if same_steps and (times(x.shape[2:]) or 1) == (times(shape[1:]) if None not in shape[1:] else -1):
        written[0], shape[0] = 0, x.shape[1]
    elif x.sources:
        graph.mixes_steps(x)
    return [graph.reshape(x, [0, *written], (None, *shape))]


@layer("Permute")
def permute(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the axes behind the batch in another order."""
    call.only()
    x, dims = call.x, call.settings.take("dims")
    if not isinstance(dims, (list, tuple)) or sorted(map(str, dims)) != sorted(map(str, range(1, x.rank))):
        call.settings.damaged(f"dims={dims!r:.60}, expected the axes 1 to {x.rank - 1} in some order")
    return [graph.transpose(x, [0, *dims])]


@layer("RepeatVector")
def repeat_vector(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a vector at each of n steps."""
    call.only()
    x, count = call.x, call.settings.size("n")
    if x.rank != 2:
        call.settings.damaged(f"it reads {x.text()}, expected [N, features]")
    wide = graph.op("Unsqueeze", [x.name, graph.ints(1)])
    return [Value(graph.op("Tile", [wide, graph.ints(1, count, 1)]), (None, count, x.features))]


def _both_ends(call: Call, key: str, axes: int) -> list[tuple[int, int]]:
    """Return how much a setting says for the begin and the end of each axis."""
    value: Any = call.settings.take(key, 1)
    if isinstance(value, int):
        value = [[value, value]] * axes
    elif axes == 1 and isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
        value = [value]
    pairs = [[v, v] if isinstance(v, int) else v for v in value] if isinstance(value, (list, tuple)) else []
    fits = all(
        isinstance(p, (list, tuple)) and len(p) == 2 and all(type(v) is int and 0 <= v < 1 << 20 for v in p)
        for p in pairs
    )
    if len(pairs) != axes or not fits:
        call.settings.damaged(f"{key}={value!r:.60}, expected numbers of steps")
    return [(p[0], p[1]) for p in pairs]


@layer("ZeroPadding1D", "ZeroPadding2D")
def zero_padding(graph: Graph, call: Call) -> Sequence[Value]:
    """Write zeros before and behind."""
    call.only()
    axes = 2 if "2D" in call.layer.kind else 1
    x, ends = call.x, _both_ends(call, "padding", axes)
    first = 1 if channels_are_last(call.settings) else 2
    before, behind, shape = [0] * x.rank, [0] * x.rank, list(x.shape)
    for k, (left, right) in enumerate(ends, first):
        before[k], behind[k] = left, right
        size = shape[k]
        shape[k] = None if size is None else size + left + right
    graph.mixes_steps(x)
    return [graph.apply("Pad", x, graph.ints(*before, *behind), shape=tuple(shape), mode="constant")]


@layer("Cropping1D", "Cropping2D")
def cropping(graph: Graph, call: Call) -> Sequence[Value]:
    """Write what is left without some steps at both ends."""
    call.only()
    axes = 2 if "2D" in call.layer.kind else 1
    x, ends = call.x, _both_ends(call, "cropping", axes)
    first = 1 if channels_are_last(call.settings) else 2
    graph.mixes_steps(x)
    for k, (left, right) in enumerate(ends, first):
        x = sliced(graph, x, k, left, -right or None)
    return [x]


def sliced(graph: Graph, x: Value, axis: int, start: int | None, stop: int | None, step: int = 1) -> Value:
    """Return a slice of an axis; ``stop`` of None is its end."""
    if not start and stop is None and step == 1:
        return x
    size = x.shape[axis]
    length = None if size is None else len(range(size)[slice(start, stop, step)])
    ends = [
        start if start is not None else (0 if step > 0 else (1 << 62)),
        stop if stop is not None else (1 << 62) * (1 if step > 0 else -1),
    ]
    operands = [graph.ints(ends[0]), graph.ints(ends[1]), graph.ints(axis), graph.ints(step)]
    return graph.apply("Slice", x, *operands, shape=tuple(length if k == axis else s for k, s in enumerate(x.shape)))


@layer("UpSampling1D", "UpSampling2D")
def up_sampling(graph: Graph, call: Call) -> Sequence[Value]:
    """Write every step, row or column several times."""
    call.only()
    axes = 2 if "2D" in call.layer.kind else 1
    x = call.x
    last = channels_are_last(call.settings)
    factors = call.settings.sizes("size", axes, 2)
    call.settings.choice("interpolation", ("nearest",), "nearest")
    graph.mixes_steps(x)
    moved = graph.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)]) if last else x
    shape = (
        None,
        moved.shape[1],
        *(None if s is None else s * f for s, f in zip(moved.shape[2:], factors, strict=True)),
    )
    scales = graph.constant([1.0, 1.0, *map(float, factors)], "scales")
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = graph.apply("Resize", moved, "", scales, shape=shape, **attributes)
    return [graph.transpose(y, [0, *range(2, y.rank), 1]) if last else y]
