"""A pool written out for one sequence, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.window import Window


def pooled(
    x: npt.NDArray[np.float64], time: Window, band: Window, bands: int, of: Callable[[Sequence[Any]], float]
) -> npt.NDArray[np.float64]:
    """Return what ``of`` makes of the elements of each window of x [T, bands · C] that lie inside of it, [T', places · C]."""
    steps = len(x)
    image = x.reshape(steps, bands, -1)
    found = np.zeros((time.count(steps), band.count(bands), image.shape[2]))
    for j, p, c in np.ndindex(*found.shape):
        taken = [j * time.stride - time.before + k * time.dilation for k in range(time.taps)]
        places = [p * band.stride - band.before + b * band.dilation for b in range(band.taps)]
        found[j, p, c] = of([image[t, b, c] for t in taken for b in places if 0 <= t < steps and 0 <= b < bands])
    return found.reshape(len(found), found.shape[1] * found.shape[2])
