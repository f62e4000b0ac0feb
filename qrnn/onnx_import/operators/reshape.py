"""Reshape and Flatten: features regroup freely, batch and time stay axes of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.model.time import Axis as AxisRule
from qrnn.onnx_import.axis_groups import carried_groups
from qrnn.onnx_import.banding import is_banded, regrouped
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.fixed_sizes import ALIGN_WORK, align, aligned_by_fixed_size
from qrnn.onnx_import.folding import folded, folds, is_shape_of, unfolded
from qrnn.onnx_import.lengths import as_axes, rule_of
from qrnn.onnx_import.merging import (
    carried_merge,
    carried_split,
    merged,
    merged_axis,
    mixes_sequences,
    product_of,
    split,
)
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.shapes import known_sizes, sizes_of
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.steps import stacked, unrolled
from qrnn.onnx_import.unstacking import unstacked_as
from qrnn.onnx_import.values import (
    BATCH,
    MERGED,
    MOST_AXES,
    TIME,
    Array,
    Dim,
    Features,
    Product,
    Symbol,
    Value,
    is_shape,
    product,
)


def _target(node: Node, dims: Sequence[Dim]) -> list[Dim]:
    """Return the target shape with 0 replaced by the size that it copies."""
    target = node.input(1)
    if target is None and not node.has_input(1):
        target = np.asarray(node.take("shape", []), dtype=np.int64)
    if not isinstance(target, np.ndarray) or target.ndim != 1:
        raise node.refuse(
            "its target shape is not a list of sizes known to the graph; re-export with a fixed target shape"
        )
    if target.size > MOST_AXES:
        raise node.damaged(f"its target shape has {target.size} axes, at most {MOST_AXES} are supported")
    allow_zero = node.take("allowzero", 0)
    result: list[Dim] = []
    for k, wanted in enumerate(target):
        if isinstance(wanted, Symbol):
            result.append(wanted)
        elif wanted == 0:
            if allow_zero:
                raise node.refuse("allowzero=1 with a target size of 0 is not supported; re-export without empty axes")
            if k >= len(dims):
                raise node.damaged(f"target {list(target)} copies axis {k} of a value of {len(dims)} axes")
            result.append(dims[k])
        elif wanted < -1:
            raise node.damaged(f"target {list(target)} holds the size {wanted}")
        else:
            result.append(int(wanted))
    if sum(1 for d in result if not isinstance(d, Symbol) and d == -1) > 1:
        raise node.damaged(f"target {list(target)} holds more than one -1")
    return result


def reshape_features(node: Node, build: Builder, value: Features, target: list[Dim]) -> Features:
    """Reshape computed features; refuse a target that merges or splits the batch or time axis, but for both to one and back."""
    if len(target) > 12:
        raise node.refuse(f"reshapes to {len(target)} axes; at most 12 are supported")
    node.budget.spend(node.where, ALIGN_WORK * len(target) ** 2)
    given = target
    if (whole := unfolded(build, value, target)) is not None:
        return whole
    target, sizes = as_axes(target, build.length_rule(value)), build.sizes(value)
    if is_banded(value) and (moved := regrouped(build, value, target)) is not None:
        return moved
    resolved = align(value.shape, target, sizes)
    if build.one_step:
        if resolved is None:  # a time axis of one step may disappear, and come again
            hidden = [1 if d is TIME else d for d in value.shape]
            resolved = align(hidden, [1 if d is TIME else BATCH if d in MERGED else d for d in target], sizes)
    elif resolved != list(value.shape):  # one that changes nothing splits nothing
        node.budget.spend(node.where, 3 * ALIGN_WORK * len(target) ** 2)
        both = split(value.shape)
        found = align(both, target, sizes) if both else None
        if both and found is None and resolved is None and align(split(value.shape, True) or [], target, sizes):
            raise mixes_sequences(node)
        one = merged(value.shape)
        if found is None and resolved is None and one:
            found = align(one, target, sizes)
        resolved = found or resolved
    if resolved is None and (groups := folded(node, build, value, given)) is not None:
        return groups
    if resolved is None and (moved := regrouped(build, value, target)) is not None:
        node.reserve_features(value.ids.size)
        return moved
    if resolved is None and (frames := stacked_as(build, value, given)) is not None:
        return stacked(node, build, value, *frames)
    if resolved is None and (whole := unrolled_as(node, build, value, target)) is not None:
        return whole
    if resolved is None and (steps := unstacked_as(node, build, value, given)) is not None:
        return steps
    if resolved is None:
        resolved = aligned_by_fixed_size(node, build, value, target)
    if (
        resolved is None
        and not build.one_step
        and (moved := _regrouped_by_fixed_size(node, build, value, target)) is not None
    ):
        return moved
    if resolved is None:
        raise node.refuse(
            f"reshapes {value.describe()} to {target}, which merges or splits the batch (N) or time (T) axis; "
            "re-export with batch and time kept as separate axes, e.g. target [0, 0, -1]"
        )
    node.reserve_features(value.ids.size)
    ids = value.ids.reshape([1 if isinstance(d, Symbol) else d for d in resolved])
    return Features(ids, tuple(d if isinstance(d, Symbol) else None for d in resolved))


def _regrouped_by_fixed_size(node: Node, build: Builder, value: Features, target: list[Dim]) -> Features | None:
    """Return what `regrouped` does where a target has a number in the place of the steps, which the inputs declare free; None for others.

    Batch and heads are one axis in it, [T, N·H, D], whose size a graph computes, so that one number is left that may be the steps.
    """
    rule = build.length_rule(value)
    if TIME not in value.axes or build.baked_steps(rule) or not isinstance(rule, AxisRule):
        return None
    if not any(isinstance(d, Product) for d in target):
        return None
    for place, number in enumerate(target):
        if isinstance(number, Symbol) or number < 1:
            continue
        moved = regrouped(build, value, [*target[:place], TIME, *target[place + 1 :]])
        if moved is not None:
            build.declare_steps(rule, int(number))
            build.notes.append(
                f"{node.where} reshapes to {target}, which fixes the time axis to {number}, although the inputs declare any size; any size "
                "runs here"
            )
            return moved
    return None


def stacks(size: int | None, wanted: Dim) -> bool:
    """Return whether an axis of features of a target holds several times as many as the last axis had."""
    return size is not None and size > 0 and not isinstance(wanted, Symbol) and wanted > size and wanted % size == 0


def stacked_as(build: Builder, value: Features, target: Sequence[Dim]) -> tuple[int, list[int]] | None:
    """Return k and the sizes of the features of a target [N, T / k, …] that puts every k steps of [N, T, …] side by side; None for another."""
    if build.one_step or value.axes[:2] != (BATCH, TIME) or set(value.axes[2:]) - {None} or len(target) < 3:
        return None
    features = [int(d) for d in target[2:] if not isinstance(d, Symbol)]
    count, left = divmod(product(features), value.ids.size)
    if len(features) != len(target) - 2 or min(features) < 1 or left or count < 2:
        return None
    steps, rule = target[1], build.length_rule(value)
    sizes = {size // count for size in build.sizes(value).get(TIME, set()) if size % count == 0}
    own = steps == -1 if not isinstance(steps, Symbol) else rule_of(steps) == rule.windows(0, count)
    batch = (
        target[0] is BATCH or (target[0] == -1 and steps != -1) or (target[0] in build.sizes(value).get(BATCH, set()))
    )
    return (count, features) if batch and (own or steps in sizes) else None


def unrolled_as(node: Node, build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return a value reshaped to a target without time, all of its steps as features; None where their number is not declared.

    Sizes of the target that are a multiple of the number of steps are that number.
    """
    steps = build.sizes(value).get(TIME, set())
    if build.one_step or TIME not in value.axes or len(steps) != 1:
        return None
    (count,) = steps

    def known(size: Dim) -> Dim:
        if isinstance(size, Product) and BATCH not in size.factors and len(size.factors) == 1:
            return size.count * count
        return size

    dims = [count if d is TIME else d for d in value.shape]
    resolved = align(dims, [known(d) for d in target], build.sizes(value))
    if resolved is None or (whole := unrolled(node, build, value)) is None:
        return None
    ids = whole.ids.reshape([1 if isinstance(d, Symbol) else d for d in resolved])
    return Features(ids, tuple(d if isinstance(d, Symbol) else None for d in resolved))


