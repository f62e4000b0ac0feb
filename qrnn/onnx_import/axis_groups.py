"""Which axes the sizes of a Reshape's target merge, in the first pass: consecutive axes for each size, one of which may be -1."""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.onnx_import.merging import is_product_of, merged_axis
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.roles import Axis, Roles
from qrnn.onnx_import.values import Dim, Product, Symbol, product

MOST_AXES = 8
"""The most axes that are grouped."""


def carried_groups(axes: Sequence[Axis], target: Sequence[Dim], roles: Roles, node: Node) -> list[Axis] | None:
    """Return the axis that each size of ``target`` merges consecutive ones of ``axes`` to; None where not exactly one way does."""
    if not 0 < len(target) <= len(axes) <= MOST_AXES:
        return None
    found = _ways(tuple(axes), tuple(target), roles)
    return [merged_axis(group, roles, node) for group in found[0]] if len(found) == 1 else None


def _ways(axes: tuple[Axis, ...], target: tuple[Dim, ...], roles: Roles) -> list[list[tuple[Axis, ...]]]:
    """Return the ways to give each size of the target at least one axis, in their order."""
    if not target:
        return [] if axes else [[]]
    ways = []
    for taken in range(1, len(axes) - len(target) + 2):
        if _is_size(axes[:taken], target[0], roles):
            ways += [[axes[:taken], *rest] for rest in _ways(axes[taken:], target[1:], roles)]
    return ways


def _is_size(group: tuple[Axis, ...], wanted: Dim, roles: Roles) -> bool:
    """Return whether axes hold as many elements as a size of a target says; -1 says nothing."""
    sizes = [axis.size for axis in group if axis.size is not None]
    if isinstance(wanted, Product):
        return is_product_of(group, wanted, roles)
    if isinstance(wanted, Symbol):
        wide = [axis for axis in group if axis.size != 1]
        return isinstance(wanted, Axis) and len(wide) == 1 and roles.root(wide[0]) is roles.root(wanted)
    return wanted == -1 or (len(sizes) == len(group) and product(sizes) == wanted)
