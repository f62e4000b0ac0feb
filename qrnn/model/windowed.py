"""What the layers have in common that move a window over time and over the lines and bands of each step."""

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
"""The most bands of a step, those of all its lines."""

MOST_ELEMENTS = 1 << 24
"""The most elements of a ring of past steps, and of a step of the output."""


class Windowed:
    """A layer that reads windows of ``time`` over steps, of ``line`` over the ``lines`` of a step and of ``band`` over the ``bands`` of a line.

    A step of the input has its lines one after the other, a line its bands, and a band its channels; an image in each step has its rows as
    lines and its columns as bands. A step of the output likewise.
    """

    keeps_state: ClassVar[bool] = True

    if TYPE_CHECKING:  # dataclasses' fields
        name: str
        time: Window
        band: Window
        bands: int
        line: Window
        lines: int

    @property
    def places(self) -> int:
        """Return the number of places of a step of the output, which are the bands of all its lines."""
        return self.line_places * self.band_places

    @property
    def line_places(self) -> int:
        """Return the number of lines of the output."""
        return self.line.count(self.lines)

    @property
    def band_places(self) -> int:
        """Return the number of bands of a line of the output."""
        return self.band.count(self.bands)

    @property
    def step_taps(self) -> int:
        """Return the number of taps of a window in one step, those of ``band`` for each of ``line``."""
        return self.line.taps * self.band.taps

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of the places of the window over time."""
        return self.time.rule(given)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return the stride, and the last step of the first window that is no padding before the sequence."""
        return self.time.stride, self.time.span - 1 - self.time.before

    def taps(self, x: FloatArray, mask: Any, outside: float) -> Iterator[tuple[int, int, FloatArray]]:
        """Yield the taps k of ``time`` and b of a step with what they read of ``x`` [N, T, F] at all places, [N, T', places, channels].

        The taps of a step are those of ``band`` for each of ``line``. ``outside`` stands where there is no element: in the padding, and at the
        steps that ``mask`` [N, T] leaves out.
        """
        size, steps, _ = x.shape
        real = np.where(mask[:, :, None], x, outside).reshape(size, steps, self.lines, self.bands, -1)
        edges = [(window.before, window.after) for window in (self.time, self.line, self.band)]
        padded = np.pad(real, ((0, 0), *edges, (0, 0)), constant_values=outside)
        out = size, self.time.count(steps), self.places, real.shape[-1]
        for k in range(self.time.taps):
            rows = self.time.seen(padded, k, out[1], 1)
            for b in range(self.step_taps):
                lines = self.line.seen(rows, b // self.band.taps, self.line_places, 2)
                yield k, b, self.band.seen(lines, b % self.band.taps, self.band_places, 3).reshape(out)


class QuantWindowed(Windowed):
    """An integer layer that reads windows.

    A step of the input has ``lines`` × ``bands`` × `channels` features. Steps that an output needs after its own come as a delay,
    `steps_past_end`.
    """

    by_rows = False

    if TYPE_CHECKING:

        @property
        def channels(self) -> int:
            """Return the number of channels of the input."""

    @property
    def features(self) -> int:
        """Return the number of features of a step of the input."""
        return self.lines * self.bands * self.channels

    def check_windows(self, channels: int) -> None:
        """Refuse windows that fit no line or band, and sizes that are too large; ``channels`` are those of the output."""
        where = f"layer {self.name}"
        require(1 <= self.bands <= MOST_BANDS, f"{where}: bands {self.bands}")
        require(1 <= self.lines <= MOST_BANDS // self.bands, f"{where}: {self.lines} lines of {self.bands} bands")
        require(self.band_places > 0, f"{where}: a window of {self.band.span} bands in {self.bands}")
        require(self.line_places > 0, f"{where}: a window of {self.line.span} lines in {self.lines}")
        require(
            self.time.span * self.features <= MOST_ELEMENTS,
            f"{where}: a ring of {self.time.span} steps of {self.features} features",
        )
        require(self.places * channels <= MOST_ELEMENTS, f"{where}: {self.places} places of {channels} channels")

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
        return (self.bands, band.taps, band.stride, band.dilation, band.before, self.band_places)

    @property
    def line_numbers(self) -> tuple[int, ...]:
        """Return the parameters of a step over lines, which are as those over bands."""
        line = self.line
        return (self.lines, line.taps, line.stride, line.dilation, line.before, self.line_places)


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
