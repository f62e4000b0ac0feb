"""Layers of two tensors that are computed feature by feature: a spectrum's magnitude and power, differences, quotients and gates by band."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count, place, shaped
from qrnn.layers.tensors import Tensor, readable, simple_layer
from qrnn.model.kinds.combine import Combine
from qrnn.model.kinds.log_power import LogPower
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.parts import IndexArray


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


def log_power(
    a: Tensor,
    b: Tensor | None = None,
    *,
    bands: int = 1,
    epsilon: float = 0.0,
    least: float = 0.0,
    factor: float = 1.0,
    offset: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Return factor · ln(max(a² + b² + epsilon, least)) + offset, element by element; a, b and bands are those of `magnitude`.

    With factor 10 / ln 10 these are decibels. The power is not stored, and the logarithm is rounded once. Calibration refuses a power of 0.
    """
    where = place("log_power", name)
    numbers = {"least": least, "factor": factor, "offset": offset}
    own = {key: float(shaped(where, key, value, (), "one number")) for key, value in numbers.items()}
    if own["least"] < 0.0:
        raise DataError(f"{where}: least is {own['least']}, expected at least 0")
    left, right, pair, e = _halves_or_pair(where, a, b, bands, epsilon)
    return simple_layer(
        "log_power",
        name,
        pair,
        (left.size, pair[0].has_time),
        lambda out, names: LogPower(out, names[0], names[1], out, left, right, e, **own),
    )


def subtract(a: Tensor, b: Tensor, *, bands: int = 1, name: str | None = None) -> Tensor:
    """Return a - b, element by element; b has the shape of a, or one feature for each of ``bands`` bands of a's features."""
    return _combined("subtract", "sub", a, b, bands, name)


def divide(a: Tensor, b: Tensor, *, bands: int = 1, name: str | None = None) -> Tensor:
    """Return a / b, element by element; b has the shape of a, or one feature for each of ``bands`` bands of a's features.

    Calibration refuses a b of 0; in integers a / 0 is the end of int16 on a's side.
    """
    return _combined("divide", "div", a, b, bands, name)


def scale_bands(a: Tensor, b: Tensor, *, bands: int, name: str | None = None) -> Tensor:
    """Return a · b, where b has one feature for each of ``bands`` bands of a's features, as the gate of a squeeze-and-excite block."""
    return _combined("scale_bands", "mul", a, b, bands, name)


def _combined(word: str, operation: str, a: Tensor, b: Tensor, bands: int, name: str | None) -> Tensor:
    where = place(word, name)
    a, b = readable(where, a, "a"), readable(where, b, "b")
    bands = count(where, "bands", bands)
    index = np.arange(a.features, dtype=np.int64)
    whole = a.features == b.features
    if a.has_time != b.has_time or not (whole or (b.features == bands and a.features % bands == 0)):
        raise DataError(
            f"{where}: a has {a.features} features{' over time' * a.has_time}, b has {b.features}{' over time' * b.has_time}; expected as "
            f"many, or one for each of {bands} bands"
        )
    right = index if whole else index // (a.features // bands)
    return simple_layer(
        word,
        name,
        (a, b),
        (a.features, a.has_time),
        lambda own, names: Combine(own, names[0], names[1], own, index, right, operation),
    )


def _of_squares(
    word: str, a: Tensor, b: Tensor | None, bands: int, epsilon: Any, root: bool, name: str | None
) -> Tensor:
    left, right, pair, e = _halves_or_pair(place(word, name), a, b, bands, epsilon)
    return simple_layer(
        word,
        name,
        pair,
        (left.size, pair[0].has_time),
        lambda own, names: Magnitude(own, names[0], names[1], own, left, right, root, e),
    )


def _halves_or_pair(
    where: str, a: Tensor, b: Tensor | None, bands: int, epsilon: Any
) -> tuple[IndexArray, IndexArray, tuple[Tensor, Tensor], float]:
    """Return which features of which two tensors a layer of squares reads, and its epsilon, checked."""
    a = readable(where, a, "a")
    bands = count(where, "bands", bands)
    e = float(shaped(where, "epsilon", epsilon, (), "one number"))
    if e < 0.0:
        raise DataError(f"{where}: epsilon is {e}, expected at least 0")
    if b is None:
        if a.features % (2 * bands):
            raise DataError(f"{where}: a has {a.features} features, expected a multiple of 2 · bands = {2 * bands}")
        halves = np.arange(a.features, dtype=np.int64).reshape(bands, 2, -1)
        return halves[:, 0].reshape(-1), halves[:, 1].reshape(-1), (a, a), e
    b = readable(where, b, "b")
    if (a.features, a.has_time) != (b.features, b.has_time):
        raise DataError(
            f"{where}: a has {a.features} features{' over time' * a.has_time}, b has {b.features}{' over time' * b.has_time}, expected "
            "equal shapes"
        )
    index = np.arange(a.features, dtype=np.int64)
    return index, index, (a, b), e
