"""Pools over windows, and means, sums, largest and least values of the features of a step and of all steps."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count as whole
from qrnn.layers.checks import place, places_of
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.average_pool import AveragePool
from qrnn.model.kinds.max_pool import MaxPool
from qrnn.model.kinds.reduce import Reduce
from qrnn.model.kinds.running import Running
from qrnn.model.kinds.spread import Spread
from qrnn.model.reduced import Reduction
from qrnn.model.window import EACH, Window


def max_pool(
    t: Tensor,
    time: Window = EACH,
    *,
    band: Window = EACH,
    bands: int = 1,
    line: Window = EACH,
    lines: int = 1,
    name: str | None = None,
) -> Tensor:
    """Take the largest value of each channel in windows over time, and over lines and bands of a step; what lies outside takes no part.

    A step of ``t`` holds ``lines`` × ``bands`` × C features, with the C channels of a band one after the other. The output is
    y [N, T', P · C], where T' is `Window.count`, and P the product of those of lines and bands.
    """
    t, channels, shape = _pooled(place("max_pool", name), t, band, bands, line, lines)
    return simple_layer(
        "max_pool",
        name,
        (t,),
        shape,
        lambda own, names: MaxPool(own, names[0], own, channels, time, band, bands, line, lines),
    )


def average_pool(
    t: Tensor,
    time: Window = EACH,
    *,
    band: Window = EACH,
    bands: int = 1,
    padding_counts: bool = False,
    line: Window = EACH,
    lines: int = 1,
    name: str | None = None,
) -> Tensor:
    """Take the mean of each channel in windows over time, and over the lines and bands of a step.

    What lies outside counts as zeros where ``padding_counts`` says so, and else does not take part. Features and the output are as for
    `max_pool`.
    """
    t, channels, shape = _pooled(place("average_pool", name), t, band, bands, line, lines)
    counts = bool(padding_counts)
    return simple_layer(
        "average_pool",
        name,
        (t,),
        shape,
        lambda own, names: AveragePool(own, names[0], own, channels, time, band, bands, counts, line, lines),
    )


def spread(
    t: Tensor, *, root: bool = True, sample: bool = False, epsilon: float = 0.0, name: str | None = None
) -> Tensor:
    """Take the standard deviation of each feature over all steps so far, sqrt(variance + epsilon), or without ``root`` variance + epsilon.

    With ``sample`` the variance is that of a sample, divided by n - 1 instead of n. `last_step` of it is that of the whole sequence, as
    statistics pools have it (Snyder et al. 2018).
    """
    where = place("spread", name)
    t = sequence(where, t)
    added = float(epsilon)
    if not (np.isfinite(added) and added >= 0.0):
        raise DataError(f"{where}: epsilon is {epsilon}, expected a finite number of at least 0")
    shape = (t.features, True)
    return simple_layer(
        "spread",
        name,
        (t,),
        shape,
        lambda own, names: Spread(own, names[0], own, t.features, bool(root), bool(sample), added),
    )


def reduce(t: Tensor, function: Reduction, count: int, *, inner: int = 1, name: str | None = None) -> Tensor:
    """Take the mean, sum, max or min (``function``) of every ``count`` features of a step, which are ``inner`` features apart.

    A step of ``t`` is [outer, count, inner], row-major, and one of the output [outer, inner]; a vector without time likewise.
    """
    where = place("reduce", name)
    t = readable(where, t)
    own = _reduced(where, t, function, count, inner)
    return simple_layer(
        "reduce", name, (t,), (own[0], t.has_time), lambda layer, names: Reduce(layer, names[0], layer, function, *own)
    )


def running(t: Tensor, function: Reduction, count: int = 1, *, inner: int = 1, name: str | None = None) -> Tensor:
    """Take the mean, sum, max or min (``function``) of all steps so far, [N, T, F] → [N, T, F'].

    Its `qrnn.layers.last_step` is the mean (sum, max, min) of each sequence over its own length. ``count`` and ``inner`` are as in `reduce`:
    the features of a step are brought together too, with one rounding. A sequence has at most (2^31 - 1) / ``count`` steps.
    """
    where = place("running", name)
    t = sequence(where, t)
    own = _reduced(where, t, function, count, inner)
    return simple_layer(
        "running", name, (t,), (own[0], True), lambda layer, names: Running(layer, names[0], layer, function, *own)
    )


def _pooled(
    where: str, t: Tensor, band: Window, bands: int, line: Window, lines: int
) -> tuple[Tensor, int, tuple[int, bool]]:
    """Return the input of a pool, its channels, and the features of the output with its time axis."""
    t = sequence(where, t)
    bands, lines = whole(where, "bands", bands), whole(where, "lines", lines)
    if t.features % (lines * bands):
        given = f"lines={lines} and bands={bands}" if lines > 1 else f"bands={bands}"
        raise DataError(f"{where}: {given}, expected a divisor of its input's {t.features} features")
    channels = t.features // (lines * bands)
    return t, channels, (places_of(where, band, bands, line, lines) * channels, True)


def _reduced(where: str, t: Tensor, function: Any, count: Any, inner: Any) -> tuple[int, int, int]:
    """Return the features of a reduction's output, ``count`` and ``inner``."""
    if function not in get_args(Reduction):
        raise DataError(f"{where}: function={function!r}, expected one of {', '.join(get_args(Reduction))}")
    count, inner = whole(where, "count", count), whole(where, "inner", inner)
    if t.features % (count * inner):
        raise DataError(
            f"{where}: count={count} with inner={inner}, expected a divisor of its input's {t.features} features"
        )
    return t.features // count, count, inner
