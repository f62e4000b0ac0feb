"""Layers of two tensors that are computed feature by feature: a spectrum's magnitude and power."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count, place, shaped
from qrnn.layers.tensors import Tensor, readable, simple_layer
from qrnn.model.kinds.magnitude import Magnitude


def magnitude(
    a: Tensor, b: Tensor | None = None, *, bands: int = 1, epsilon: float = 0.0, name: str | None = None
) -> Tensor:
    """Return sqrt(a² + b² + epsilon), element by element, as of the real and the imaginary part of a spectrum.

    Parameters
    ----------
    a, b: tensors of one shape. Without ``b``, a step of ``a`` holds ``bands`` bands of 2 · C channels, of which the first C are a and the
        others b: so a convolution writes them whose first C rows make the real parts.
    epsilon: a number ≥ 0.

    The squares are summed exactly in 64 bits, and their root is rounded once. The output has ``bands`` · C features.
    """
    return _of_squares("magnitude", a, b, bands, epsilon, True, name)


def power(
    a: Tensor, b: Tensor | None = None, *, bands: int = 1, epsilon: float = 0.0, name: str | None = None
) -> Tensor:
    """Return a² + b² + epsilon, element by element; the parameters are those of `magnitude`."""
    return _of_squares("power", a, b, bands, epsilon, False, name)


def _of_squares(
    word: str, a: Tensor, b: Tensor | None, bands: int, epsilon: Any, root: bool, name: str | None
) -> Tensor:
    where = place(word, name)
    a = readable(where, a, "a")
    bands = count(where, "bands", bands)
    e = float(shaped(where, "epsilon", epsilon, (), "one number"))
    if e < 0.0:
        raise DataError(f"{where}: epsilon is {e}, expected at least 0")
    if b is None:
        if a.features % (2 * bands):
            raise DataError(f"{where}: a has {a.features} features, expected a multiple of 2 · bands = {2 * bands}")
        halves = np.arange(a.features, dtype=np.int64).reshape(bands, 2, -1)
        left, right, pair = halves[:, 0].reshape(-1), halves[:, 1].reshape(-1), (a, a)
    else:
        b = readable(where, b, "b")
        if (a.features, a.has_time) != (b.features, b.has_time):
            raise DataError(
                f"{where}: a has {a.features} features{' over time' * a.has_time}, b has {b.features}{' over time' * b.has_time}, expected "
                "equal shapes"
            )
        left = right = np.arange(a.features, dtype=np.int64)
        pair = (a, b)
    return simple_layer(
        word,
        name,
        pair,
        (left.size, a.has_time),
        lambda own, names: Magnitude(own, names[0], names[1], own, left, right, root, e),
    )
