"""Values of a graph as arrays of numbered elements, and the equation by which each element is computed.

Operators that move elements (Split, Slice, Transpose, Concat, …) rearrange numbers; operators that compute make a block of new elements with an
equation of one level: a product with a constant matrix, a weighted sum, a product of two elements, or a function of one. Equal equations give
the same elements, so that a graph that computes something twice computes it once here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.values import Array

WHAT = "recognising recurrent cells"

HASH_WORK = 16
"""Nominal nanoseconds to tell one number of a constant from those of others."""

BLOCK_WORK = 20_000
"""Nominal nanoseconds to make one block, beside its elements."""

Kind = Literal["leaf", "const", "matmul", "sum", "product", "unary", "layer"]


@dataclass(frozen=True)
class Function:
    """An elementwise function by ONNX's name of it, with its parameters."""

    name: str
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Layer:
    """An operator along the last axis, with the names of its constants and its attributes; it is written again as it is."""

    op: str
    constants: tuple[str, ...]
    attributes: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Known:
    """A constant of the graph; ``batch`` is the axis of size 1 that stands for a whole batch, if there is one."""

    array: Array
    batch: int | None = None


@dataclass(frozen=True)
class Value:
    """Numbers of elements [...], where the axis ``batch`` has size 1: every sequence of a batch has the same equations."""

    ids: Array
    batch: int | None


@dataclass
class Block:
    """Elements that were computed together: ``size`` of them from number ``start`` on.

    A leaf has no equation, only operands that it depends on; ``values`` are those of constants; ``matrix`` [size, m] multiplies the
    elements ``operands[0]`` [m]; a sum is ``values`` plus each of ``coefficients`` times the operand of that place; a product has two
    operands, ``function`` is applied to one, and ``layer`` to all elements of one together.
    """

    kind: Kind
    start: int
    size: int
    home: str
    """The value of the graph that these elements were first, in this order."""
    operands: tuple[Array, ...] = ()
    matrix: Array | None = None
    coefficients: tuple[Array, ...] = ()
    values: Array | None = None
    function: Function | None = None
    layer: Layer | None = None


def name_of(array: Array) -> bytes:
    """Return a short name of an array's numbers, equal for equal ones."""
    return hashlib.sha1(np.ascontiguousarray(array).data, usedforsecurity=False).digest()


