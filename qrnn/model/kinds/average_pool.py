"""Pools take the mean of each channel in a window over time, and over the lines and bands of each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.reductions import MOST_SUMMED
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Rounding, Step, StepLoop
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import LEFT_OUT, require
from qrnn.model.reduced import mean_frac
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.window import EACH, Window
from qrnn.model.windowed import QuantPool, Windowed


@dataclass(frozen=True)
class AveragePool(Windowed, Layer):
    """Compute y[j, p, c], the mean over k, b of x[j·s + k·d - before, p·s' + b·d' - before', c].

    What is outside of x counts as zeros where ``padding_counts`` says so, and else does not take part. Windows, also that
    over lines, and the order of features are those of `qrnn.model.kinds.conv.Conv`. A window without any element of x gives 0.
    """

    name: str
    input: str
    output: str
    channels: int
    time: Window
    band: Window = EACH
    bands: int = 1
    padding_counts: bool = False
    line: Window = EACH
    lines: int = 1

    least_frac: ClassVar[int] = 0

    @property
    def homogeneous(self) -> bool:
        """Return whether each feature of the output depends on one feature of the input alone."""
        return self.line.trivial and self.band.trivial

    def equation(self, run: Equations) -> None:
        """Compute the means in float64."""
        x, mask = run.read(self.input), run.over(self.input).mask
        total = sum(seen for _, _, seen in self.taps(x, mask, 0.0))
        count: Any = self.time.taps * self.step_taps
        if not self.padding_counts:
            count = sum(seen for _, _, seen in self.taps(np.ones_like(x), mask, 0.0))
        y = total / np.maximum(count, 1)
        run.write(self.output, y.reshape(*y.shape[:2], y.shape[2] * y.shape[3]))

    def quantize(self, plan: Plan) -> QuantAveragePool:
        """Choose the output's fraction bits."""
        in_frac = plan.frac(self.input, self.name)
        out_frac = mean_frac(plan, self.output, in_frac)
        geometry = self.channels, self.time, self.band, self.bands, self.padding_counts, self.line, self.lines
        return QuantAveragePool(self.name, self.input, self.output, in_frac, out_frac, *geometry)


def average_pool_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past steps and, where a window ends, writes the means of its taps."""
    divide_sum = contract.divide_sum

    def step(
        n: int, t: int, k: int, x: Any, out: Any, past: Any, real: Any, place: Any, phase: Any, taps: int, stride: int,
        dilation: int, bands: int, band_taps: int, band_stride: int, band_dilation: int, band_before: int, places: int, lines: int,
        line_taps: int, line_stride: int, line_dilation: int, line_before: int, line_places: int, divisor: int, up: int, down: int,
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
                    total = 0
                    for tap in range(taps):
                        row = oldest + tap * dilation
                        if row >= past.shape[1]:
                            row = row - past.shape[1]
                        for a in range(line_taps):
                            line = q * line_stride + a * line_dilation - line_before
                            for b in range(band_taps):
                                band = p * band_stride + b * band_dilation - band_before
                                if real[n, row] > 0 and line >= 0 and line < lines and band >= 0 and band < bands:
                                    total += past[n, row, (line * bands + band) * channels + j]
                                    found += 1
                    if divisor > 0:
                        found = divisor
                    if found == 0:
                        found = 1
                    out[n, k, (q * places + p) * channels + j] = divide_sum(total, found << down, up)
        return 1

    return step


@dataclass(frozen=True)
class QuantAveragePool(QuantPool, QuantOneInput):
    """Compute `AveragePool` of integers: exact sums, divided and rounded once to out_frac fraction bits.

    The state holds a ring of past steps, which of them are steps of the sequence, the place in the ring that the next step takes, and how many
    steps pass before the next output.
    """

    name: str
    input: str
    output: str
    in_frac: int
    out_frac: int
    channels: int
    time: Window
    band: Window = field(default=EACH, metadata=LEFT_OUT)
    bands: int = field(default=1, metadata=LEFT_OUT)
    padding_counts: bool = field(default=False, metadata=LEFT_OUT)
    line: Window = field(default=EACH, metadata=LEFT_OUT)
    lines: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        where, elements = f"layer {self.name}", self.time.taps * self.step_taps
        require(1 <= self.channels <= 1 << 20, f"{where}: channels {self.channels}")
        require(elements <= MOST_SUMMED, f"{where}: a window of {elements} elements, at most {MOST_SUMMED}")
        self.check_fracs(least=0)
        self.check_windows(self.channels)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each mean."""
        return (Rounding(self.name, f"each mean, once, to {self.out_frac} bits", "int16"),)

    def step_loop(self) -> StepLoop:
        """Return the step that `average_pool_step` makes, with the geometry as its parameters."""
        time, by = self.time, self.out_frac - self.in_frac
        divisor = time.taps * self.step_taps if self.padding_counts else 0
        inner = *self.band_numbers, *self.line_numbers
        numbers = (time.taps, time.stride, time.dilation, *inner, divisor, max(by, 0), max(-by, 0))
        return StepLoop(average_pool_step, numbers)
