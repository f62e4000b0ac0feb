"""Bands of features that a graph moves into the batch and back, to apply a layer to each band of each sequence, or to the bands of each step.

A `Banded` axis is what batch, steps and features are merged to, in the order of its parts. Its ids have the size of its features, so that they
stay in their places: [N, T, F, C] as [N·F, T, C] has ids of the shape [F, 1, C].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from qrnn.model.time import LengthRule
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import (
    BATCH,
    BATCH_TIME,
    MERGED,
    TIME,
    TIME_BATCH,
    Banded,
    Dim,
    Features,
    Product,
    Symbol,
    is_shape,
)

MOVES = frozenset(
    ["Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Size", "Identity", "Cast", "Dropout", "Slice", "Split", "Gather",
     "Concat", "LSTM", "GRU", "RNN"]
)  # fmt: skip
"""The operators that take merged axes as they are, or refuse them."""

EACH = frozenset(
    ["Add", "Sub", "Mul", "Div", "Neg", "Pow", "Min", "Max", "Abs", "Sqrt", "Exp", "Log", "Erf", "Reciprocal", "Clip", "PRelu", "Sigmoid",
     "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Softsign", "Softplus", "Swish", "HardSwish",
     "Gelu", "Mish", "Where", "Softmax", "LogSoftmax", "MatMul", "Gemm", "LayerNormalization", "RMSNormalization"]
)  # fmt: skip
"""The operators that treat each row of a merged axis by itself: they compute what they compute of all bands of a step side by side."""

Atom = int | Symbol
"""A part of an axis: a number of features, BATCH or TIME."""


@cache
def banded(parts: tuple[Atom, ...]) -> Banded:
    """Return the axis that ``parts`` are merged to; the same parts give the same axis."""
    symbols = tuple(part for part in parts if isinstance(part, Symbol))
    count = math.prod(part for part in parts if not isinstance(part, Symbol))
    return Banded("·".join(map(str, parts)), None, symbols, count, parts)


def atoms_of(dims: Sequence[Dim]) -> list[Atom]:
    """Return the parts of axes, in their order, without those of size 1."""
    found: list[Atom] = []
    for dim in dims:
        if isinstance(dim, Banded):
            found += dim.parts
        elif isinstance(dim, Symbol):
            found += MERGED.get(dim, (dim,))
        elif dim != 1:
            found.append(int(dim))
    return found


def _axis(group: Sequence[Atom]) -> Dim | None:
    """Return the axis that atoms are merged to; None where steps and features would be, without the batch."""
    symbols = [atom for atom in group if isinstance(atom, Symbol)]
    count = math.prod(atom for atom in group if not isinstance(atom, Symbol))
    if not symbols:
        return count
    if count == 1 and len(symbols) == 1:
        return symbols[0]
    if count == 1 and len(symbols) == 2:
        return BATCH_TIME if symbols[0] is BATCH else TIME_BATCH
    return banded(tuple(atom for atom in group if atom != 1)) if BATCH in symbols else None


class _Regrouping:
    """Atoms that the sizes of a target take from one end or the other."""

    def __init__(self, atoms: list[Atom], known: Mapping[Symbol, Collection[int]], rule: LengthRule) -> None:
        self.atoms, self.known, self.rule = atoms, known, rule

    def _one(self, atom: Atom) -> bool:
        """Return whether an atom is batch or time of which the file declares the size 1."""
        return isinstance(atom, Symbol) and 1 in self.known.get(atom, ())

    def take(self, wanted: Dim, last: bool) -> list[Atom] | None:
        """Return the atoms of a size of the target, taken from the front, or from the back with ``last``; None where they do not fit."""
        place, group = (-1 if last else 0), list[Atom]()
        symbols, need = self._wanted(wanted)
        if wanted == 1:
            return [self.atoms.pop(place)] if self.atoms and self._one(self.atoms[place]) else []
        while symbols or need > 1:
            if not self.atoms:
                return None
            atom = self.atoms.pop(place)
            if isinstance(atom, Symbol):
                sizes = self.known.get(atom, ())
                size = next(iter(sizes)) if len(sizes) == 1 else 0
                if atom in symbols:
                    symbols.remove(atom)
                elif size > 1 and need % size == 0:
                    need //= size
                elif size != 1:
                    return None
                group.append(atom)
            elif need % atom == 0:
                need //= atom
                group.append(atom)
            elif need > 1 and atom % need == 0:
                self.atoms.insert(len(self.atoms) if last else 0, atom // need)
                group.append(need)
                need = 1
            else:
                return None
        return group[::-1] if last else group

    def _ones_before(self, wanted: Dim) -> list[Atom]:
        """Return the atoms at the front that are a batch or time of 1 and no part of the next size: they belong to the size before it."""
        symbols, found = self._wanted(wanted)[0], list[Atom]()
        while self.atoms and self._one(self.atoms[0]) and self.atoms[0] not in symbols:
            found.append(self.atoms.pop(0))
        return found

    def _wanted(self, wanted: Dim) -> tuple[list[Symbol], int]:
        """Return the symbols and the number that a size of a target is the product of."""
        if isinstance(wanted, Product):
            return [TIME if rule_of(f) == self.rule else f for f in wanted.factors], wanted.count
        if isinstance(wanted, Symbol):
            return [*MERGED.get(wanted, (TIME if rule_of(wanted) == self.rule else wanted,))], 1
        return [], int(wanted)

    def whole(self, target: Sequence[Dim]) -> list[list[Atom]] | None:
        """Return the atoms of each size of a target, of which one may be -1; None where they do not fit."""
        free = next((k for k, d in enumerate(target) if not isinstance(d, Symbol) and d == -1), len(target))
        front = []
        for k, wanted in enumerate(target[:free]):
            group = self.take(wanted, False)
            after = target[k + 1] if k + 1 < len(target) else 1
            if group and after not in (1, -1):
                group += self._ones_before(after)
            front.append(group)
        back = [self.take(d, True) for d in target[:free:-1]][::-1]
        groups = [*front, *([self.atoms] if free < len(target) else []), *back]
        left = [] if free < len(target) else self.atoms
        if any(group is None for group in groups):
            return None
        found: list[list[Atom]] = [list(group) for group in groups if group is not None]
        if left and all(self._one(atom) for atom in left) and found:  # a batch of one that a target leaves out
            place = next((k for k in reversed(range(len(found))) if any(isinstance(a, Symbol) for a in found[k])), -1)
            found[place] += left
            left = []
        return None if left else found


def regrouped(build: Builder, value: Features, target: Sequence[Dim]) -> Features | None:
    """Return a value reshaped to a target that merges or splits batch, time and features in their order; None where that is not what it does.

    Merged axes that the target keeps stay merged. Steps and features are merged only where the batch is merged with them.
    """
    known = build.sizes(value)
    if (kept := _kept(value, target, known)) is not None:
        return kept
    made = _Regrouping(atoms_of(value.shape), known, build.length_rule(value)).whole(target)
    if made is not None and 1 in known.get(BATCH, ()):
        _put_batch(made)
    axes = None if made is None else [_axis(group) for group in made]
    if made is None or axes is None or any(axis is None for axis in axes):
        return None
    sizes = [math.prod(atom for atom in group if not isinstance(atom, Symbol)) for group in made]
    if math.prod(sizes) != value.ids.size:
        return None
    symbols = tuple(axis if isinstance(axis, Symbol) else None for axis in axes)
    return Features(value.ids.reshape(sizes), symbols)


def _put_batch(groups: list[list[Atom]]) -> None:
    """Let an axis of size 1 be the batch, which has one sequence, where it would be merged with features."""
    ones = [k for k, group in enumerate(groups) if not group]
    for group in groups:
        if ones and BATCH in group and any(not isinstance(atom, Symbol) for atom in group):
            group.remove(BATCH)
            groups[ones.pop(0)].append(BATCH)


def _kept(value: Features, target: Sequence[Dim], known: Mapping[Symbol, Collection[int]]) -> Features | None:
    """Return a value of which the target drops axes of size 1 alone, and names merged ones by their declared sizes; None for another."""
    if not is_banded(value) or len(target) > value.ids.ndim:
        return None
    wide = [k for k, axis in enumerate(value.axes) if axis is not None or value.ids.shape[k] != 1]
    places = [place for place, size in enumerate(target) if size != 1]
    if len(wide) != len(places):
        return None
    axes, shape = [None] * len(target), [1] * len(target)  # type: list[Symbol | None], list[int]
    for k, place in zip(wide, places, strict=True):
        size, axis = value.ids.shape[k], value.axes[k]
        batch = axis.factors[0] if isinstance(axis, Banded) and len(axis.factors) == 1 else axis
        numbers = {size} if axis is None else {size * n for n in known.get(batch, ())} if batch is not None else set()
        if target[place] is not axis and target[place] not in numbers:
            return None
        axes[place], shape[place] = axis, size
    return Features(value.ids.reshape(shape), tuple(axes))


def is_banded(value: object) -> bool:
    """Return whether a value has an axis that features and the batch are merged to."""
    return isinstance(value, Features) and any(isinstance(axis, Banded) for axis in value.axes)


def through(node: Node, build: Builder, handler: Callable[[Node, Builder], Any]) -> Any:
    """Return what an operator makes of values with merged axes; None where it reads none, or takes such axes itself.

    What treats each row by itself computes of all bands of a step at once, whose axis is one of features meanwhile.
    """
    if node.op in MOVES or not any(map(is_banded, node.inputs)):
        return None
    first = next(value for value in node.inputs if is_banded(value))
    if node.op not in EACH:
        raise node.refuse(
            f"reads {first.describe()}, an axis of which batch and features are merged to; only recurrent layers and what treats each row by "
            "itself can; re-export with them as separate axes there"
        )
    places = {k - first.ids.ndim: axis for k, axis in enumerate(first.axes) if isinstance(axis, Banded)}
    operands = []
    for name, value in zip(node.input_names, node.inputs, strict=True):
        if isinstance(value, Features):
            if any(-value.ids.ndim > k or value.axes[k] is not axis for k, axis in places.items()):
                raise node.refuse(
                    f"joins {first.describe()} and '{name}' {value.describe()}, whose merged axes differ; re-export with both merged in one "
                    "order"
                )
            value = Features(value.ids, tuple(None if isinstance(a, Banded) else a for a in value.axes))
        elif isinstance(value, np.ndarray) and not is_shape(value):
            _check_alike(node, value, places)
        operands.append(value)
    results = handler(node.as_operator(node.op, operands, node.input_names), build)
    listed = results if isinstance(results, tuple) else (results,)
    return tuple(_labelled(node, result, places) if isinstance(result, Features) else result for result in listed)


def _check_alike(node: Node, constant: Any, places: Mapping[int, Banded]) -> None:
    """Refuse a constant of elementwise operators that has an entry for each row of a merged axis: the batch would be fixed by it."""
    if node.op in ("MatMul", "Gemm"):
        return
    for k, axis in places.items():
        if -k <= constant.ndim and constant.shape[k] > 1:
            raise node.refuse(
                f"computes with a constant of shape {list(constant.shape)} along the axis {axis}, which batch and features are merged to; "
                "re-export with them as separate axes there"
            )


def _labelled(node: Node, result: Features, places: Mapping[int, Banded]) -> Features:
    """Return a result with merged axes where its operand had them."""
    axes = list(result.axes)
    for k, axis in places.items():
        if -k > len(axes) or axes[k] is not None or result.ids.shape[k] != axis.count:
            raise node.refuse(
                f"moves or sums the axis {axis}, which batch and features are merged to; re-export with both apart"
            )
        axes[k] = axis
    return Features(result.ids, tuple(axes))
