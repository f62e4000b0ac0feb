"""A window that moves along an axis, as the kernels of convolutions and pools do."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.model.parts import FloatArray, require
from qrnn.model.time import LengthRule

LARGEST_WINDOW = 1 << 16
"""The largest number of taps, stride, dilation and padding of a window."""


@dataclass(frozen=True)
class Window:
    """The window at place j reads elements j·stride - before + k·dilation of an axis, for k = 0 … taps - 1.

    ``before`` and ``after`` are the elements of padding at the two ends of the axis.
    """

    taps: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        for name, least in (("taps", 1), ("stride", 1), ("dilation", 1), ("before", 0), ("after", 0)):
            value = getattr(self, name)
            require(least <= value <= LARGEST_WINDOW, f"window: {name} {value}, expected {least} to {LARGEST_WINDOW}")
        require(self.before < self.span and self.after < self.span, "window: a place holds nothing but padding")

    @property
    def span(self) -> int:
        """Return the number of elements from the first tap to the last one, both included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def trivial(self) -> bool:
        """Return whether the window at each place reads the element of that place alone."""
        return self == EACH

    def count(self, size: int) -> int:
        """Return the number of places along an axis of ``size`` elements."""
        return max(0, (size + self.before + self.after - self.span) // self.stride + 1)

    def seen(self, x: FloatArray, tap: int, places: int, axis: int) -> FloatArray:
        """Return the elements along an axis of the padded ``x`` that a tap of the window reads at each of its places."""
        first = tap * self.dilation
        index = [slice(None)] * x.ndim
        index[axis] = slice(first, first + places * self.stride, self.stride)
        return x[tuple(index)]

    def rule(self, given: LengthRule) -> LengthRule:
        """Return the length rule of the places, for an axis with the length rule ``given``."""
        return given.windows(self.before + self.after - self.span + self.stride, self.stride)


EACH = Window()
"""The window that reads the element of each place alone."""


def causal(taps: int, stride: int = 1, dilation: int = 1) -> Window:
    """Return the window whose last tap is the present step, padded by span - 1 elements before the axis and by none after it."""
    return Window(taps, stride, dilation, (taps - 1) * dilation)
