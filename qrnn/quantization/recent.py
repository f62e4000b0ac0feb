"""What was found out about the last few matrices: each decision of a conversion about a matrix asks for the same once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from qrnn.model.parts import FloatArray

Found = TypeVar("Found")


class Recent(Generic[Found]):
    """The results of ``make`` for the last arrays, which are compared by what they hold. Many threads may ask at once."""

    def __init__(self, make: Callable[[FloatArray, int], Found], most: int = 4) -> None:
        self._make, self._most = make, most
        self._last: tuple[tuple[FloatArray, int, Found], ...] = ()

    def of(self, array: FloatArray, variant: int = 0) -> Found:
        """Return the result for an array and a variant of the function; results are shared, and nobody changes them."""
        for before, kind, found in self._last:
            if kind == variant and np.array_equal(before, array):
                return found
        found = self._make(array, variant)
        self._last = ((array.copy(), variant, found), *self._last[: self._most - 1])
        return found
