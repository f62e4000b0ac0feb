"""Rare outliers of calibration data: a few values so far from all others that the range which holds them leaves the others few steps.

A sensor that drops out, or a corrupt reading, is one value in a hundred thousand. A range that holds it has steps that are too wide for
all the rest. A real tail is different: its values become rarer little by little, without a gap. A value is an outlier where

- it and those further out are few: at most one in `ONE_IN`, or a single one where there are `LEAST` values or more;
- there is a gap: it lies `GAP` times as far from the median as the next one further in;
- the gap costs the others something: with sixteen bits up to the outlier, their rounding lies less than `NEEDED_DB` below what they vary by.
  Where `SPARSE` of all values are one and the same number, which every range holds exactly, it costs nothing: a pixel at an image's margin
  has few values that are not 0, and they are what it has to say.

So a heavy tail is clipped only where it has such a gap *and* sixteen bits are too few for it. Where data have the gap and the cost, but too
many values lie beyond it or too few values are known at all, nothing is left out, and a warning says that the data cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.model.parts import FloatArray

ONE_IN = 10_000
"""The number of values of a feature for each one that may be an outlier."""

LEAST = 1_000
"""The least number of values of a feature of which one may be an outlier."""

LEAST_TO_WARN = 30
"""The least number of values of a feature that say anything about what is unlike the others."""

GAP = 8.0
"""The least ratio of distances from the median across a gap: 18 dB."""

NEEDED_DB = 60.0
"""The least ratio of a feature's variation to its rounding, at sixteen bits, with which a range is wide enough and not too wide.

Rounded weights of eight bits alone leave 40 to 50 dB.
"""

SPARSE = 0.9
"""The part of a feature's values that are its median exactly, from which on the others are not outliers but all that it has to say."""

_STEPS = 32767 * np.sqrt(12.0)
"""The largest distance over the deviation of its rounding, for sixteen bits."""


@dataclass(frozen=True)
class Gap:
    """The ``far`` values [K] of a feature beyond a gap, the furthest first, of ``count`` values; all others reach from low to high.

    ``ratio`` is how many times as far from the median the nearest of them is. ``rare``: whether they are outliers by all of the rules.
    """

    feature: int
    far: FloatArray
    count: int
    low: float
    high: float
    ratio: float
    rare: bool

    def __str__(self) -> str:
        """Return the gap in words."""
        value = f"{self.far[0]:.6g}" + (f" … {self.far[-1]:.6g}" if len(self.far) > 1 else "")
        what = "1 value" if len(self.far) == 1 else f"{len(self.far)} values"
        return (
            f"feature {self.feature}: {what} of {self.count} ({value}), {self.ratio:.0f} times as far from the median as the others, "
            f"which reach from {self.low:.6g} to {self.high:.6g}"
        )


def find_gaps(values: FloatArray) -> list[Gap]:
    """Return the gaps of values [M, F] that cost the values inside them something, at most one for each feature."""
    count = len(values)
    if count < LEAST_TO_WARN:
        return []
    few = max(count // ONE_IN, 1 if count >= LEAST else 0)
    most = max(few, min(count // 100, 1000), 1)
    distance = np.abs(values - np.median(values, axis=0))
    dense = (distance == 0.0).mean(axis=0) < SPARSE
    far = np.sort(np.partition(distance, count - most - 1, axis=0)[count - most - 1 :], axis=0)[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = (far[:-1] >= GAP * far[1:]) & (far[1:] > 0.0) & dense
    found = []
    for feature in np.nonzero(wide.any(axis=0))[0]:
        for k in (np.nonzero(wide[:, feature])[0] + 1)[::-1]:  # k values lie beyond; the innermost gap first
            if gap := _gap(int(feature), values[:, feature], distance[:, feature], far[:, feature], int(k), few):
                found.append(gap)
                break
    return found


def _gap(feature: int, values: FloatArray, distance: FloatArray, far: FloatArray, k: int, few: int) -> Gap | None:
    """Return the gap inside of the ``k`` furthest values; None where it costs the others nothing."""
    inside = distance <= far[k]
    rest = values[inside]
    if 20 * np.log10(rest.std() * _STEPS / far[0]) >= NEEDED_DB:
        return None
    order = np.argsort(-distance[~inside])
    return Gap(
        feature,
        values[~inside][order],
        len(values),
        float(rest.min()),
        float(rest.max()),
        float(far[k - 1] / far[k]),
        k <= few,
    )
