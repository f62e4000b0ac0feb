"""A transposed convolution of stride s is an ordinary one with s times the output channels, whose output elements lie between each other.

Element q = m·s + r of its output is a sum over those inputs m + o for which a tap falls on q: for each phase r these are the same offsets o at
every m. So each phase is a convolution of stride 1 over the inputs, and all phases of an output channel are channels of one convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qrnn.model.parts import FloatArray, require
from qrnn.model.window import LARGEST_WINDOW, Window


@dataclass(frozen=True)
class Transposed:
    """Along an axis, input j and tap k add to element j·stride + k·dilation - before of the output.

    The output has stride·(n - 1) + span + more - before - after elements for n inputs, where span = (taps - 1)·dilation + 1: ``before`` and
    ``after`` elements are cut off at the two ends, and ``more`` are added behind, as ONNX's ConvTranspose has them in ``pads`` and
    ``output_padding``.
    """

    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    more: int = 0

    def __post_init__(self) -> None:
        for name, least in (("taps", 1), ("stride", 1), ("dilation", 1), ("before", 0), ("after", 0), ("more", 0)):
            value = getattr(self, name)
            require(
                least <= value <= LARGEST_WINDOW,
                f"transposed window: {name} {value}, expected {least} to {LARGEST_WINDOW}",
            )

    @property
    def span(self) -> int:
        """Return the number of elements from the first tap to the last one, both included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def _first(self) -> int:
        """Return the elements of the output for one input, of which each further input adds ``stride``."""
        return self.span + self.more - self.before - self.after

    def count(self, size: int) -> int:
        """Return the number of elements of the output, for ``size`` inputs."""
        return self.stride * (size - 1) + self._first

    @property
    def more_places(self) -> int:
        """Return how many groups of ``stride`` elements the output has more than there are inputs; the last one may be cut short, by `cut`."""
        return -(-self._first // self.stride) - 1

    @property
    def cut(self) -> int:
        """Return how many elements of the last group are none of the output, 0 … stride - 1."""
        return -self._first % self.stride

    def _taps_of(self) -> list[tuple[int, int, int]]:
        """Return phase r, offset o and tap k of all that is summed: element m·stride + r has weight k of input m + o."""
        found = []
        for k in range(self.taps):
            r = (k * self.dilation - self.before) % self.stride
            found.append((r, (r + self.before - k * self.dilation) // self.stride, k))
        return found

    def _offsets(self) -> tuple[int, int, int]:
        """Return the first offset of the window that all phases share, the step from one to the next, and their number.

        It holds the offsets 0 and -`more_places`, by weights of 0 if need be, so that each place reads some input.
        """
        offsets = sorted({0, -self.more_places, *(o for _, o, _ in self._taps_of())})
        step = math.gcd(*(o - offsets[0] for o in offsets)) or 1
        return offsets[0], step, (offsets[-1] - offsets[0]) // step + 1

    @property
    def window(self) -> Window:
        """Return the window, of stride 1, that reads the inputs of all phases; it has a place for each group of ``stride`` elements."""
        first, step, taps = self._offsets()
        last = first + (taps - 1) * step
        return Window(taps, 1, step, -first, self.more_places + last)

    @property
    def taps_of(self) -> list[tuple[int, int, int]]:
        """Return the phase, the tap of `window` and the tap of the transposed convolution, for all that are summed."""
        first, step, _ = self._offsets()
        return [(r, (offset - first) // step, k) for r, offset, k in self._taps_of()]


def phases(axes: Sequence[Transposed]) -> int:
    """Return how many phases there are, over all axes: how many times the channels of a transposed convolution an ordinary one has."""
    return math.prod(axis.stride for axis in axes)


def phase_weights(weight: FloatArray, axes: Sequence[Transposed], groups: int) -> FloatArray:
    """Return the weights [groups · S · O / groups, C / groups, *taps] of the convolution with the windows of ``axes``.

    ``weight`` [C, O / groups, *kernel] has ONNX's and PyTorch's layout. The rows are ordered by group, by phase along each axis in turn,
    and by channel of the group.
    """
    made = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)  # group, O, C, kernel
    for k, axis in enumerate(
        axes
    ):  # an axis of the kernel becomes one of phases, behind those before, and one of taps in its place
        given = np.moveaxis(made, 3 + 2 * k, -1)
        phase, tap, of = (np.array(each) for each in zip(*axis.taps_of, strict=True))
        spread = np.zeros((*given.shape[:-1], axis.stride, axis.window.taps))
        spread[..., phase, tap] = given[..., of]
        made = np.moveaxis(np.moveaxis(spread, -2, 1 + k), -1, 4 + 2 * k)
    rows = groups * phases(axes) * weight.shape[1]
    return np.ascontiguousarray(made).reshape(rows, -1, *(axis.window.taps for axis in axes))


def phase_bias(bias: FloatArray, axes: Sequence[Transposed], groups: int) -> FloatArray:
    """Return the bias of each row of `phase_weights`, of ``bias`` [O]."""
    return np.repeat(bias.reshape(groups, 1, -1), phases(axes), axis=1).reshape(-1)
