"""Measures of agreement between a float result and an integer one."""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.parts import FloatArray


def sqnr_db(want: FloatArray, got: FloatArray) -> float:
    """Return the signal to quantization noise ratio, 10·log10(Σ want² / Σ (want - got)²) in dB.

    It is inf when both are equal, and nan when ``want`` is all zero and ``got`` is not.
    """
    return decibels(float(np.sum(want**2)), float(np.sum((want - got) ** 2)))


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise): inf without noise, nan for noise without a signal."""
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else math.nan


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion; (0, 1) for no trials."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
