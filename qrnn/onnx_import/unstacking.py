"""Several steps for each step: phases of a transposed convolution over time, and steps that are repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.model.kinds.unstack import Unstack
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.fixed_sizes import align
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import TIME, Dim, Features, Product, Symbol, product


def unstacked(node: Node, build: Builder, steps: Sequence[Features], cut: int = 0) -> Features:
    """Return values of the same axes over time one after the other at each step, without the last ``cut`` steps of a sequence."""
    first, count = steps[0], len(steps)
    if build.one_step:
        raise node.refuse(
            f"gives {count} steps for one in a graph of one step per call; re-export with a dynamic time axis"
        )
    if node.backwards:
        raise node.refuse(f"gives {count} steps for one of steps that are in reverse; reverse them back before")
    if count > LARGEST_WINDOW:
        raise node.refuse(f"gives {count} steps for one; at most {LARGEST_WINDOW} are supported")
    node.reserve_features(count * first.ids.size)
    flat = build.computable(node, np.stack([step.ids.reshape(-1) for step in steps]))
    each = flat.reshape(count, -1)
    # a feature whose steps are zeros beside features is read from a copy that has the zeros
    tensor, indices = build.operand(node, Features(each, (None, None)))
    if not tensor.has_time:
        raise node.refuse(f"gives several steps for one of '{tensor.name}', which has no time axis")
    output = build.new_tensor(f"{node.name}.unstacked", True, each.shape[1], True, "layer")
    node.reserve(2 * indices.size)
    build.layers.append(Unstack(f"{node.name}/unstack", tensor.name, output.name, indices.reshape(count, -1), cut))
    return Features(output.ids.reshape(first.ids.shape), first.axes)


def unstacked_as(node: Node, build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return a value whose time axis a target merges with features behind it, as steps of their own; None for another target.

    [N, C, T, s] becomes [N, C, s · T], and [N, T, s · C] becomes [N, s · T, C].
    """
    if build.one_step or value.axes.count(TIME) != 1:
        return None
    axis = value.axes.index(TIME)
    inner = value.ids.shape[axis + 1 :]
    if any(symbol is not None for symbol in value.axes[axis + 1 :]):
        return None
    for place, wanted in enumerate(target):
        behind = list(target[place + 1 :])
        if any(isinstance(size, Symbol) or size < 1 for size in behind):
            continue
        kept = product(behind)
        count, left = divmod(product(inner), kept)
        before = align(value.shape[:axis], list(target[:place]), build.sizes(value))
        if left or count < 2 or before is None or not _is_times(build, value, wanted, count):
            continue
        lead = [1 if isinstance(size, Symbol) else size for size in before]
        axes = (*(size if isinstance(size, Symbol) else None for size in before), TIME, *(None for _ in behind))
        node.reserve_features(value.ids.size)
        by_step = value.ids.reshape(*value.ids.shape[:axis], count, kept)
        shape = [*lead, 1, *(int(size) for size in behind if not isinstance(size, Symbol))]
        return unstacked(node, build, [Features(by_step[..., r, :].reshape(shape), axes) for r in range(count)])
    return None


def _is_times(build: Builder, value: Features, size: Dim, count: int) -> bool:
    """Return whether a size of a target is ``count`` times the steps of a value, or is left to be found."""
    rule = build.length_rule(value)
    if isinstance(size, Product):
        return len(size.factors) == 1 and size.count == count and rule_of(size.factors[0]) == rule
    if isinstance(size, Symbol):
        return rule_of(size) == rule.times(count)
    return size == -1
