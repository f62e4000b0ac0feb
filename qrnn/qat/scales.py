"""Learned scales of weights: the largest weight of a row, from which the step of its integers follows, is a parameter.

A row is trained as clamp(w, ±c), so that conversion takes c for its largest weight. With ŵ what the integers are worth and g the gradient by ŵ,

    ∂ŵ/∂w = 1 where |w| ≤ c, else 0        ∂ŵ/∂c = sign(w) where |w| > c, else (ŵ - w) / c

which is the gradient of a learned step size (Esser et al. 2020, https://arxiv.org/abs/1902.08153), as ŵ is a step, which is proportional to
c, times integers. A row of four bits wins most: without it, its largest weight alone says how coarse all others are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qrnn.model.parts import FloatArray

LEAST = 1e-8
"""The least largest weight of a row."""

MATRICES = ("weight_ih", "weight_hh", "weight")
"""The last words of the paths of arrays whose rows have scales."""


class ScaleGradients(NamedTuple):
    """The gradients of a matrix and of the largest weight of each of its rows."""

    weight: FloatArray
    largest: FloatArray


def has_scales(path: str, weight: FloatArray) -> bool:
    """Return whether an array is a matrix whose rows have scales."""
    return path.split(".")[-1] in MATRICES and weight.ndim >= 2


def largest_of_rows(weight: FloatArray) -> FloatArray:
    """Return the largest magnitude of each row, [R], at least `LEAST`."""
    largest: FloatArray = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), LEAST)
    return largest


def clamped_rows(weight: FloatArray, largest: FloatArray) -> FloatArray:
    """Return the rows within ±``largest`` [R]."""
    limit = _by_row(weight, largest)
    return np.clip(weight, -limit, limit)


def scale_gradients(weight: FloatArray, largest: FloatArray, worth: FloatArray, gradient: FloatArray) -> ScaleGradients:
    """Return the gradients for ``gradient``, that of what the integers of the clamped rows are ``worth``."""
    limit = _by_row(weight, largest)
    outside = np.abs(weight) > limit
    by_largest = np.where(outside, np.sign(weight), (worth - weight) / limit)
    sums = (gradient * by_largest).reshape(len(weight), -1).sum(axis=1)
    return ScaleGradients(
        np.where(outside, 0.0, gradient), np.where(np.abs(largest) > LEAST, np.sign(largest) * sums, sums)
    )


def _by_row(weight: FloatArray, largest: FloatArray) -> FloatArray:
    limit: FloatArray = np.maximum(np.abs(largest), LEAST).reshape(-1, *(1,) * (weight.ndim - 1))
    return limit
