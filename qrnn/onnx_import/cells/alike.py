"""Follow the equations of two steps side by side: where they are the same, what the second reads in place of the first is known."""

from __future__ import annotations

import numpy as np

from qrnn.onnx_import.cells.elements import BLOCK_WORK, WHAT, Block, Elements
from qrnn.onnx_import.cells.match import Cell
from qrnn.onnx_import.values import Array


def input_alike(
    elements: Elements, cell: Cell, h: Array, c: Array | None, new_h: Array, new_c: Array | None
) -> Array | None:
    """Return what another step reads as its input, where it is the step ``cell`` with other operands; None where it may be another.

    ``h`` and ``c`` are the states that it reads, ``new_h`` and ``new_c`` those that it gives. No matrix is looked at: the same one multiplies
    in both.
    """
    image = np.full(elements.count, -1, np.int64)
    image[cell.h] = h
    if cell.c is not None and c is not None:
        image[cell.c] = c
    ends = np.zeros(elements.count, bool)
    ends[cell.x] = True
    left = [(cell.new_h, new_h)]
    if cell.new_c is not None and new_c is not None:
        left.append((cell.new_c, new_c))
    seen: set[tuple[int, int]] = set()
    while left:
        a, b = left.pop()
        elements.budget.spend(WHAT, BLOCK_WORK + 40 * a.size)
        new = image[a] < 0
        image[a[new]] = b[new]
        if (image[a] != b).any():
            return None
        new &= ~ends[a]
        a, b = a[new], b[new]
        for k, here in elements.places_of(a):
            own, other = elements.blocks[k], elements.block_of(b[here])
            if other is None:
                return None
            pairs = _operands(own, other, a[here], b[here])
            if pairs is None:
                return None
            if own.kind not in ("matmul", "layer"):
                left += pairs
            elif (own.start, other.start) not in seen:
                seen.add((own.start, other.start))
                left += pairs
    x = np.asarray(image[cell.x])
    return None if (x < 0).any() else x


def _operands(own: Block, other: Block, a: Array, b: Array) -> list[tuple[Array, Array]] | None:
    """Return the operands of elements of two blocks side by side; None where their equations differ."""
    if own.kind == "leaf":
        return [] if np.array_equal(a, b) else None
    places = a - own.start
    if (own.kind, own.function, own.layer, id(own.matrix)) != (
        other.kind,
        other.function,
        other.layer,
        id(other.matrix),
    ):
        return None
    if not np.array_equal(places, b - other.start) or len(own.operands) != len(other.operands):
        return None
    if own.size != other.size:
        return None
    if (
        own.values is not None
        and other.values is not None
        and not np.array_equal(own.values[places], other.values[places])
    ):
        return None
    for mine, its in zip(own.coefficients, other.coefficients, strict=True):
        if not np.array_equal(mine[places], its[places]):
            return None
    if own.kind in ("matmul", "layer"):
        return [(own.operands[0], other.operands[0])]
    return [(mine[places], its[places]) for mine, its in zip(own.operands, other.operands, strict=True)]
