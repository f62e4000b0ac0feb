"""Batch and heads as one axis, [N·H, T, D], as graphs merge them for products of matrices of each head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.fixed_sizes import ALIGN_WORK, align, aligned_by_fixed_size
from qrnn.onnx_import.lengths import as_axes
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import BATCH, Dim, Features, Product, Symbol

BATCH_HEADS = Symbol("N·H")
"""The axis that batch and an axis of features behind it are merged to; a value's ids have the size of these features there."""


def unmerged_sizes(value: Features) -> list[Dim]:
    """Return the sizes of a value, with the product of the batch and of the heads where they are one axis."""
    sizes = zip(value.ids.shape, value.shape, strict=True)
    return [Product(f"{size}·N", None, (BATCH,), size) if d is BATCH_HEADS else d for size, d in sizes]


def without_merged_heads(value: Features) -> Features:
    """Return a value with batch and heads as two axes where they are one."""
    shape: list[int] = []
    axes: list[Symbol | None] = []
    for size, axis in zip(value.ids.shape, value.axes, strict=True):
        shape += [1, size] if axis is BATCH_HEADS else [size]
        axes += [BATCH, None] if axis is BATCH_HEADS else [axis]
    return Features(value.ids.reshape(shape), tuple(axes))


def with_merged_heads(node: Node, build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return a value reshaped to a target in which batch and heads are one axis; None for another target."""
    if BATCH not in value.axes:
        return None
    behind = value.axes.index(BATCH) + 1
    end = next((k for k in range(behind, len(value.axes)) if value.axes[k] is not None), len(value.axes))
    known = int(np.prod(value.ids.shape[behind:end]))
    sizes, batches = build.sizes(value), build.baked[BATCH]
    for place, wanted in enumerate(as_axes(list(target), build.length_rule(value))):
        if isinstance(wanted, Product):
            counts = {wanted.count} if wanted.factors == (BATCH,) and wanted.count > 1 else set()
        elif isinstance(wanted, Symbol):
            counts = set()
        elif wanted == -1:
            counts = {known} - {1}
        else:
            counts = {int(wanted) // size for size in batches if size > 1 and wanted > size and wanted % size == 0}
        for count in counts:
            apart = as_axes([*target[:place], BATCH, count, *target[place + 1 :]], build.length_rule(value))
            node.budget.spend(node.where, ALIGN_WORK * len(apart) ** 2)
            if align(value.shape, as_axes(list(target), build.length_rule(value)), sizes) is not None and wanted == -1:
                return None
            resolved = align(value.shape, apart, sizes) or aligned_by_fixed_size(node, build, value, apart)
            if resolved is None or resolved[place] is not BATCH or resolved[place + 1] != count:
                continue
            dims = [*resolved[:place], count, *resolved[place + 2 :]]
            ids = value.ids.reshape([1 if isinstance(d, Symbol) else d for d in dims])
            axes = [d if isinstance(d, Symbol) else None for d in dims]
            axes[place] = BATCH_HEADS
            return Features(ids, tuple(axes))
    return None
