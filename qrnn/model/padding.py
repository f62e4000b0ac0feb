"""Steps past the end of a sequence, where a function may have no value."""

from __future__ import annotations

import numpy as np

from qrnn.model.parts import FloatArray
from qrnn.model.surroundings import Equations


def without_padding(run: Equations, tensor: str, values: FloatArray) -> FloatArray:
    """Return ``values`` [N, T, F] with 0 at the steps past the end of each sequence of ``tensor``; values [N, F] as they are.

    Nothing reads those steps, but arithmetic on NaN or infinities there would warn.
    """
    if values.ndim < 3:
        return values
    kept: FloatArray = np.where(run.over(tensor).mask[:, :, None], values, 0.0)
    return kept
