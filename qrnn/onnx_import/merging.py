"""Batch and time as one axis: graphs merge them to apply a layer to every step of every sequence alike, and split them again.

The order of the merge is that of the value's axes: [T, N, F] becomes [T·N, F], and [N, T, F] becomes [N·T, F]. A layer that treats each step by
itself reads either as it reads separate axes. What is split in the other order would take steps of one sequence for those of another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.time import LengthRule
from qrnn.onnx_import.lengths import rule_of, size_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.roles import Axis, Roles
from qrnn.onnx_import.values import (
    BATCH,
    BATCH_TIME,
    MERGED,
    MOST_AXES,
    TIME,
    TIME_BATCH,
    Banded,
    Dim,
    Features,
    Product,
    Symbol,
    product,
)

MOST_FACTORS = 2
"""The most sizes that are no numbers of a product: batch and time."""

LARGEST_COUNT = 1 << 31
"""The largest number that a size is multiplied by."""


def product_of(node: Node, a: Dim, b: Dim) -> Product:
    """Return the product of two sizes, of which at least one is no number; batch and time may be in it once each."""
    factors = (*_factors(a), *_factors(b))
    count = _count(a) * _count(b)
    steps = sum(rule_of(f) is not None for f in factors)
    if len(factors) > MOST_FACTORS or steps > 1 or factors.count(BATCH) > 1 or not 1 <= count <= LARGEST_COUNT:
        raise node.refuse(
            f"multiplies the sizes {a} and {b}; only the batch by the number of steps, and by numbers, is supported; keep batch and time as "
            "separate axes when exporting"
        )
    names = [*([str(count)] if count != 1 else []), *map(str, factors)]
    return Product("·".join(names), None, factors, count)


def quotient_of(node: Node, a: Dim, b: Dim) -> Dim:
    """Return a size divided by some of its factors, or a number divided by a number, rounded toward 0 as Div does."""
    if b == 0:
        raise node.damaged(f"divides the size {a} by 0")
    if isinstance(b, int | np.integer) and b > 1 and isinstance(a, Symbol):
        if isinstance(a, Axis) and not a.parts:  # the first pass does not count steps
            return Axis(f"{a.name} over {b}")
        if (rule := rule_of(a)) is not None:
            return size_of(rule.windows(0, int(b)))
    left, count, by = list(_factors(a)), _count(a), _count(b)
    for factor in _factors(b):
        place = next((k for k, own in enumerate(left) if _same(own, factor)), None)
        if place is None:
            raise _no_factor(node, a, b)
        del left[place]
    if left and count % by:
        raise _no_factor(node, a, b)
    count = abs(count) // abs(by) * (1 if (count < 0) == (by < 0) else -1)
    if not left:
        return count
    return left[0] if (len(left), count) == (1, 1) else product_of(node, count, Product("", None, tuple(left)))


def _same(a: Symbol, b: Symbol) -> bool:
    return a is b or (rule_of(a) is not None and rule_of(a) == rule_of(b))


def _no_factor(node: Node, a: Dim, b: Dim) -> UnsupportedError:
    return node.refuse(
        f"divides the size {a} by {b}; only the product of the batch and the number of steps by one of them is supported"
    )


def _factors(size: Dim) -> tuple[Symbol, ...]:
    if isinstance(size, Axis) and size.parts:
        return tuple(part for part in size.parts if part.size is None)
    return size.factors if isinstance(size, Product) else (size,) if isinstance(size, Symbol) else ()


def _count(size: Dim) -> int:
    if isinstance(size, Axis) and size.parts:
        return product(part.size for part in size.parts if part.size is not None)
    return size.count if isinstance(size, Product) else 1 if isinstance(size, Symbol) else int(size)


def merged_size(rule: LengthRule) -> Product:
    """Return the size of a merged axis, of sequences whose number of steps has a rule."""
    steps = size_of(rule)
    return Product(f"N·{steps}", None, (BATCH, steps))


def is_size(wanted: Dim, symbol: Symbol, known: dict[Symbol, set[int]]) -> bool:
    """Return whether ``wanted``, as `as_axes` gives it, is the size of an axis ``symbol``; ``known`` are the sizes that the file declares."""
    if not isinstance(wanted, Symbol):
        return wanted in known.get(symbol, set())
    if wanted is symbol:
        return True
    if symbol not in MERGED:
        return False
    if isinstance(wanted, Product):
        return wanted.factors == (BATCH,) and wanted.count in known.get(TIME, set())
    return wanted in MERGED or (wanted is TIME and 1 in known.get(BATCH, set()))


def merged_sizes(known: dict[Symbol, set[int]]) -> dict[Symbol, set[int]]:
    """Return the declared sizes of batch and time with those of both as one axis."""
    sizes = {n * t for n in known.get(BATCH, set()) for t in known.get(TIME, set())}
    return {**known, BATCH_TIME: sizes, TIME_BATCH: sizes}


def merged(dims: Sequence[Dim]) -> list[Dim] | None:
    """Return sizes with batch and time as one axis; None where there are features between them, or they are not both there."""
    places = [k for k, d in enumerate(dims) if d is BATCH or d is TIME]
    if len(places) != 2:
        return None
    first, last = places
    if any(d != 1 for d in dims[first + 1 : last]):
        return None
    return [*dims[:first], TIME_BATCH if dims[first] is TIME else BATCH_TIME, *dims[last + 1 :]]


def split(dims: Sequence[Dim], other_order: bool = False) -> list[Dim] | None:
    """Return sizes with a merged axis as its two, or as these in the other order; None where none is there."""
    place = next((k for k, d in enumerate(dims) if isinstance(d, Symbol) and d in MERGED), None)
    if place is None:
        return None
    parts = MERGED[dims[place]]  # type: ignore[index]
    return [*dims[:place], *(parts[::-1] if other_order else parts), *dims[place + 1 :]]


def mixes_sequences(node: Node) -> UnsupportedError:
    """Return the error that refuses a split in the other order than that of the merge."""
    return node.refuse(
        "splits an axis that batch and time were merged to in the other order than they were merged, which takes steps of one sequence for "
        "those of another; correct the model: merge and split in one order, and transpose to exchange the axes"
    )


def refuse_merged(node: Node, value: Features, axis: int, does: str) -> None:
    """Refuse a node that does something with axis ``axis`` of ``value``, where batch and time are merged to it."""
    if value.axes[axis] in MERGED or isinstance(value.axes[axis], Banded):
        what = "batch and features" if isinstance(value.axes[axis], Banded) else "batch and time"
        raise node.refuse(
            f"{does} axis {axis} of {value.describe()}, which {what} are merged to; re-export with both as separate axes there"
        )


def merged_axis(parts: Sequence[Axis], roles: Roles, node: Node) -> Axis:
    """Return the one axis that axes are merged to, in the first pass; those of size 1 are left out."""
    wide = [part for axis in parts if axis.size != 1 for part in (axis.parts or (axis,))]
    if len(wide) == 1:
        return wide[0]
    if len(wide) > MOST_AXES:
        return roles.made(None, node.name)
    sizes = [axis.size for axis in wide if axis.size is not None]
    size = product(sizes) if len(sizes) == len(wide) else None
    return Axis(f"an axis merged by node '{node.name}'", size, None, tuple(wide))


def carried_merge(axes: Sequence[Axis], target: Sequence[Dim], roles: Roles, node: Node) -> tuple[Axis, int] | None:
    """Return the axis that the first size of ``target`` merges the first of ``axes`` to, and how many; None where it merges none."""
    if not target or isinstance(target[0], Axis):
        return None
    for taken in range(2, len(axes) + 1):
        group, rest = axes[:taken], [axis.size for axis in axes[taken:]]
        if sum(axis.size != 1 for axis in group) < 2:
            continue
        own = [axis.size for axis in group if axis.size is not None]
        if isinstance(target[0], Product):
            here = is_product_of(group, target[0], roles)
        elif len(own) == len(group) and target[0] != -1:
            here = product(own) == target[0]
        else:
            sizes = [int(d) for d in target[1:] if not isinstance(d, Symbol)]
            known = [size for size in rest if size is not None]
            complete = len(sizes) == len(target) - 1 and len(known) == len(rest) and -1 not in sizes
            here = complete and product(sizes) == product(known)
        if here:
            return merged_axis(group, roles, node), taken
    return None


def is_product_of(group: Sequence[Axis], size: Product, roles: Roles) -> bool:
    """Return whether axes hold as many elements as a product of axes and a number says."""
    left = [part for axis in group for part in (axis.parts or (axis,))]
    for factor in size.factors:
        found = next((k for k, axis in enumerate(left) if _alike(axis, factor, roles)), None)
        if found is None:
            return False
        del left[found]
    return all(axis.size is not None for axis in left) and product(a.size or 1 for a in left) == size.count


def _alike(axis: Axis, size: Dim, roles: Roles) -> bool:
    """Return whether a size is that of an axis known to be the same."""
    return isinstance(size, Axis) and roles.root(axis) is roles.root(size)


def carried_split(axes: Sequence[Axis], target: Sequence[Dim], roles: Roles, node: Node) -> list[Axis] | None:
    """Return axes with a merged one as those it is made of, where ``target`` splits it; None where it does not.

    A split in the other order is noted as a conflict.
    """
    places = [k for k, axis in enumerate(axes) if axis.parts and not any(d is axis for d in target)]
    found = (_split_at(place, axes, target, roles, node) for place in places)
    return next((split for split in found if split is not None), None)


def _split_at(place: int, axes: Sequence[Axis], target: Sequence[Dim], roles: Roles, node: Node) -> list[Axis] | None:
    """Return what `carried_split` does for the merged axis at ``place``."""
    parts, rest = axes[place].parts, [axis.size for axis in axes[place + 1 :]]
    wanted, behind = target[place : place + len(parts)], target[place + len(parts) :]
    if len(wanted) < len(parts) or sum(not isinstance(d, Symbol) and d == -1 for d in wanted) > 1:
        return None
    if len(parts) == 2 and all(_alike(part, d, roles) for part, d in zip(parts, wanted[::-1], strict=True)):
        roles.conflicts.append(str(mixes_sequences(node)))
        return None
    fits = all(
        _alike(part, d, roles) if isinstance(d, Symbol) else d == -1 or part.size is None or d == part.size
        for d, part in zip(wanted, parts, strict=True)
    )
    numbers = [int(d) for d in behind if not isinstance(d, Symbol)]
    unknown = len(numbers) < len(behind) or -1 in numbers or None in rest
    whole = bool(behind) or not rest if unknown else product(numbers) == product(size or 1 for size in rest)
    return [*axes[:place], *parts, *axes[place + 1 :]] if fits and whole else None
