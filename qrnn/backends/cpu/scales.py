"""The scales of a tensor's real values, as `qrnn.backends.cpu.real_rows` reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import FloatArray

NARROW = 127
"""The largest limit with which products of float32 decide nearly always: the error grows with the limit."""

Scaling = tuple[FloatArray, npt.NDArray[Any], npt.NDArray[Any]]


def scaling(scales: FloatArray, limit: int, real: Any) -> Scaling:
    """Scales [1] or [F], their reciprocals, and (limit, 1/2, sure), for values of type ``real`` that become integers within ±limit.

    The last two are of the type that is computed in: float32 for values of float32 and small limits, float64 otherwise. In float64, of unit
    roundoff e, reciprocal, product, quotient and the two sums with 1/2 round once each: as long as all are below limit + 2, the floors'
    arguments differ by less than 6·e·(limit + 2). In float32 the quotient's side still rounds in float64: 4·e·(limit + 2) of its e is
    enough. Both are less than 1/16, and of larger arguments a like part of themselves: those are clamped on both sides.
    """
    narrow = limit <= NARROW and np.dtype(real) == np.float32
    kind = np.float32 if narrow else np.float64
    sure = 0.5 - (limit + 2) * (2.0**-22 if narrow else 2.0**-50)
    with np.errstate(over="ignore", under="ignore"):  # no product with such a reciprocal is sure
        return scales, (1.0 / scales).astype(kind), np.array([limit, 0.5, sure], kind)
