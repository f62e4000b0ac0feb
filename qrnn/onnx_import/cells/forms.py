"""Equations of several levels put together: sums of matrices times elements, and sums of products of elements."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qrnn.onnx_import.cells.elements import WHAT, Elements, Function
from qrnn.onnx_import.values import Array

MOST_TERMS = 64
"""The most terms of a sum that is looked at, and the most steps to reach them."""

EXPANSION_WORK = 20_000
"""Nominal nanoseconds to look at one part of a sum of products."""

MOST_MONOMIALS = 8
"""The most products of a sum that may be a state: those of a GRU are three."""


class NotACell(Exception):  # noqa: N818
    """An equation is not that of a cell; the text says why."""


@dataclass(frozen=True)
class Dense:
    """``factors · matrix[places] @ ids``, added to the rows ``rows`` of a sum."""

    rows: Array
    factors: Array
    matrix: Array
    places: Array
    ids: Array


@dataclass(frozen=True)
class Single:
    """``factors · ids``, added to the rows ``rows`` of a sum."""

    rows: Array
    factors: Array
    ids: Array


@dataclass
class Form:
    """A sum of ``size`` rows: numbers, matrices times elements, and single elements."""

    values: Array
    dense: list[Dense] = field(default_factory=list)
    single: list[Single] = field(default_factory=list)


def form(elements: Elements, ids: Array, kept: Array | None = None) -> Form:
    """Return elements as a sum of what they are computed from, down to functions, products, leaves, operands of matrices and ``kept``."""
    found = Form(np.zeros(ids.size))
    left = [Single(np.arange(ids.size), np.ones(ids.size), ids)]
    steps = 0
    while left:
        at = left.pop(0)
        if kept is not None and (own := np.isin(at.ids, kept)).any():
            found.single.append(Single(at.rows[own], at.factors[own], at.ids[own]))
            at = Single(at.rows[~own], at.factors[~own], at.ids[~own])
        for k, here in elements.places_of(at.ids):
            steps += 1
            if steps > MOST_TERMS:
                raise NotACell(f"its argument is a sum of more than {MOST_TERMS} terms")
            elements.budget.spend(WHAT, 8 * at.ids.size)
            block = elements.blocks[k]
            rows, factors, own = at.rows[here], at.factors[here], at.ids[here]
            places = own - block.start
            if block.kind == "sum":
                assert block.values is not None
                found.values[rows] += factors * block.values[places]
                for coefficient, operand in zip(block.coefficients, block.operands, strict=True):
                    left.append(Single(rows, factors * coefficient[places], operand[places]))
            elif block.kind == "const":
                assert block.values is not None
                found.values[rows] += factors * block.values[places]
            elif block.kind == "matmul":
                assert block.matrix is not None
                found.dense.append(Dense(rows, factors, block.matrix, places, block.operands[0]))
            else:
                found.single.append(Single(rows, factors, own))
    return found


Polynomial = dict[tuple[bytes, ...], Array]
"""A sum of products: coefficients by the elements that each product multiplies (as bytes, in order); the empty product is a number."""


def ids_of(key: bytes) -> Array:
    """Return elements from the bytes that stand for them in a `Polynomial`."""
    return np.frombuffer(key, np.int64)


def polynomial(elements: Elements, ids: Array) -> Polynomial:
    """Return elements as a sum of products of elements that a function, a matrix or nothing computes, or that one of those reads."""
    return _expanded(elements, np.ascontiguousarray(ids), {}, first=True, depth=10)


def _expanded(
    elements: Elements, ids: Array, known: dict[bytes, Polynomial], first: bool = False, depth: int = 0
) -> Polynomial:
    """Return a sum of products; ``known`` are those of elements that were met before."""
    name = ids.tobytes()
    if name in known:
        return known[name]
    block = elements.block_of(ids)
    elements.budget.spend(WHAT, EXPANSION_WORK + 64 * ids.size)
    if block is None or block.kind not in ("sum", "product", "const") or (elements.stops(ids) and not first):
        known[name] = {(name,): np.ones(ids.size)}
        return known[name]
    if depth == 0:
        raise NotACell("its equation is deeper than that of a cell")
    places = ids - block.start
    made: Polynomial = {}
    if block.kind == "product":
        a, b = (_expanded(elements, operand[places], known, depth=depth - 1) for operand in block.operands)
        for left, x in a.items():
            for right, y in b.items():
                _add(made, tuple(sorted([*left, *right])), x * y)
    else:
        assert block.values is not None
        if block.values[places].any():
            _add(made, (), block.values[places])
        for coefficient, operand in zip(block.coefficients, block.operands, strict=True):
            for key, x in _expanded(elements, operand[places], known, depth=depth - 1).items():
                _add(made, key, coefficient[places] * x)
    known[name] = made
    return made


def _add(to: Polynomial, key: tuple[bytes, ...], coefficient: Array) -> None:
    total = to[key] + coefficient if key in to else coefficient
    if total.any():
        to[key] = total
    else:
        to.pop(key, None)
    if len(to) > MOST_MONOMIALS or len(key) > 4:
        raise NotACell("its equation has more products than that of a cell")


def applied(elements: Elements, ids: Array) -> tuple[Function, Array] | None:
    """Return the function that computes elements and what it is applied to; None where no one function does."""
    block = elements.block_of(ids)
    if block is None or block.kind != "unary" or block.function is None:
        return None
    return block.function, block.operands[0][ids - block.start]


def is_all(coefficient: Array, number: float) -> bool:
    """Return whether a coefficient is that number, up to the rounding of one that a file holds in single precision."""
    return bool((np.abs(coefficient - number) <= 1e-6 * abs(number)).all())
