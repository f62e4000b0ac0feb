"""Means, variances and norms of features as graphs spell them out, and what the values are that are divided by them: found by their equation.

A layer that reduces features, of a step or over time, leaves a `Statistic`: of which features its output holds the mean, or the mean of the
squares, or a root of that. What elementwise operators make of features and statistics (`qrnn.onnx_import.expressions`) is expanded into a
sum of products, in which (x - mean) / sqrt(variance + epsilon) · gain + bias looks the same however it was spelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, square_of, term_of
from qrnn.onnx_import.normalizing import Divisor
from qrnn.onnx_import.values import TIME, Features, Tensor

MOST_PRODUCTS = 12
"""The most products of a sum that is looked at."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """What the features of a tensor, or those at some places of it, are of the groups ``rows`` [K, R] of features.

    The mean of a group, or factor · (variance + epsilon), or with ``root`` factor · sqrt(variance + epsilon); of the mean of the squares
    where it is not ``centred``. ``which`` [n] has the group of each feature.
    """

    rows: IndexArray
    which: IndexArray
    over_time: bool
    mean: bool = False
    centred: bool = False
    root: bool = False
    sample: bool = False
    factor: float = 1.0
    epsilon: float = 0.0
    digest: bytes = b""
    direct: Statistic | None = None
    """Of a mean of means, that of the means themselves, as which a graph may take it too."""

    @property
    def variants(self) -> tuple[Statistic, ...]:
        """Return the statistic, and what it is of the means that it is of."""
        return (self,) if self.direct is None else (self, self.direct)

    def at(self, which: IndexArray) -> Statistic:
        """Return the statistic of features that have these groups."""
        return replace(self, which=which, direct=None if self.direct is None else replace(self.direct, which=which))

    @property
    def key(self) -> tuple[bool, bytes, bytes]:
        """Return what statistics of the same groups have in common."""
        return self.over_time, self.digest, self.which.tobytes()


def record(
    build: Builder, result: Features, rows: IndexArray, over_time: bool, function: str, made: Statistic | None = None
) -> None:
    """Record what a reduction's ``result``, row-major, holds of the groups of ids ``rows`` [K, R].

    ``function`` is mean or sum; ``made`` says what it is where a layer of its own computes a root or a variance.
    """
    parts = build.book.parts(result.ids)
    if len(parts) != 1 or parts[0].tensor.features != result.ids.size or (over_time and function == "sum"):
        return
    build.budget.value("what is reduced", 2 * rows.size)
    found = made or statistic(build, rows, over_time, 1.0 if function == "mean" else float(rows.shape[1]))
    which = np.empty(result.ids.size, np.int64)
    which[parts[0].indices] = found.which
    build.statistics[parts[0].tensor.start] = found.at(which)


def statistic(build: Builder, rows: IndexArray, over_time: bool, factor: float) -> Statistic:
    """Return what ``factor`` times the means of groups of features are: of these themselves, or of what their squares are of."""
    of: IndexArray = rows.reshape(-1)
    direct: Statistic | None = None
    mean, base = True, square_of(resolved(build, of))
    if base is not None and base.ids is not None:
        of, mean = base.ids, False
    elif (inner := _of_reduced(build, of, over_time)) is not None:  # a mean of means is that of all
        if inner.mean:
            direct = _of(build, of, rows.shape, over_time, True, False, factor)
        of, mean, base = inner.rows[inner.which].reshape(-1), inner.mean, None
        factor, over_time = factor * inner.factor, over_time or inner.over_time
    shape, centred = (len(rows), of.size // max(1, len(rows))), False
    if not mean:
        base = resolved(build, of) if base is None else base
        own = Expansion(build, bases(build, base)).distance(base)
        for means in () if own is None else own[1].variants:
            if own is not None and means.over_time == over_time and _is_partition(means, own[0], shape):
                of, centred = own[0], True
    return replace(_of(build, of, shape, over_time, mean, centred, factor), direct=direct)


def _of(
    build: Builder, flat: IndexArray, shape: tuple[int, ...], over_time: bool, mean: bool, centred: bool, factor: float
) -> Statistic:
    rows = sources(build, flat).reshape(shape)
    digest = np.sort(rows, axis=1).tobytes()
    return Statistic(rows, np.arange(len(rows)), over_time, mean, centred, factor=factor, digest=digest)


def _of_reduced(build: Builder, flat: IndexArray, over_time: bool) -> Statistic | None:
    """Return the means, or means of squares, that features are which are reduced once more; None where they are none."""
    found = known(build, resolved(build, flat).ids if known(build, flat) is None else flat)
    if found is None or found.root or found.epsilon or found.sample or (found.over_time and over_time):
        return None
    if len(np.unique(found.which)) != found.which.size:
        return None
    return found if found.mean or not found.centred else None


def sources(build: Builder, flat: IndexArray) -> IndexArray:
    """Return ids as layers read them, and where Concat layers gather them from."""
    moment = {part.tensor.kind for part in build.book.parts(flat)} == {"moment"}
    return flat if moment else build.sources(flat)


def resolved(build: Builder, flat: IndexArray) -> Term:
    """Return what is known of features, also behind a repetition over time and behind a Concat."""
    for _ in range(4):
        term = term_of(build, Features(flat, (None,)))
        if term.op or known(build, flat) is not None:
            return term
        parts = build.book.parts(flat)
        vector: Tensor | None = build.vectors.get(parts[0].tensor.start) if len(parts) == 1 else None
        behind = build.sources(flat) if vector is None else parts[0].indices + vector.start
        if np.array_equal(behind, flat):
            return term
        flat = behind
    return Term(flat)


def known(build: Builder, flat: IndexArray | None) -> Statistic | None:
    """Return the statistic that features are; None where they are none, or several tensors."""
    parts = build.book.parts(flat) if build.statistics and flat is not None else []
    found: Statistic | None = build.statistics.get(parts[0].tensor.start) if len(parts) == 1 else None
    return None if found is None else found.at(found.which[parts[0].indices])


def bases(build: Builder, term: Term) -> IndexArray:
    """Return the features of which a term has statistics, sorted."""
    found = []
    waiting, looked = [term], 0
    while waiting and looked < 200:
        part, looked = waiting.pop(), looked + 1
        waiting += part.args
        if part.ids is not None:
            behind = part if part.op else resolved(build, part.ids)
            if behind is not part:
                waiting += behind.args
            if behind.ids is not None and (own := known(build, behind.ids)) is not None:
                found += [variant.rows.reshape(-1) for variant in own.variants]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _is_partition(own: Statistic, x: IndexArray, shape: tuple[int, ...]) -> bool:
    """Return whether features x, [K · R] row-major, are those of the groups whose means are taken away from them, whole groups each."""
    rows = x.reshape(shape)
    which = own.which.reshape(shape)
    if (which != which[:, :1]).any() or own.rows.shape[1] != shape[1]:
        return False
    return np.array_equal(np.sort(own.rows[which[:, 0]], axis=1), np.sort(rows, axis=1))


NO_DIVISOR = Divisor()

# --- sums of products ---------------------------------------------------------------------------------------------------------------------


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
