"""What the layers have in common that move a window over time and over the bands of each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import StateArray
from qrnn.model.parts import STATE_MAX, FloatArray, QuantInitialState, require
from qrnn.model.surroundings import Checks
from qrnn.model.time import LengthRule
from qrnn.model.window import Window

MOST_BANDS = 1 << 16
"""The most bands of a step."""

MOST_ELEMENTS = 1 << 24
"""The most elements of a ring of past steps, and of a step of the output."""


class Windowed:
    """A layer that reads windows of ``time`` over steps and of ``band`` over the ``bands`` of a step.

    A step of the input has the channels of a band one after the other.
    """

    keeps_state: ClassVar[bool] = True

    if TYPE_CHECKING:  # dataclasses' fields
        name: str
        time: Window
        band: Window
        bands: int

    @property
    def places(self) -> int:
        """Return the number of bands of the output."""
        return self.band.count(self.bands)

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of the places of the window over time."""
        return self.time.rule(given)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return the stride, and the last step of the first window that is no padding before the sequence."""
        return self.time.stride, self.time.span - 1 - self.time.before

    def taps(self, x: FloatArray, mask: Any, outside: float) -> Iterator[tuple[int, int, FloatArray]]:
        """Yield the taps k of ``time`` and b of ``band`` with what they read of ``x`` [N, T, F] at all places, [N, T', places, channels].

        ``outside`` stands where there is no element: in the padding, and at the steps that ``mask`` [N, T] leaves out.
        """
        size, steps, _ = x.shape
        real = np.where(mask[:, :, None], x, outside).reshape(size, steps, self.bands, -1)
        edges = (self.time.before, self.time.after), (self.band.before, self.band.after)
        padded = np.pad(real, ((0, 0), *edges, (0, 0)), constant_values=outside)
        for k in range(self.time.taps):
            rows = self.time.seen(padded, k, self.time.count(steps), 1)
            for b in range(self.band.taps):
                yield k, b, self.band.seen(rows, b, self.places, 2)


class QuantWindowed(Windowed):
    """An integer layer that reads windows.

    A step of the input has ``bands`` × `channels` features. Steps that an output needs after its own come as a delay, `steps_past_end`.
    """

    by_rows = False

    if TYPE_CHECKING:

        @property
        def channels(self) -> int:
            """Return the number of channels of the input."""

    @property
    def features(self) -> int:
        """Return the number of features of a step of the input."""
        return self.bands * self.channels

    def check_windows(self, channels: int) -> None:
        """Refuse windows that fit no band, and sizes that are too large; ``channels`` are those of the output."""
        where = f"layer {self.name}"
        require(1 <= self.bands <= MOST_BANDS, f"{where}: bands {self.bands}")
        require(self.places > 0, f"{where}: a window of {self.band.span} bands in {self.bands}")
        require(
            self.time.span * self.features <= MOST_ELEMENTS,
            f"{where}: a ring of {self.time.span} steps of {self.features} features",
        )
        require(self.places * channels <= MOST_ELEMENTS, f"{where}: {self.places} bands of {channels} channels")

    def rows_in(self, steps: int) -> int:
        """Return ⌈steps / stride⌉, the padding after the end included."""
        return -(-(steps + self.time.after) // self.time.stride)

    @property
    def steps_past_end(self) -> int:
        """Return the padding after the end."""
        return self.time.after

    def clock(self) -> tuple[StateArray, StateArray]:
        """Return the place in the ring that the next step takes, and the number of steps that pass before the next output."""
        span, wait = self.time.span, self.time.span - 1 - self.time.before
        start = (QuantInitialState(np.array([wait], np.int32)),) if wait else ()
        return (
            StateArray("place", (1,), np.int32, span - 1, least=0),
            StateArray("phase", (1,), np.int32, max(self.time.stride - 1, wait), starts=start, least=0),
        )

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Return the parameters of a step over bands: bands, taps, stride, dilation, padding before the first band, and places."""
        band = self.band
        return (self.bands, band.taps, band.stride, band.dilation, band.before, self.places)


class QuantPool(QuantWindowed, QuantLayer):
    """An integer layer that makes one number of each channel of a window; steps that are none of the sequence take no part."""

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, an input without the features of one step, and an output without those of one place."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.places * self.channels, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of past steps, which of them are steps of the sequence, and its clock."""
        span = self.time.span
        past = StateArray("past", (span, self.features), np.int16, STATE_MAX, least=-STATE_MAX - 1)
        return (past, StateArray("real", (span,), np.int16, 1, least=0), *self.clock())
