"""Normalizations, variances and roots of them that a graph computes by single operators become one layer each.

The layers that the operators made before stay where something else reads them, and are dropped with all that no output depends on.
"""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.kinds.moment import Moment
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.budget import ELEMENT_WORK
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expansion import Expansion, Sum, nonzero, number
from qrnn.onnx_import.expressions import Term
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.normalizing import grouped, of_groups
from qrnn.onnx_import.reduced_features import record
from qrnn.onnx_import.statistics import Statistic, bases
from qrnn.onnx_import.values import Features, Symbol

EXPANSION_WORK = 2_000
"""Nominal nanoseconds for each operation of a term, to expand it."""

Axes = tuple[Symbol | None, ...]


def normalization(node: Node, build: Builder, term: Term, shape: tuple[int, ...], axes: Axes) -> Features | None:
    """Return a value of this shape that is ``term``, by one layer, where that is gain · (x - mean) / root + bias; None for any other."""
    found = _expanded(node, build, term)
    if found is None:
        return None
    e, total = found
    total = nonzero(total)
    bias = total.pop((), np.zeros(1))
    ours: list[tuple[FloatArray, IndexArray | None, Statistic | None, int]] = []
    for product, values in total.items():
        roots = [atom for atom, power in product if power == -1 and e.atoms[atom].kind == "root"]
        others = tuple((atom, power) for atom, power in product if atom not in roots)
        x, mean = e.single(others, "x"), e.single(others, "mean")
        if len(roots) != 1 or (x is None and mean is None):
            return None
        ours.append((values, None if x is None else x.ids, None if mean is None else mean.statistic, roots[0]))
    above = [own for own in ours if own[1] is not None]
    taken = [own for own in ours if own[2] is not None]
    if len(above) != 1 or len(taken) > 1 or len({own[3] for own in ours}) != 1:
        return None
    gain, flat, _, place = above[0]
    root = e.atoms[place]
    own, divisor = root.statistic, root.divisor
    if own is None or flat is None or divisor.centred != bool(taken):
        return None
    if taken:
        factor, _, mean_, _ = taken[0]
        if (
            mean_ is None
            or own.key not in [variant.key for variant in mean_.variants]
            or not np.allclose(factor, -gain, rtol=1e-6, atol=0.0)
        ):
            return None
    places = _places(own, flat)
    if places is None:
        return None
    node.reserve(4 * flat.size)
    gain, bias = (np.broadcast_to(what, (flat.size,)) for what in (gain, bias))
    ids = of_groups(node, build, flat, places, gain, bias, divisor, own.over_time)
    return Features(ids.reshape(shape), axes)


def _expanded(node: Node, build: Builder, term: Term) -> tuple[Expansion, Sum] | None:
    """Return a term as a sum of products, where it has statistics in it."""
    if not build.statistics:
        return None
    size = next((what.size for part in term.inside() for what in (part.ids, part.values) if what is not None), 0)
    node.budget.spend(f"{node.where}: what it computes", (EXPANSION_WORK + ELEMENT_WORK * size) * term.size)
    of = bases(build, term)
    if not of.size:
        return None
    e = Expansion(build, of)
    total = e.of(term)
    return None if total is None else (e, total)


def _places(own: Statistic, flat: IndexArray) -> IndexArray | None:
    """Return the places in ``flat`` of each group, [K, R], where the features there are whole groups, each once; else None."""
    count = own.rows.shape[1]
    if flat.size % count or own.which.shape != flat.shape:
        return None
    order = np.argsort(own.which, kind="stable").reshape(-1, count)
    which = own.which[order]
    if (which != which[:, :1]).any() or len(np.unique(which[:, 0])) != len(which):
        return None
    same = np.array_equal(np.sort(own.rows[which[:, 0]], axis=1), np.sort(flat[order], axis=1))
    return order if same else None


def deviation(node: Node, build: Builder, term: Term, value: Features) -> Features | None:
    """Return a value of the shape of ``value`` that is ``term``, where that is a root of a variance of features of a step; else None."""
    found = _expanded(node, build, term)
    if found is None:
        return None
    e, total = found
    if len(total := nonzero(total)) != 1:
        return None
    ((product, values),) = total.items()
    atom, factor = e.single(product, "root"), number(values)
    if atom is None or atom.statistic is None or factor is None or factor <= 0.0:
        return None
    d = atom.divisor
    if d.outside or d.least or atom.statistic.over_time:
        return None
    return _moment(node, build, atom.statistic, value.ids.shape, value.axes, True, factor, d.epsilon, d.centred)


def variance(node: Node, build: Builder, term: Term, shape: tuple[int, ...], axes: Axes) -> Features | None:
    """Return a value of this shape that is ``term``, where that is a variance of features of a step as E[x²] - E[x]²; else None."""
    found = _expanded(node, build, term)
    own = None if found is None else found[0].variance(found[1])
    if own is None or not own[0].centred or own[0].over_time:
        return None
    statistic, factor, epsilon = own
    return _moment(node, build, statistic, shape, axes, False, factor, epsilon / factor, True)


def _moment(
    node: Node, build: Builder, own: Statistic, shape: tuple[int, ...], axes: Axes, root: bool, factor: float, epsilon: float, centred: bool
) -> Features | None:  # fmt: skip
    """Return one moment of each of the groups that a statistic's features have, each group once."""
    if len(np.unique(own.which)) != own.which.size:
        return None
    rows = own.rows[own.which]
    made = Statistic(
        rows, np.arange(len(rows)), False, False, centred, root, False, factor, epsilon, np.sort(rows, axis=1).tobytes()
    )
    result = moments_of(node, build, made)
    return Features(result.ids.reshape(shape), axes)


def moments_of(node: Node, build: Builder, made: Statistic) -> Features:
    """Return a feature for each group of a statistic of a step, by a layer."""
    tensor, count, inner, indices = grouped(node, build, made.rows)
    first = indices.reshape(made.rows.shape)[:, 0]
    output = build.result(node, len(made.rows), tensor.has_time)
    own = (made.centred, made.root, made.factor, made.epsilon)
    build.layers.append(Moment(node.name, tensor.name, output.name, len(made.rows), count, inner, *own))
    ids = first // (count * inner) * inner + first % inner + output.start
    result = Features(ids, (None,))
    record(build, result, made.rows, False, "mean", made)
    return result


def norm_of(node: Node, build: Builder, rows: IndexArray, squared: bool) -> Features:
    """Return the L2 norm of each group of ids [K, R], or its square."""
    count = rows.shape[1]
    base = build.sources(build.computable(node, rows)).reshape(rows.shape)
    made = Statistic(
        base, np.arange(len(rows)), False, root=not squared, factor=float(count) if squared else math.sqrt(count),
        digest=np.sort(base, axis=1).tobytes(),
    )  # fmt: skip
    return moments_of(node, build, made)