def reshape_array(node: Node, array: Array) -> Array:
    """Reshape a constant."""
    target = [d for d in _target(node, array.shape) if not isinstance(d, Symbol)]
    if is_shape(node.input(1)):
        raise node.refuse("reshapes a constant to a shape with batch or time sizes; re-export with constants folded")
    if not array.flags.c_contiguous:  # then it is copied
        node.reserve(array.size)
    return array.reshape(target)


@operator("Reshape")
def reshape(node: Node, build: Builder) -> Value:
    """Import Reshape of features or of a constant."""
    value = node.input(0)
    if isinstance(value, Features):
        return reshape_features(node, build, value, _target(node, sizes_of(build, value)))
    return reshape_array(node, value)


@axis_rule("Reshape")
def reshape_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes that survive; groups of channels, put together with all axes behind them, are remembered until they are split again."""
    value: AxisTensor = node.input(0)
    target = _target(node, list(value.axes))
    if value.axes and (whole := roles.folded.get(value.axes[-1])) is not None and is_shape_of(target, whole):
        return AxisTensor(whole, value.sources)
    found = _surviving_axes(node, roles, value, list(target))
    if folds(target, value.axes) and not any(found.axes[-1] is axis for axis in value.axes):
        roles.folded[found.axes[-1]] = value.axes
    return found


def _surviving_axes(node: Node, roles: Roles, value: AxisTensor, target: list[Dim]) -> AxisTensor:
    """Return the axes that survive: equal ones from the front and the back, and one that is left between them."""
    if len(target) == value.rank == 3 and stacks(value.axes[2].size, target[2]):
        steps = roles.made(None, node.name)  # every few steps side by side
        roles.same(steps, value.axes[1], node.name)
        return AxisTensor((value.axes[0], steps, roles.made(int(target[2]), node.name)), value.sources)  # type: ignore[arg-type]
    front: list[Axis] = []
    back: list[Axis] = []
    axes = carried_split(value.axes, target, roles, node) or list(value.axes)

    def matches(axis: Axis, wanted: Dim) -> bool:
        return wanted is axis or (axis.size is not None and not isinstance(wanted, Symbol) and wanted == axis.size)

    while axes and target and matches(axes[0], target[0]):
        front.append(axes.pop(0))
        target.pop(0)
    while axes and target and matches(axes[-1], target[-1]):
        back.insert(0, axes.pop())
        target.pop()
    middle: list[Axis] = []
    if (one := carried_merge(axes, target, roles, node)) is not None:
        middle.append(one[0])
        axes, target = axes[one[1] :], target[1:]
        return AxisTensor((*front, *middle, *_carried(axes, target, node, roles), *back), value.sources)
    if (groups := carried_groups(axes, target, roles, node)) is not None:
        return AxisTensor((*front, *groups, *back), value.sources)
    rest_sizes, rest_target = known_sizes(tuple(axes[1:])), target[1:]
    first_kept = (
        bool(axes)
        and bool(target)
        and (target[0] == -1 or target[0] is axes[0])
        and not any(isinstance(d, Symbol) for d in [*rest_sizes, *rest_target])
        and product(rest_sizes) == product(rest_target)
    )
    if first_kept:  # [N, 784] → [-1, 28, 28]
        middle.append(axes[0])
        middle += _carried(axes[1:], target[1:], node, roles)
    else:
        middle += _carried(axes, target, node, roles)
    return AxisTensor((*front, *middle, *back), value.sources)


def _carried(axes: list[Axis], target: list[Dim], node: Node, roles: Roles) -> list[Axis]:
    """Return an axis for each size of ``target``: one of ``axes`` where those before and behind it stay as many elements as they were."""
    unknown = [axis for axis in axes if axis.size is None]
    resolved = list(target)
    open_sizes = [k for k, d in enumerate(target) if not isinstance(d, Symbol) and d == -1]
    if len(open_sizes) == 1:
        (place,) = open_sizes
        rest = [d for k, d in enumerate(target) if k != place]
        named = [d for d in rest if isinstance(d, Symbol)]
        left = [axis for axis in unknown if not any(axis is d for d in named)]
        if len(left) == 1:
            resolved[place] = left[0]
        elif not left and not named and (known := product(rest)):
            resolved[place] = product(known_sizes(tuple(axes))) // known
    made = [roles.made(None if isinstance(d, Symbol) or d == -1 else int(d), node.name) for d in resolved]
    i = j = 0
    while i < len(axes) and j < len(resolved):
        axis, wanted = axes[i], resolved[j]
        if wanted is axis or (not isinstance(wanted, Symbol) and axis.size == wanted):
            made[j] = axis
            i, j = i + 1, j + 1
        elif isinstance(wanted, Axis) and wanted.size == 1:  # by its name: x.shape[0] of one sequence
            made[j] = wanted
            j += 1
        elif axis.size == 1:
            i += 1
        elif not isinstance(wanted, Symbol) and wanted == 1:
            j += 1
        else:  # axes that are merged and split, up to where both hold as many elements
            one = many = 1
            while one != many or one == 1:
                if one <= many:
                    if i == len(axes) or (size := axes[i].size) is None:
                        return made
                    one, i = one * size, i + 1
                else:
                    if j == len(resolved) or isinstance(size_j := resolved[j], Symbol):
                        return made
                    many, j = many * int(size_j), j + 1
    return made


def _flat(node: Node, dims: Sequence[Dim], axis: int) -> list[Dim]:
    """Return the two sizes that Flatten makes; batch and time stay only when all features merged with them have size 1."""
    sides: list[Dim] = []
    for side in (dims[:axis], dims[axis:]):
        symbols = [d for d in side if isinstance(d, Symbol)]
        size = product(d for d in side if not isinstance(d, Symbol))
        if len(symbols) > 2 or (symbols and size != 1):
            raise node.refuse(
                f"flattens {list(dims)} at axis {axis}, which merges the batch (N) or time (T) axis with features; "
                "re-export with batch and time kept as separate axes"
            )
        sides.append(product_of(node, *symbols) if len(symbols) > 1 else symbols[0] if symbols else size)
    return sides


@operator("Flatten")
def flatten(node: Node, build: Builder) -> Value:
    """Import Flatten of features or of a constant."""
    value = node.input(0)
    axis = int(node.take("axis", 1))
    if not isinstance(value, Features):
        split = _flatten_axis(node, axis, value.ndim)
        if not value.flags.c_contiguous:
            node.reserve(value.size)
        return np.reshape(value, (product(value.shape[:split]), product(value.shape[split:])))
    dims = [1 if build.one_step and d is TIME else d for d in sizes_of(build, value)]
    place = _flatten_axis(node, axis, len(dims))
    if TIME in value.axes[place:] and not build.one_step and BATCH in value.axes[:place] and value.ids.size > 1:
        whole = unrolled_as(node, build, value, [BATCH if d is BATCH else d for d in dims[:place]] + [-1])
        if whole is not None:
            return whole
    target = _flat(node, dims, place)
    return reshape_features(node, build, value, target)


def _flatten_axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis <= rank:
        raise node.damaged(f"axis {axis} is outside the {rank} axes of its input")
    return axis + rank if axis < 0 else axis


@axis_rule("Flatten")
def flatten_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes that Flatten leaves unmerged."""
    value: AxisTensor = node.input(0)
    axis = _flatten_axis(node, int(node.take("axis", 1)), value.rank)
    sides = []
    for side in (value.axes[:axis], value.axes[axis:]):
        wide = [a for a in side if a.size != 1]
        sides.append(wide[0] if len(wide) == 1 else side[0] if len(side) == 1 else merged_axis(side, roles, node))
    return AxisTensor(tuple(sides), value.sources)
