"""What the integer layers have in common that move a window over time and over the bands of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qrnn.model.layer_facts import StateArray
from qrnn.model.parts import QuantInitialState, require
from qrnn.model.time import LengthRule
from qrnn.model.window import Window

MOST_BANDS = 1 << 16
"""The most bands of a step."""

MOST_ELEMENTS = 1 << 24
"""The most elements of a ring of past steps, and of a step of the output."""


class Windowed:
    """A layer that reads windows of ``time`` over steps and of ``band`` over the ``bands`` of a step.

    A step of the input has ``bands`` × `channels` features, with the channels of a band one after the other. Steps that an output needs
    after its own come as a delay, `steps_past_end`.
    """

    by_rows = False

    if TYPE_CHECKING:  # dataclasses' fields
        name: str
        time: Window
        band: Window
        bands: int

        @property
        def channels(self) -> int:
            """Return the number of channels of the input."""

    @property
    def places(self) -> int:
        """Return the number of bands of the output."""
        return self.band.count(self.bands)

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

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of the places of the window over time."""
        return self.time.rule(given)

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