@dataclass
class Elements:
    """All elements of a graph, in the order of their equations: each is computed from earlier ones."""

    budget: Budget
    blocks: list[Block] = field(default_factory=list)
    count: int = 0
    _owner: Array = field(default_factory=lambda: np.zeros(1024, np.int64))
    _stops: Array = field(default_factory=lambda: np.zeros(1024, bool))
    _made: dict[Any, Block] = field(default_factory=dict)
    _matrices: dict[tuple[int, bool, float], tuple[Array, Array]] = field(default_factory=dict)
    """By the constant that they were made from, which is kept so that no other is in its place in memory."""
    _arrays: dict[Any, Array] = field(default_factory=dict)

    def constant(self, array: Array) -> Array:
        """Return an array, the same object for the same contents, so that weights which a graph repeats are known as equal."""
        self.budget.value(WHAT, array.size, scratch=array.size, cost=HASH_WORK)
        array = np.ascontiguousarray(array, np.float64)
        return self._arrays.setdefault((array.shape, name_of(array)), array)

    def matrix(self, array: Array, transposed: bool, factor: float = 1.0) -> Array:
        """Return ``factor`` times a constant matrix, or its transpose; the same object where it was asked for before."""
        key = (id(array), transposed, factor)
        if key not in self._matrices:
            made = array.reshape(array.shape[-2:])
            self._matrices[key] = (array, self.constant(factor * (made.T if transposed else made)))
        return self._matrices[key][1]

    def block_of(self, ids: Array) -> Block | None:
        """Return the block that all of these elements belong to, None where they belong to several."""
        if not ids.size:
            return None
        owners = self._owner[ids.reshape(-1)]
        return self.blocks[int(owners[0])] if (owners == owners[0]).all() else None

    def owners(self, ids: Array) -> Array:
        """Return the place of each element's block among `blocks`."""
        return np.asarray(self._owner[ids])

    def places_of(self, ids: Array) -> list[tuple[int, Array | slice]]:
        """Return the blocks that elements belong to, each with the places of its elements among these."""
        owners = self._owner[ids]
        if not ids.size or (owners == owners[0]).all():
            return [(int(owners[0]), slice(None))] if ids.size else []
        return [(int(k), owners == k) for k in np.unique(owners)]

    def stops(self, ids: Array) -> bool:
        """Return whether these elements are all read by a function or a matrix, so that a sum of products ends with them."""
        return bool(self._stops[ids].all())

    def leaf(self, size: int, home: str, depends: Sequence[Array] = ()) -> Array:
        """Return new elements without an equation."""
        return self._add(None, Block("leaf", 0, size, home, tuple(depends)))

    def const(self, values: Array, home: str) -> Array:
        """Return the elements that are these numbers."""
        values = self.constant(values.reshape(-1))
        return self._add(("const", id(values)), Block("const", 0, values.size, home, values=values))

    def matmul(self, matrix: Array, ids: Array, home: str) -> Array:
        """Return the elements ``matrix @ ids``."""
        self._stops[ids] = True
        key = ("matmul", id(matrix), name_of(ids))
        return self._add(key, Block("matmul", 0, len(matrix), home, (ids,), matrix=matrix))

    def total(self, terms: Sequence[tuple[Array, Array]], values: Array, home: str) -> Array:
        """Return the elements ``values + Σ coefficient · ids``; those of ``ids`` themselves where nothing is added to them."""
        if len(terms) == 1 and (terms[0][0] == 1).all() and not values.any():
            return terms[0][1]
        key = ("sum", name_of(values), *[(name_of(c), name_of(i)) for c, i in terms])
        made = Block("sum", 0, values.size, home, tuple(i for _, i in terms), None, tuple(c for c, _ in terms), values)
        return self._add(key, made)

    def product(self, a: Array, b: Array, home: str) -> Array:
        """Return the elements ``a · b``."""
        key = ("product", *sorted([name_of(a), name_of(b)]))
        return self._add(key, Block("product", 0, a.size, home, (a, b)))

    def unary(self, function: Function, ids: Array, home: str) -> Array:
        """Return the elements ``function(ids)``."""
        self._stops[ids] = True
        return self._add(
            ("unary", function, name_of(ids)), Block("unary", 0, ids.size, home, (ids,), function=function)
        )

    def along(self, layer: Layer, ids: Array, home: str) -> Array:
        """Return the elements ``layer(ids)``."""
        self._stops[ids] = True
        return self._add(("layer", layer, name_of(ids)), Block("layer", 0, ids.size, home, (ids,), layer=layer))

    def depends(self, ids: Array, on: Array) -> bool:
        """Return whether any of these elements is, or is computed from, any element of ``on``."""
        wanted = np.zeros(self.count, bool)
        wanted[on] = True
        first = int(on.min()) if on.size else self.count
        seen = np.zeros(len(self.blocks), bool)
        left = [ids]
        while left:
            at = left.pop()
            if wanted[at].any():
                return True
            for k in np.unique(self.owners(at[at >= first])):
                if not seen[k]:
                    seen[k] = True
                    left += self.blocks[int(k)].operands
            self.budget.spend(WHAT, BLOCK_WORK // 4 + at.size)
        return False

    def _add(self, key: Any, block: Block) -> Array:
        made = None if key is None else self._made.get(key)
        if made is None:
            self.budget.value(WHAT, block.size * (4 + 2 * len(block.operands)))
            self.budget.spend(WHAT, BLOCK_WORK)
            block.start = self.count
            self.count += block.size
            while self.count > self._owner.size:
                self._owner = np.concatenate([self._owner, np.zeros_like(self._owner)])
                self._stops = np.concatenate([self._stops, np.zeros_like(self._stops)])
            self._owner[block.start : self.count] = len(self.blocks)
            self.blocks.append(block)
            made = block
            if key is not None:
                self._made[key] = block
        return np.arange(made.start, made.start + made.size)
