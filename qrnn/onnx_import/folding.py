"""Channels in groups, put together with time and other axes: [N, C, T, …] reshaped to [N, G, …], as exporters write group normalization.

What such a value holds is known by the value before it. InstanceNormalization may read it, and Reshape gives the first shape again.
"""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.fixed_sizes import align
from qrnn.onnx_import.lengths import as_axes
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.roles import Axis
from qrnn.onnx_import.values import BATCH, TIME, Dim, Features, Symbol


def folded(node: Node, build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return [N, G, …] of a value [N, C, …] over time, for a target that puts groups of channels together with all axes behind; else None."""
    if build.one_step or len(target) != 3 or value.ids.ndim < 3 or node.output_names[0] not in build.normalized:
        return None
    batch = target[0] is BATCH or target[0] in build.sizes(value).get(BATCH, set())
    groups = target[1]
    if not batch or isinstance(groups, Symbol) or groups < 1 or value.axes[:2] != (BATCH, None):
        return None
    last = target[2]
    if value.ids.shape[1] % int(groups) or TIME not in value.axes[2:]:
        return None
    each = value.ids.size // int(groups)
    if last != -1 and last not in {each * steps for steps in build.sizes(value).get(TIME, set())}:
        return None
    return _held(node, build, value, int(groups))


def folds(target: Sequence[Dim], axes: Sequence[Axis]) -> bool:
    """Return whether a target may be [N, G, …] of axes [N, C, …], in the first pass."""
    if len(target) != 3 or len(axes) < 3 or isinstance(target[1], Symbol) or target[1] < 1:
        return False
    channels = axes[1].size
    return (
        (target[0] is axes[0] or target[0] == axes[0].size) and channels is not None and channels % int(target[1]) == 0
    )


def is_shape_of(target: Sequence[Dim], axes: Sequence[Axis]) -> bool:
    """Return whether a target is the shape of these axes, in the first pass."""
    same = len(target) == len(axes)
    return same and all(
        d is axis or (axis.size is not None and d == axis.size) for d, axis in zip(target, axes, strict=True)
    )


def _held(node: Node, build: Builder, value: Features, groups: int) -> Features:
    tensor = build.new_tensor(f"{node.name}.folded", True, groups, True, "folded")
    build.folded[tensor.start] = value
    return Features(tensor.ids.reshape(1, groups, 1), (BATCH, None, TIME))


def folded_value(build: Builder, value: Features) -> Features | None:
    """Return what groups of channels were put together of; None for a value that is no such."""
    found: Features | None = build.folded.get(int(value.ids.reshape(-1)[0])) if value.ids.size else None
    return found


def refolded(node: Node, build: Builder, value: Features, whole: Features) -> Features:
    """Return what an operator makes of ``value``, groups put together, where it makes ``whole`` of what they were put together of."""
    return _held(node, build, whole, value.ids.size)


def unfolded(build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return what groups were put together of, where a target is its shape; None for anything else."""
    whole = folded_value(build, value)
    if whole is None:
        return None
    wanted = as_axes(list(target), build.length_rule(whole))
    return whole if align(whole.shape, wanted, build.sizes(whole)) == list(whole.shape) else None
