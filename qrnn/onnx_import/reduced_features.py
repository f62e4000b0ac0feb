"""What a reduction's result is of the features that were reduced: of their squares, of means before it, and about which mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expansion import Expansion
from qrnn.onnx_import.expressions import square_of
from qrnn.onnx_import.statistics import Statistic, bases, known, resolved, sources
from qrnn.onnx_import.values import Features


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


def _is_partition(own: Statistic, x: IndexArray, shape: tuple[int, ...]) -> bool:
    """Return whether features x, [K · R] row-major, are those of the groups whose means are taken away from them, whole groups each."""
    rows = x.reshape(shape)
    which = own.which.reshape(shape)
    if (which != which[:, :1]).any() or own.rows.shape[1] != shape[1]:
        return False
    return np.array_equal(np.sort(own.rows[which[:, 0]], axis=1), np.sort(rows, axis=1))
