"""Log-mel energies of sampled sound, in integers: the front end that ``targets/front_end/qrnn_log_mel.c`` computes with the same bits.

A frame of samples is windowed, transformed by a fast Fourier transform, and its power is summed over triangular bands of the mel scale
(S. Davis, P. Mermelstein 1980; mel(f) = 2595 · log10(1 + f / 700)). Of the sums the natural logarithm is taken::

    X[k] = 1 / points · Σ_n hann[n] · x[n] · exp(-2πi · k · n / points)
    feature[b] = ln(max(Σ_k weight[b, k] · |X[k]|², 2^-16))

x are samples of 16 bits, as integers. `LogMel.real` computes this in float64. `LogMel.codes` computes it in integers, which stand for
features in units of 2^-10; it is the definition of the C. A frame is scaled by a power of two to 30 bits before its transform (a *block
floating point* number), so that quiet frames are as exact as loud ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.logarithms import LN2, LOG_FRAC, natural_log
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import DataError
from qrnn.model.log_table import log_table

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

CODE_FRAC = 10
"""The fraction bits of a feature: a code stands for code · 2^-10."""

FLOOR_BITS = 16
"""An energy below 2^-16 counts as 2^-16."""

LEAST_POINTS, MOST_POINTS = 32, 4096
"""The sizes of the transform; the smallest that holds the window is taken."""

MOST_BANDS = 256
POWER_SHIFT = 14
"""The bits that are cut off a power before it is weighted, so that the energy of a band stays below 2^62."""

_WINDOW_FRAC, _WEIGHT_FRAC, _TURN_FRAC, _SCALED_BITS = 15, 15, 31, 30
ENERGY_FRAC = 2 * _WINDOW_FRAC - POWER_SHIFT + _WEIGHT_FRAC
"""The fraction bits of an energy, of a frame that was not scaled."""

_FRAMES_AT_ONCE = 2048


@dataclass(frozen=True)
class LogMel:
    """The settings of a log-mel front end, which says what every table of it holds.

    ``rate`` is in Hz; ``window`` and ``hop``, the distance from frame to frame, in samples; the ``bands`` reach from ``low`` to ``high`` Hz.
    Raises DataError for settings that cannot be computed, and for a band that holds no frequency of the transform.
    """

    rate: int
    window: int
    hop: int
    bands: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 1000 <= self.rate <= 384_000:
            raise DataError(f"a rate of {self.rate} Hz, expected 1,000 to 384,000")
        if not LEAST_POINTS // 2 < self.window <= MOST_POINTS:
            raise DataError(
                f"frames of {self.window} samples, expected {LEAST_POINTS // 2 + 1} to {MOST_POINTS}; choose another length or rate"
            )
        if not 1 <= self.hop <= self.window:
            raise DataError(
                f"a frame every {self.hop} samples, expected 1 to {self.window}, the length of a frame: no sample may fall between frames"
            )
        if not 1 <= self.bands <= MOST_BANDS:
            raise DataError(f"{self.bands} bands, expected 1 to {MOST_BANDS}")
        if not 0 <= self.low < self.high <= self.rate / 2:
            raise DataError(
                f"bands from {self.low:g} to {self.high:g} Hz, expected rising frequencies from 0 to {self.rate / 2:g} Hz, half the rate"
            )
        empty = np.flatnonzero(~self.weights.any(1))
        if empty.size:
            raise DataError(
                f"band {empty[0]} of {self.bands} lies between two frequencies of the transform, {self.rate / self.points:.4g} Hz apart; "
                "choose fewer bands, longer frames or a higher lowest frequency"
            )

    @property
    def points(self) -> int:
        """Return the points of the transform: the power of two that holds a window."""
        return max(LEAST_POINTS, 1 << ceil(log2(self.window)))

    @cached_property
    def hann(self) -> Int64Array:
        """Return Hann's window in Q15, [window]; 1 is 32767."""
        place = np.arange(self.window) / self.window
        return _rounded(0.5 - 0.5 * np.cos(2 * np.pi * place), _WINDOW_FRAC)

    @cached_property
    def turns(self) -> Int64Array:
        """sin(2π · k / points) in Q31, k = 0 … 3/4 · points - 1; 1 is 2^31 - 1. The cosine stands a quarter further on."""
        place = np.arange(3 * self.points // 4) / self.points
        return _rounded(np.sin(2 * np.pi * place), _TURN_FRAC)

    @cached_property
    def weights(self) -> Int64Array:
        """Return triangles over the frequencies of the transform in Q15, [bands, points / 2 + 1]; 1 is 32767."""
        return _rounded(self._triangles, _WEIGHT_FRAC)

    @cached_property
    def _triangles(self) -> FloatArray:
        edges = np.linspace(_mel(self.low), _mel(self.high), self.bands + 2)
        edges = 700 * (10 ** (edges / 2595) - 1)
        bins = np.arange(self.points // 2 + 1) * self.rate / self.points
        rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        found: FloatArray = np.maximum(0.0, np.minimum(rising, falling))
        return found

    def frames(self, samples: Any) -> npt.NDArray[np.int16]:
        """Return the frames [T, window] of int16 samples [n], of which the last that are no whole frame are left out.

        Fewer samples than a window are one frame, with zeros behind them.
        """
        given = np.asarray(samples)
        if given.dtype != np.int16 or given.ndim != 1:
            raise DataError(f"samples of type {given.dtype} and shape {list(given.shape)}, expected int16 [n]")
        if len(given) < self.window:
            given = np.pad(given, (0, self.window - len(given)))
        return np.lib.stride_tricks.sliding_window_view(given, self.window)[:: self.hop]

    def real(self, samples: Any) -> FloatArray:
        """Return the features [T, bands] of int16 samples [n], computed in float64 by the equation above."""
        place = np.arange(self.window) / self.window
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * place)
        spectrum = np.fft.rfft(self.frames(samples) * hann, self.points) / self.points
        energy = (spectrum.real**2 + spectrum.imag**2) @ self._triangles.T
        found: FloatArray = np.log(np.maximum(energy, 2.0**-FLOOR_BITS))
        return found

    def level(self, samples: Any) -> FloatArray:
        """Return the logarithm of the power [T] of whole frames, by which `real` and `codes` are compared; silence counts as 2^-16."""
        windowed = self.frames(samples) * (self.hann / 2.0**_WINDOW_FRAC)
        found: FloatArray = np.log(np.maximum((windowed**2).sum(1) / self.points, 2.0**-FLOOR_BITS))
        return found

    def codes(self, samples: Any) -> npt.NDArray[np.int16]:
        """Return the features [T, bands] of int16 samples [n] as integers, the bits of the C; a code stands for code · 2^-10."""
        frames = self.frames(samples)
        parts = [self._codes(frames[k : k + _FRAMES_AT_ONCE]) for k in range(0, len(frames), _FRAMES_AT_ONCE)]
        return np.concatenate(parts)

    def _codes(self, frames: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        windowed = np.zeros((len(frames), self.points), np.int64)
        windowed[:, : self.window] = frames * self.hann
        largest = np.abs(windowed).max(1)
        shift = _SCALED_BITS - np.frexp(largest.astype(np.float64))[1].astype(np.int64)  # largest < 2^30: shift ≥ 0
        power = self._power(windowed << shift[:, None])
        energy = (power >> POWER_SHIFT) @ self.weights.T
        value = of_arrays(natural_log)(np.maximum(energy, 1), log_table().astype(np.int64))
        value = np.maximum(
            value - (ENERGY_FRAC + 2 * shift[:, None]) * LN2, -FLOOR_BITS * LN2
        )  # the floor, for energy 0
        drop = LOG_FRAC - CODE_FRAC
        codes: npt.NDArray[np.int16] = ((value + (1 << (drop - 1))) >> drop).astype(np.int16)  # ln(2^30) · 2^10 < 2^15
        return codes

    def _power(self, scaled: Int64Array) -> Int64Array:
        """Return |X|² [T, points / 2 + 1] of real frames [T, points] below 2^30, by a complex transform of half the points.

        Each step halves what it adds, so that no number grows: |z| stays below √2 · 2^30, and X is divided by ``points`` in the end.
        """
        half = self.points // 2
        real, imag = (
            part[:, _bit_reversed(half)] for part in (scaled[:, 0::2], scaled[:, 1::2])
        )  # even samples are the real part
        cosines, sines = self.turns[self.points // 4 :], self.turns
        size = 1
        while size < half:
            turn = np.arange(size) * (half // size)
            c, s = cosines[turn], sines[turn]
            grid = (len(scaled), half // (2 * size), 2, size)
            re, im = real.reshape(grid), imag.reshape(grid)
            a_re, b_re, a_im, b_im = re[:, :, 0] >> 1, re[:, :, 1], im[:, :, 0] >> 1, im[:, :, 1]
            t_re, t_im = _turned(b_re, b_im, c, s)
            real = np.stack([a_re + t_re, a_re - t_re], 2).reshape(len(scaled), half)
            imag = np.stack([a_im + t_im, a_im - t_im], 2).reshape(len(scaled), half)
            size *= 2
        k = np.arange(half // 2 + 1)
        other = (half - k) % half
        re, im, re_other, im_other = (part >> 1 for part in (real[:, k], imag[:, k], real[:, other], imag[:, other]))
        even_re, even_im = (re + re_other) >> 1, (im - im_other) >> 1
        t_re, t_im = _turned(im + im_other, re_other - re, cosines[k], sines[k])
        power = np.empty((len(scaled), half + 1), np.int64)
        power[:, half - k] = (even_re - t_re) ** 2 + (even_im - t_im) ** 2
        power[:, k] = (even_re + t_re) ** 2 + (even_im + t_im) ** 2
        return power


def _mel(hertz: float) -> float:
    return 2595 * log10(1 + hertz / 700)


def _turned(re: Int64Array, im: Int64Array, c: Int64Array, s: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return half of (re + i · im) · (c - i · s); c and s are in Q31, and each product is cut off to its upper 32 bits."""
    return ((re * c) >> 32) + ((im * s) >> 32), ((im * c) >> 32) - ((re * s) >> 32)


def _bit_reversed(count: int) -> Int64Array:
    """Return the numbers 0 … count - 1, each with its bits in the other order."""
    order = np.zeros(1, np.int64)
    while len(order) < count:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def _rounded(values: FloatArray, frac: int) -> Int64Array:
    """Return values in -1 … 1 with fraction bits, of which 1 is the largest number below it."""
    most = (1 << frac) - 1
    found: Int64Array = np.clip(round_half_up(values * 2.0**frac).astype(np.int64), -most, most)
    return found
