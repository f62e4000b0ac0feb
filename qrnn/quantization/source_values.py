"""The values that a graph input or an embedding has, and the range of each feature that its integers should cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import FloatArray
from qrnn.quantization.calibrate import PERCENTILE, Histogram

Remembered = TypeVar("Remembered")

WEIGHT_NOISE = 9.0
"""How much more the square of a value counts than that of its format's end, at eight bits, in the error of a product of weight and value.

A format of eight bits rounds values to 1/127 of its end, and weights to 1/127 of the row's largest, which is some three times their RMS. The
error of a product is then proportional to end² + 9 · value².
"""

OFFSET_GAIN = {127: 2.0, 32767: 1.12}
"""How many times as large the error of products must be with a range about zero for an offset to be taken, by the limit of integers.

Of eight bits it is 3 dB: a range about zero also covers values of the sign that calibration did not show. Of sixteen bits, which have
room for such values, it is half a dB.
"""


FAR = 12.0
"""The most median distances that a value counts in `SourceValues.spread`: 8 deviations of normal values."""

LEAST_FOR_GROWTH = 64
"""The least number of values from which `SourceValues.growth` is taken."""


@dataclass(frozen=True)
class Span:
    """The range ``centre`` ± ``half`` of each feature, [F] or [1] of the whole tensor; ``dead`` features have one value, and half 0."""

    centre: FloatArray
    half: FloatArray
    dead: npt.NDArray[np.bool_]


class SourceValues:
    """The values of a source, ``rows`` [M, F]: all that an embedding has, or those of the real steps of calibration."""

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows
        self._known: dict[Any, Any] = {}

    def remembered(self, key: tuple[object, ...], make: Callable[[], Remembered]) -> Remembered:
        """Return what ``make`` gives, of the call that first asked for ``key``: conversions with the same ranges ask again and again."""
        if key not in self._known:
            self._known[key] = make()
        found: Remembered = self._known[key]
        return found

    @cached_property
    def low(self) -> FloatArray:
        """Return the least value of each feature, [F]."""
        low: FloatArray = self.rows.min(axis=0)
        return low

    @cached_property
    def high(self) -> FloatArray:
        """Return the largest value of each feature, [F]."""
        high: FloatArray = self.rows.max(axis=0)
        return high

    @property
    def largest(self) -> FloatArray:
        """Return the largest magnitude of each feature, [F]."""
        return np.maximum(-self.low, self.high)

    @cached_property
    def whole(self) -> SourceValues:
        """Return the values as those of one feature."""
        return SourceValues(self.rows.reshape(-1, 1))

    def span(self, calibrator: str, limit: int, offsets: bool) -> Span:
        """Return the range of each feature by the calibrator, for integers within ±limit.

        It is about zero, or, where ``offsets`` are allowed and it pays by `OFFSET_GAIN`, about the centre with which products with weights have
        the least error: near the middle of the values for narrow integers, which count every step, and near their mean for wide ones, since
        what rounding has changed of a weight is multiplied by each value's distance from the centre.
        """
        return self.remembered(("span", calibrator, limit, offsets), lambda: self._span(calibrator, limit, offsets))

    def _span(self, calibrator: str, limit: int, offsets: bool) -> Span:
        dead = self.low == self.high
        centre = np.zeros(len(dead))
        half = self._half(centre, calibrator, limit)
        if offsets:
            other = self._centre(calibrator, limit)
            about = self._half(other, calibrator, limit)
            pays = self._error(centre, half, limit) >= OFFSET_GAIN[limit] * self._error(other, about, limit)
            centre, half = np.where(pays, other, 0.0), np.where(pays, about, half)
            centre[dead], half[dead] = self.low[dead], 0.0
        return Span(centre, half, dead)

    def deviation(self, centre: FloatArray) -> FloatArray:
        """Return the root mean square of each feature's distance from ``centre``, [F]."""
        deviation: FloatArray = np.sqrt(self.rows.var(axis=0) + (self.rows.mean(axis=0) - centre) ** 2)
        return deviation

    def spread(self, centre: FloatArray) -> FloatArray:
        """Return how far from ``centre`` values lie, [F]: their deviation from it, in which none counts as more than `FAR` median distances.

        The few largest values of a heavy tail, on which gates saturate, say little of the others, and differ from data to data.
        """
        distance = np.abs(self.rows - centre)
        median = np.median(distance, axis=0)
        spread: FloatArray = np.sqrt(
            (np.minimum(distance, np.where(median > 0.0, FAR * median, np.inf)) ** 2).mean(axis=0)
        )
        return spread

    def growth(self, centre: FloatArray) -> FloatArray:
        """Return by which factor the largest distance from ``centre`` grows with eight times the data, [F]; 1 for few data.

        It compares all values with each eighth of them, taken in turn, so that a loud sequence is in each.
        """
        if len(self.rows) < LEAST_FOR_GROWTH:
            return np.ones(len(centre))
        distance = np.abs(self.rows - centre)
        part = np.median([distance[k::8].max(axis=0) for k in range(8)], axis=0)
        whole = distance.max(axis=0)
        growth: FloatArray = np.divide(whole, part, out=np.full(len(centre), np.inf), where=part > 0.0)
        return np.where(whole > 0.0, growth, 1.0)

    def _error(self, centre: FloatArray, half: FloatArray, limit: int) -> FloatArray:
        """Return what the error of products is proportional to, [F]; see `WEIGHT_NOISE`."""
        error: FloatArray = half**2 + WEIGHT_NOISE * (limit / 127) ** 2 * self.deviation(centre) ** 2
        return error

    def _centre(self, calibrator: str, limit: int) -> FloatArray:
        """Return the centre [F] of least error: it lies between the mean and the middle of the range."""
        low, high = self.low, self.high
        if calibrator in ("percentile", "mse"):
            outside = (100.0 - PERCENTILE) / 2
            low, high = np.percentile(self.rows, [outside, 100.0 - outside], axis=0)
        mean, middle = self.rows.mean(axis=0), low + (high - low) / 2
        weight = WEIGHT_NOISE * (limit / 127) ** 2
        far_end = np.where(middle >= mean, high, low)
        best = mean + (far_end - mean) / (1.0 + weight)
        centre: FloatArray = np.where(middle >= mean, np.minimum(best, middle), np.maximum(best, middle))
        return centre

    def _half(self, centre: FloatArray, calibrator: str, limit: int) -> FloatArray:
        if calibrator in ("percentile", "mse"):
            distances = Histogram(len(centre))
            distances.add(self.rows - centre)
            return distances.threshold(calibrator, limit)
        return np.maximum(self.high - centre, centre - self.low)
