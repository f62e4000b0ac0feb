"""Bound the cost of importing one ONNX file: memory and work in proportion to the file, whatever its nodes ask for.

A file of a few kilobytes can describe values of any size, and functions that call functions can describe any number of nodes. So everything
that the importer makes is counted here before it is made, for all values of the file together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from qrnn.errors import UnsupportedError

MEMORY = 320 << 20
"""Bytes of memory that the import of any file may take."""

MEMORY_PER_BYTE = 10
"""Bytes that a file may take beyond `MEMORY` for each byte of its own: weights are read as float64 and reordered into new arrays."""

WORK = 2_000_000_000
"""Nanoseconds of nominal work that any file may cost."""

WORK_PER_BYTE = 25
"""Nanoseconds of nominal work that a file may cost beyond `WORK` for each of its bytes."""

ELEMENT_BYTES = 8
"""Every number is held as float64 or int64 while a graph is imported."""

ELEMENT_WORK = 4
"""Nominal nanoseconds to write one element of a value."""

NODE_WORK = 40_000
"""Nominal nanoseconds to interpret one node."""

ITEM_WORK = 2_000
"""Nominal nanoseconds for what is read once: an initializer, an input, an attribute, a name in a list."""


class BudgetError(UnsupportedError):
    """A file asks for more memory or work than a file of its size may take; the import ends at once."""


class Budget:
    """Memory and work left to the import of one file of ``size`` bytes (external data included).

    Memory is never given back: a graph's values stay alive until its import ends.
    """

    def __init__(self, size: int) -> None:
        self.memory = 0
        self.work = 0
        self.allow(size)

    def allow(self, size: int) -> None:
        """Set the limits to those of a file of ``size`` bytes, once its size is known; what was counted stays counted."""
        self.memory_limit = MEMORY + MEMORY_PER_BYTE * size
        self.work_limit = WORK + WORK_PER_BYTE * size

    def hold(self, what: str, size: int, scratch: int = 0) -> None:
        """Count ``size`` bytes that ``what`` keeps, and check ``scratch`` bytes that it gives back at once."""
        if self.memory + size + scratch > self.memory_limit:
            raise BudgetError(
                f"{what} takes {quantity(size + scratch)} bytes beside {quantity(self.memory)} held already; at most "
                f"{quantity(self.memory_limit)} are supported for a file of this size; re-export with smaller constants and features"
            )
        self.memory += size

    def spend(self, what: str, work: int) -> None:
        """Count nominal nanoseconds of work that ``what`` costs."""
        if self.work + work > self.work_limit:
            raise BudgetError(
                f"{what} takes more work than a file of this size may cost (at most {self.work_limit / 1e9:.1f} nominal seconds are "
                "supported); re-export a smaller graph, with constants folded"
            )
        self.work += work

    def value(self, what: str, elements: int, scratch: int = 0, cost: int = ELEMENT_WORK) -> None:
        """Count a new value of ``elements`` numbers, with ``scratch`` more while it is made, and ``cost`` nanoseconds for each element."""
        self.hold(what, elements * ELEMENT_BYTES, scratch * ELEMENT_BYTES)
        self.spend(what, elements * cost)


def count(shape: Iterable[int]) -> int:
    """Return the number of elements of an array of this shape, with an axis of size 0 counted as 1.

    What is empty along one axis may be long along another, and a reduction or an intermediate result brings that length back.
    """
    return math.prod(max(int(size), 1) for size in shape)


def quantity(number: int) -> str:
    """Return a number for a message; the largest are given as a power of two."""
    return f"{number:,}" if number < 1 << 60 else f"about 2^{number.bit_length() - 1}"
