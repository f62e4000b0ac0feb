"""Pools take the largest value of each channel in a window over time, and over the lines and bands of each step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Reading, Step, StepLoop, Written
from qrnn.model.parts import LEFT_OUT, TensorFormat, require
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.window import EACH, Window
from qrnn.model.windowed import QuantPool, Windowed


@dataclass(frozen=True)
class MaxPool(Windowed, Layer):
    """Compute y[j, p, c] = max over k, b of x[j·s + k·d - before, p·s' + b·d' - before', c]; what is outside of x does not take part.

    Where a step is an image, it has ``lines`` of ``bands``, and the window ``line`` moves over the lines as ``band`` does over bands. Windows
    and the order of features are those of `qrnn.model.kinds.conv.Conv`. A window without any element of x gives 0.
    """

    name: str
    input: str
    output: str
    channels: int
    time: Window
    band: Window = EACH
    bands: int = 1
    line: Window = EACH
    lines: int = 1

    @property
    def homogeneous(self) -> bool:
        """Return whether each feature of the output depends on one feature of the input alone."""
        return self.line.trivial and self.band.trivial

    def equation(self, run: Equations) -> None:
        """Compute the largest values in float64."""
        windows = self.taps(run.read(self.input), run.over(self.input).mask, -np.inf)
        largest = functools.reduce(np.maximum, (seen for _, _, seen in windows))
        y = np.where(np.isinf(largest), 0.0, largest)
        run.write(self.output, y.reshape(*y.shape[:2], y.shape[2] * y.shape[3]))

    def quantize(self, plan: Plan) -> QuantMaxPool:
        """Give the output the format of the input."""
        frac = plan.frac(self.input, self.name)
        plan.copy_format(self.input, self.output)
        inner = self.band, self.bands, self.line, self.lines
        return QuantMaxPool(self.name, self.input, self.output, frac, self.channels, self.time, *inner)


def max_pool_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past steps and, where a window ends, writes the largest values of its taps."""

    def step(
        n: int, t: int, k: int, x: Any, out: Any, past: Any, real: Any, place: Any, phase: Any, taps: int, stride: int,
        dilation: int, bands: int, band_taps: int, band_stride: int, band_dilation: int, band_before: int, places: int, lines: int,
        line_taps: int, line_stride: int, line_dilation: int, line_before: int, line_places: int,
    ) -> int:  # fmt: skip
        F = past.shape[2]
        for j in range(F):
            if t >= 0:
                past[n, place[n, 0], j] = x[n, t, j]
        real[n, place[n, 0]] = 0
        if t >= 0:
            real[n, place[n, 0]] = 1
        oldest = place[n, 0] + 1
        if oldest == past.shape[1]:
            oldest = 0
        place[n, 0] = oldest
        if phase[n, 0] > 0:
            phase[n, 0] = phase[n, 0] - 1
            return 0
        phase[n, 0] = stride - 1
        channels = F // (lines * bands)
        for q in range(line_places):
            for p in range(places):
                for j in range(channels):
                    found = 0
                    largest = 0
                    for tap in range(taps):
                        row = oldest + tap * dilation
                        if row >= past.shape[1]:
                            row = row - past.shape[1]
                        for a in range(line_taps):
                            line = q * line_stride + a * line_dilation - line_before
                            for b in range(band_taps):
                                band = p * band_stride + b * band_dilation - band_before
                                if real[n, row] > 0 and line >= 0 and line < lines and band >= 0 and band < bands:
                                    value = past[n, row, (line * bands + band) * channels + j]
                                    if found == 0 or value > largest:
                                        largest = value
                                    found = 1
                    out[n, k, (q * places + p) * channels + j] = largest
        return 1

    return step


@dataclass(frozen=True)
class QuantMaxPool(QuantPool):
    """Compute `MaxPool` of integers; the output has the fraction bits of the input, ``frac``.

    The state holds a ring of past steps, which of them are steps of the sequence, the place in the ring that the next step takes, and how many
    steps pass before the next output.
    """

    name: str
    input: str
    output: str
    frac: int
    channels: int
    time: Window
    band: Window = field(default=EACH, metadata=LEFT_OUT)
    bands: int = field(default=1, metadata=LEFT_OUT)
    line: Window = field(default=EACH, metadata=LEFT_OUT)
    lines: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        require(1 <= self.channels <= 1 << 20, f"layer {self.name}: channels {self.channels}")
        self.check_windows(self.channels)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with ``frac`` fraction bits."""
        return (Reading(self.input, self.frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the format of the input."""
        return {self.output: Written(self.frac, tensors[self.input].limit)}

    def step_loop(self) -> StepLoop:
        """Return the step that `max_pool_step` makes, with the geometry as its parameters."""
        time = self.time
        return StepLoop(max_pool_step, (time.taps, time.stride, time.dilation, *self.band_numbers, *self.line_numbers))
