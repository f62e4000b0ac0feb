"""The scales and offsets of a tensor's real values, as `qrnn.backends.cpu.real_rows` reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import FloatArray, TensorFormat

NARROW = 127
"""The largest |q + offset| with which products of float32 decide nearly always: the error grows with it."""

EXACT_SCALES = (2.0**-126, 2.0**112)
"""The least and the largest power of two whose products with an int16 but 0 are float32's numbers of full precision."""


def exact_float32(fmt: TensorFormat, q: Any, out: Any) -> bool:
    """Return whether q · scale in float32 is the real number of every int16 of a tensor, which is then written to ``out`` as it is."""
    scales, offsets = fmt.scales_and_offsets
    if q.dtype != np.int16 or out.dtype != np.float32 or len(scales) > 1 or offsets[0] != 0:
        return False
    scale = float(scales[0])
    return math.frexp(scale)[0] == 0.5 and EXACT_SCALES[0] <= scale <= EXACT_SCALES[1]


LARGEST_SHIFTED = 1 << 22
"""The largest |q + offset| with which float32 converts by powers of two: it then holds every half as well."""

REVERSIBLE = (2.0**-126, 2.0**126)
"""The least and the largest power of two whose reciprocal is a float32 of full precision too."""


def _shifts(scales: FloatArray, largest: float) -> bool:
    """Return whether values of float32 times the reciprocals of all scales are the quotients, in float32: whether they are powers of two."""
    powers = (np.frexp(scales)[0] == 0.5).all()
    inside = (scales >= REVERSIBLE[0]).all() and (scales <= REVERSIBLE[1]).all()
    return bool(powers and inside and largest <= LARGEST_SHIFTED)


Scaling = tuple[FloatArray, FloatArray, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def scaling(fmt: TensorFormat, real: Any) -> Scaling:
    """Return scales and offsets, [1] or [F] each; reciprocals and offsets; and (limit, 1/2, sure), for values of type ``real``.

    The last three are of the type that is computed in: float32 for values of float32 and small integers, or scales that are powers of two
    (`_shifts`), for which ``sure`` is 1; float64 otherwise. In float64, of
    unit roundoff e, reciprocal, product, quotient and the two sums with 1/2 round once each: as long as all are below B = limit + |offset| + 2,
    the floors' arguments differ by less than 6·e·B. In float32 the quotient's side still rounds in float64: 4·e·B of its e is enough. Where
    that is less than 1/16, larger arguments differ by a like part of themselves, and are clamped on both sides. Where it is more, as with
    offsets from 2^46 on, ``sure`` is 0: no value is.
    """
    scales, offsets = fmt.scales_and_offsets
    largest = fmt.limit + float(np.abs(offsets).max())
    exact = np.dtype(real) == np.float32 and _shifts(scales, largest)
    narrow = exact or (largest <= NARROW and np.dtype(real) == np.float32)
    kind = np.float32 if narrow else np.float64
    error = (largest + 2) * (2.0**-22 if narrow else 2.0**-50)
    sure = 1.0 if exact else 0.5 - error if error < 2.0**-4 else 0.0
    with np.errstate(over="ignore", under="ignore"):  # No product with such a reciprocal is sure.
        reciprocals = (1.0 / scales).astype(kind)
    return scales, offsets, reciprocals, offsets.astype(kind), np.array([fmt.limit, 0.5, sure], kind)
