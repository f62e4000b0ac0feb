"""The values that a graph input or an embedding has, and the range of each feature that its integers should cover."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.quantization.calibrate import PERCENTILE, Histogram

OFFSET_GAIN = np.sqrt(2.0)
"""How many times as wide the range about zero must be for an offset to be taken: 3 dB.

Less is not worth it. A range about zero also covers values of the sign that calibration did not show.
"""


@dataclass(frozen=True)
class Span:
    """The range ``centre`` ± ``half`` of each feature, [F] or [1] of the whole tensor; ``dead`` features have one value, and half 0."""

    centre: FloatArray
    half: FloatArray
    dead: FloatArray


class SourceValues:
    """The values of a source, ``rows`` [M, F]: all that an embedding has, or those of the real steps of calibration."""

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows

    @cached_property
    def low(self) -> FloatArray:
        """The least value of each feature, [F]."""
        low: FloatArray = self.rows.min(axis=0)
        return low

    @cached_property
    def high(self) -> FloatArray:
        """The largest value of each feature, [F]."""
        high: FloatArray = self.rows.max(axis=0)
        return high

    @property
    def largest(self) -> FloatArray:
        """The largest magnitude of each feature, [F]."""
        return np.maximum(-self.low, self.high)

    @cached_property
    def whole(self) -> SourceValues:
        """The values as those of one feature."""
        return SourceValues(self.rows.reshape(-1, 1))

    def span(self, calibrator: str, limit: int, offsets: bool) -> Span:
        """Return the range of each feature by the calibrator, for integers within ±limit.

        It is about zero, or, where ``offsets`` are allowed, about the middle of the values if that range is narrower by `OFFSET_GAIN`.
        """
        dead = self.low == self.high
        about_zero = self._half(np.zeros(len(dead)), calibrator, limit)
        centre, half = np.zeros(len(dead)), about_zero
        if offsets:
            middle = self._middle(calibrator)
            about_middle = self._half(middle, calibrator, limit)
            narrower = OFFSET_GAIN * about_middle <= about_zero
            centre, half = np.where(narrower, middle, 0.0), np.where(narrower, about_middle, about_zero)
            centre[dead], half[dead] = self.low[dead], 0.0
        return Span(centre, half, dead)

    def _middle(self, calibrator: str) -> FloatArray:
        low, high = self.low, self.high
        if calibrator in ("percentile", "mse"):
            outside = (100.0 - PERCENTILE) / 2
            low, high = np.percentile(self.rows, [outside, 100.0 - outside], axis=0)
        middle: FloatArray = low + (high - low) / 2
        return middle

    def _half(self, centre: FloatArray, calibrator: str, limit: int) -> FloatArray:
        if calibrator in ("percentile", "mse"):
            distances = Histogram(len(centre))
            distances.add(self.rows - centre)
            return distances.threshold(calibrator, limit)
        return np.maximum(self.high - centre, centre - self.low)
