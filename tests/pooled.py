"""A pool written out for one sequence, element by element."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.window import EACH, Window


def pooled(
    x: npt.NDArray[np.float64],
    time: Window,
    band: Window,
    bands: int,
    of: Callable[[Sequence[Any]], float],
    line: Window = EACH,
    lines: int = 1,
) -> npt.NDArray[np.float64]:
    """Return what ``of`` makes of the elements of each window of x [T, lines · bands · C] that lie inside of it, [T', places · C]."""
    image = x.reshape(len(x), lines, bands, -1)
    windows = list(zip((time, line, band), image.shape[:3], strict=True))
    found = np.zeros((*(window.count(size) for window, size in windows), image.shape[3]))
    for *place, c in np.ndindex(*found.shape):
        taken = [
            [at for k in range(w.taps) if 0 <= (at := p * w.stride - w.before + k * w.dilation) < size]
            for p, (w, size) in zip(place, windows, strict=True)
        ]
        found[(*place, c)] = of([image[(*at, c)] for at in itertools.product(*taken)])
    return found.reshape(len(found), int(np.prod(found.shape[1:])))
