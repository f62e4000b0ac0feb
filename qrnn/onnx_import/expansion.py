"""What elementwise operators make of features and statistics, as sums of products: their equation, however it was spelled.

In such a sum (x - mean) / sqrt(variance + epsilon) · gain + bias looks the same in each of its spellings. Terms are those of
`qrnn.onnx_import.expressions`, and statistics those of `qrnn.onnx_import.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term
from qrnn.onnx_import.normalizing import Divisor
from qrnn.onnx_import.statistics import Statistic, known, resolved, sources
from qrnn.onnx_import.values import TIME

MOST_PRODUCTS = 12
"""The most products of a sum that is looked at."""

NO_DIVISOR = Divisor()


@dataclass(frozen=True, eq=False)
class Atom:
    """A factor of a product: features x, a mean, a variance, or the root that a divisor is."""

    kind: Literal["x", "mean", "variance", "root"]
    ids: IndexArray | None = None
    statistic: Statistic | None = None
    divisor: Divisor = NO_DIVISOR


Product = tuple[tuple[int, int], ...]
"""Numbers of atoms, in order, and their powers."""

Sum = dict[Product, FloatArray]
"""Products and the constants [n], or [1], that they are multiplied by."""


class Expansion:
    """Terms as sums of products; features among ``bases`` stand for themselves."""

    def __init__(self, build: Builder, bases: IndexArray) -> None:
        self.build, self.bases = build, bases
        self.atoms: list[Atom] = []
        self._numbers: dict[object, int] = {}

    def of(self, term: Term) -> Sum | None:
        """Return a term as a sum; None for one that is none of few products."""
        if term.values is not None:
            return {(): term.values}
        if term.ids is not None:
            own = sources(self.build, term.ids)
            if self.bases.size and bool(np.isin(own, self.bases).all()):
                return self._atom(own.tobytes(), Atom("x", own))
            behind = term if term.op else resolved(self.build, term.ids)
            if behind.ids is not None and (found := known(self.build, behind.ids)) is not None:
                return self._statistic(found)
            if not behind.op:
                return self._atom(own.tobytes(), Atom("x", own))
            term = behind
        rule = _RULES.get(term.op)
        total = None if rule is None else rule(self, term)
        if total is None and term.ids is not None:
            own = sources(self.build, term.ids)
            return self._atom(own.tobytes(), Atom("x", own))
        return total if total is None or len(total) <= MOST_PRODUCTS else None

    def _atom(self, key: object, atom: Atom) -> Sum:
        number = self._numbers.setdefault((atom.kind, key), len(self.atoms))
        if number == len(self.atoms):
            self.atoms.append(atom)
        return {((number, 1),): np.ones(1)}

    def _statistic(self, own: Statistic) -> Sum:
        factor = np.full(1, own.factor)
        if own.mean:
            return times(self._atom(own.key, Atom("mean", statistic=own)), {(): factor})
        plain = replace(own, root=False, factor=1.0, epsilon=0.0)
        if own.root:
            return times(self.root(plain, Divisor(own.centred, own.epsilon, sample=own.sample)), {(): factor})
        total = self._atom((own.centred, own.sample, own.key), Atom("variance", statistic=plain))
        return times(plus(total, {(): np.full(1, own.epsilon)}, 1.0), {(): factor})

    def root(self, own: Statistic, divisor: Divisor) -> Sum:
        """Return a root as a sum of one product."""
        return self._atom((divisor, own.key), Atom("root", statistic=own, divisor=divisor))

    def single(self, product: Product, kind: str, power: int = 1) -> Atom | None:
        """Return the atom of this kind that a product is a power of; None for any other product."""
        if len(product) != 1 or product[0][1] != power:
            return None
        atom = self.atoms[product[0][0]]
        return atom if atom.kind == kind else None

    def distance(self, term: Term) -> tuple[IndexArray, Statistic] | None:
        """Return x and the mean of a term that is x - mean, or its negative; None for any other term."""
        total = self.of(term)
        if total is None or len(total := nonzero(total)) != 2:
            return None
        found = [(self.single(p, "x"), self.single(p, "mean"), number(values)) for p, values in total.items()]
        x = next((a for a, _, _ in found if a is not None), None)
        mean = next((b for _, b, _ in found if b is not None), None)
        a, b = found[0][2], found[1][2]
        if x is None or mean is None or x.ids is None or mean.statistic is None or a is None or b is None:
            return None
        return (x.ids, mean.statistic) if abs(a) == 1.0 and a == -b else None

    def inverse(self, total: Sum) -> Sum | None:
        """Return 1 / total, for a product of roots, and for one root and a constant."""
        total = nonzero(total)
        constant = total.get(())
        if len(total) == 2 and constant is not None:
            (rest,) = (key for key in total if key)
            scale, added, atom = number(total[rest]), number(constant), self.single(rest, "root")
            if atom is None or atom.statistic is None or scale is None or added is None or scale <= 0.0 or added < 0.0:
                return None
            if atom.divisor.outside or atom.divisor.least:
                return None
            outer = self.root(atom.statistic, replace(atom.divisor, outside=added / scale))
            total = times(outer, {(): np.full(1, scale)})
        if len(total) != 1:
            return None
        ((product, values),) = total.items()
        if not values.all() or any(self.atoms[atom].kind != "root" for atom, _ in product):
            return None
        return {tuple((atom, -power) for atom, power in product): 1.0 / values}

    def variance(self, total: Sum) -> tuple[Statistic, float, float] | None:
        """Return the statistic, the factor and what is added, of a sum that is factor · variance + constant; also as E[x²] - E[x]²."""
        epsilon = number(total.get((), np.zeros(1)))
        rest = {key: values for key, values in nonzero(total).items() if key}
        powers = [(atom, key) for key in rest if (atom := self.single(key, "variance")) is not None]
        if len(powers) != 1 or epsilon is None or epsilon < 0.0:
            return None
        atom, product = powers[0]
        own, factor = atom.statistic, number(rest.pop(product))
        if own is None or factor is None or factor <= 0.0:
            return None
        if not rest:
            counts = (
                [own.rows.shape[1] * steps for steps in self.build.baked[TIME]] if own.over_time and own.centred else []
            )
            if any(
                n > 1 and math.isclose(factor, n / (n - 1), rel_tol=1e-6) for n in counts
            ):  # of a declared number of steps
                own, factor, epsilon = replace(own, sample=True), 1.0, epsilon
            return own, factor, epsilon
        ((key, values), *others) = rest.items()
        mean, taken = self.single(key, "mean", 2), number(values)
        if others or own.centred or own.sample or mean is None or mean.statistic is None or taken is None:
            return None
        same = own.key in [variant.key for variant in mean.statistic.variants] and math.isclose(
            taken, -factor, rel_tol=1e-6
        )
        return (replace(own, centred=True), factor, epsilon) if same else None

    def bounded(self, total: Sum, least: float) -> Sum | None:
        """Return max(total, least) of a root; and of a variance, which is not below 0."""
        total = nonzero(total)
        if len(total) == 1:
            ((product, values),) = total.items()
            atom, scale = self.single(product, "root"), number(values)
            if atom is not None and atom.statistic is not None and scale is not None and scale > 0.0 <= least:
                divisor = replace(atom.divisor, least=max(atom.divisor.least, least / scale))
                return times(self.root(atom.statistic, divisor), {(): np.full(1, scale)})
        return total if least == 0.0 and self.variance(total) is not None else None


def number(values: FloatArray) -> float | None:
    """Return the number that all constants are; None where they differ."""
    return float(values.flat[0]) if bool((values == values.flat[0]).all()) else None


def nonzero(total: Sum) -> Sum:
    """Return a sum without products of 0."""
    return {key: values for key, values in total.items() if values.any()}


def plus(a: Sum, b: Sum, sign: float) -> Sum:
    """Return a + sign · b."""
    found = dict(a)
    for key, values in b.items():
        found[key] = found.get(key, np.zeros(1)) + sign * values
    return found


def times(a: Sum, b: Sum) -> Sum:
    """Return a · b."""
    found: Sum = {}
    for left, x in a.items():
        for right, y in b.items():
            powers = dict(left)
            for atom, power in right:
                powers[atom] = powers.get(atom, 0) + power
            key = tuple(sorted((atom, power) for atom, power in powers.items() if power))
            found[key] = found.get(key, np.zeros(1)) + x * y
    return found


def _both(e: Expansion, term: Term) -> tuple[Sum, Sum] | None:
    a = e.of(term.args[0])
    b = None if a is None else e.of(term.args[1])
    return None if a is None or b is None else (a, b)


def _add(e: Expansion, term: Term) -> Sum | None:
    found = _both(e, term)
    return None if found is None else plus(*found, 1.0 if term.op == "add" else -1.0)


def _mul(e: Expansion, term: Term) -> Sum | None:
    found = _both(e, term)
    return None if found is None else times(*found)


def _div(e: Expansion, term: Term) -> Sum | None:
    found = _both(e, term)
    if found is None:
        return None
    constant = found[1].get(())
    if len(found[1]) == 1 and constant is not None:
        return times(found[0], {(): 1.0 / constant}) if constant.all() else None
    below = e.inverse(found[1])
    return None if below is None else times(found[0], below)


def _negative(e: Expansion, term: Term) -> Sum | None:
    found = e.of(term.args[0])
    return None if found is None else times(found, {(): np.full(1, -1.0)})


def _reciprocal(e: Expansion, term: Term) -> Sum | None:
    found = e.of(term.args[0])
    return None if found is None else e.inverse(found)


def _root(e: Expansion, term: Term) -> Sum | None:
    """Return the root of a variance, also of one that is no less than a constant."""
    inner, least = term.args[0], 0.0
    if not inner.op and inner.ids is not None and known(e.build, inner.ids) is None:
        inner = resolved(e.build, inner.ids)
    if inner.op == "max":
        a, b = inner.args
        bound, other = (a.number, b) if a.values is not None else (b.number, a)
        if bound is not None and bound > 0.0:
            inner, least = other, bound
    total = e.of(inner)
    found = None if total is None else e.variance(total)
    if found is None:
        return None
    own, factor, epsilon = found
    divisor = Divisor(own.centred, epsilon / factor, least=math.sqrt(least / factor), sample=own.sample)
    return times(e.root(own, divisor), {(): np.full(1, math.sqrt(factor))})


def _power(e: Expansion, term: Term) -> Sum | None:
    exponent = term.args[1].number
    if exponent == 2.0:
        found = e.of(term.args[0])
        return None if found is None or len(found) > 1 else times(found, found)
    if exponent in (0.5, -0.5):
        root = _root(e, term)
        return root if root is None or exponent > 0.0 else e.inverse(root)
    return _reciprocal(e, term) if exponent == -1.0 else None


def _largest(e: Expansion, term: Term) -> Sum | None:
    a, b = term.args
    bound, rest = (a.number, b) if a.values is not None else (b.number, a)
    total = None if bound is None else e.of(rest)
    return None if bound is None or total is None else e.bounded(total, bound)


def _smallest(e: Expansion, term: Term) -> Sum | None:
    """Return min(c / root, most), which is c / max(root, c / most)."""
    a, b = term.args
    most, rest = (a.number, b) if a.values is not None else (b.number, a)
    total = None if most is None or most <= 0.0 else e.of(rest)
    below = (
        None
        if total is None or len(nonzero(total)) != 1 or any(p > 0 for key in total for _, p in key)
        else e.inverse(total)
    )
    bounded = None if below is None or most is None else e.bounded(below, 1.0 / most)
    return None if bounded is None else e.inverse(bounded)


def _activation(e: Expansion, term: Term) -> Sum | None:
    """Return a Relu of a variance, which is not below 0."""
    if term.activation is None or term.activation.kind != "relu":
        return None
    total = e.of(term.args[0])
    return None if total is None else e.bounded(total, 0.0)


_RULES: dict[str, Callable[[Expansion, Term], Sum | None]] = {
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "div": _div,
    "neg": _negative,
    "reciprocal": _reciprocal,
    "sqrt": _root,
    "pow": _power,
    "max": _largest,
    "min": _smallest,
    "activation": _activation,
}
