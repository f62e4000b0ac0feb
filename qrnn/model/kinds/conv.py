"""Convolutions over time, and over one or two inner axes (lines and bands) of each step; outputs that need later steps come with a delay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qrnn.model.layer_facts import LayerMatrix, PartSize, Scratch, StateArray, Step, StepLoop, Weights
from qrnn.model.matrix_layer import MatrixLayer, QuantMatrixLayer
from qrnn.model.parts import LEFT_OUT, FloatArray, IndexArray, is_less_in_four_bits, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.window import EACH, Window
from qrnn.model.windowed import QuantWindowed, Windowed


@dataclass(frozen=True)
class Conv(Windowed, MatrixLayer):
    """Compute y[j, p, o] = bias[o] + Σ weight[o, c, k, b] · x[j·s + k·d - before, p·s' + b·d' - before', c], zero outside of x.

    The sum runs over the channels c of the output channel's group, the taps k of the window ``time`` (stride s, dilation d) and the taps b
    of the window ``band`` (s', d'). This is the convolution of ONNX's operator Conv, whose weights have the same layout: weight
    [O, C / groups, K, B], bias [O].

    A step of the input holds ``bands`` × C features, with the channels of a band one after the other; a step of the output holds
    `places` × O features in the same order. The input [N, T, bands · C] gives [N, T', places · O], where T' is what `Window.count` says.

    Where a step is an image, it has ``lines`` of ``bands``, [lines · bands · C], and the window ``line`` moves over the lines as ``band`` does
    over the bands of each; the last axis of the weights then has the taps of ``band`` for each of ``line``, [O, C / groups, K, L · B].
    """

    time: Window
    band: Window = EACH
    bands: int = 1
    groups: int = 1
    line: Window = EACH
    lines: int = 1

    @property
    def columns(self) -> FloatArray:
        """Return the weights as a matrix [O, K · B · C / groups], whose columns begin with the channels of the oldest step's first band."""
        return np.ascontiguousarray(self.weight.transpose(0, 2, 3, 1)).reshape(len(self.weight), -1)

    def of_columns(self, columns: FloatArray) -> FloatArray:
        """Return the weights [O, C / groups, K, L · B] that the columns stand for."""
        _, channels, taps, band_taps = self.weight.shape
        return columns.reshape(len(columns), taps, band_taps, channels).transpose(0, 3, 1, 2)

    @property
    def reads_features(self) -> bool:
        """Return whether each column multiplies one feature of the input, so that a scale per feature folds into the weights."""
        return self.lines == self.bands == self.groups == 1

    def weights(self) -> tuple[Weights, ...]:
        """Return the matrix, `columns`."""
        reads, width = self.input if self.reads_features else "", "" if self.eight_bits_for else "W"
        return (Weights(self.columns, reads, width),)

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """Return the columns of each tap as matrices, where each column multiplies one feature."""
        if not self.reads_features:
            return ()
        return tuple(np.ascontiguousarray(self.weight[:, :, k, 0]) for k in range(self.weight.shape[2]))

    def width_parts(self) -> dict[str, PartSize]:
        """Return the operand of the input, and the weights where they can have four bits."""
        products = self.weight.size * self.places
        found = {"x": PartSize(products, self.lines * self.bands * self.weight.shape[1] * self.groups)}
        return found if self.eight_bits_for else {**found, "W": PartSize(products, self.weight.size)}

    @property
    def eight_bits_for(self) -> str:
        """Return why the weights have eight bits whatever a scheme says, in words; empty where they can have four."""
        return eight_bits_for(self.groups, self.weight.shape[1], int(self.weight[0].size))

    def weight_bits(self, plan: Plan) -> int:
        """Return what the scheme says, or 8 where that is all that the weights can have."""
        return 8 if self.eight_bits_for else plan.width(self.name, "W")

    def with_output_scaled(self, scale: FloatArray) -> Conv | None:
        """Return the convolution that writes y · ``scale`` [places · O], where all bands of a channel have the same scale."""
        by_band = scale.reshape(self.places, -1)
        if not (by_band == by_band[0]).all():
            return None
        return replace(self, weight=self.weight * by_band[0][:, None, None, None], bias=self.bias * by_band[0])

    def with_output_affine(self, scale: FloatArray, offset: FloatArray) -> MatrixLayer | None:
        """Return the convolution that writes y · ``scale`` + ``offset``, where they are the same in all bands of a channel."""
        by_band = offset.reshape(self.places, -1)
        return super().with_output_affine(scale, by_band[0]) if (by_band == by_band[0]).all() else None

    def with_input_divided(self, scale: FloatArray) -> Conv:
        """Return the convolution of x · ``scale`` [F] with the same output: its weights are divided by ``scale``."""
        return replace(self, weight=self.weight / scale[:, None, None])

    def equation(self, run: Equations) -> None:
        """Compute the convolution in float64; steps past the end of a sequence count as zero."""
        x = self.read_operand(run)
        channels, out = self.weight.shape[1], len(self.weight) // self.groups
        y = np.zeros_like(x, np.float64, shape=(len(x), self.time.count(x.shape[1]), self.places, len(self.weight)))
        for k, b, seen in self.taps(x, run.over(self.input).mask, 0.0):
            for g in range(self.groups):
                rows = slice(g * out, (g + 1) * out)
                y[..., rows] += seen[..., g * channels : (g + 1) * channels] @ self.weight[rows, :, k, b].T
        run.write(self.output, (y + self.bias).reshape(*y.shape[:2], self.places * len(self.weight)))

    def quantize(self, plan: Plan) -> QuantConv:
        """Make the integer matrix and the integer layer."""
        if self.eight_bits_for and plan.width(self.name, "W") == 4:
            plan.decide(f"{self.name}.W: eight bits, since {self.eight_bits_for}")
        parts = self.quantized_parts(plan)._asdict()
        geometry: Mapping[str, Any] = {
            "time": self.time, "band": self.band, "bands": self.bands, "groups": self.groups, "line": self.line, "lines": self.lines,
        }  # fmt: skip
        return QuantConv(self.name, self.input, self.output, **parts, **geometry)


def eight_bits_for(groups: int, channels: int, columns: int) -> str:
    """Return why rows of ``columns`` weights, over ``channels`` of each group, have eight bits in every scheme; empty where they need not."""
    if groups > 1 and channels == 1:
        return "each channel reads one channel alone, by few weights"
    return "" if is_less_in_four_bits(columns) else f"rows of {columns} weights take no less room in four"


def conv_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past operands and, where a window ends, writes the requantized sums over the taps."""
    to_operand, requantize, saturate = contract.to_operand, contract.requantize, contract.saturate16_shifted
    dot = contract.dot

    def step(
        n: int, t: int, k: int, x: Any, out: Any, past: Any, place: Any, phase: Any, weight: Any, bias: Any, multiplier: Any,
        left_shift: Any, pre_shift: Any, shift: int, limit: int, taps: int, stride: int, dilation: int, bands: int, band_taps: int,
        band_stride: int, band_dilation: int, band_before: int, places: int, lines: int, line_taps: int, line_stride: int,
        line_dilation: int, line_before: int, line_places: int, groups: int, operand: Any,
    ) -> int:  # fmt: skip
        F = past.shape[2]
        for j in range(F):
            if t < 0:
                past[n, place[n, 0], j] = 0
            else:
                past[n, place[n, 0], j] = to_operand(x[n, t, j], shift, limit)
        oldest = place[n, 0] + 1
        if oldest == past.shape[1]:
            oldest = 0
        place[n, 0] = oldest
        if phase[n, 0] > 0:
            phase[n, 0] = phase[n, 0] - 1
            return 0
        phase[n, 0] = stride - 1
        units = out.shape[2] // (line_places * places)
        rows = units // groups
        channels = F // (lines * bands)
        own = channels // groups
        for q in range(line_places):
            for p in range(places):
                for g in range(groups):
                    for tap in range(taps):
                        row = oldest + tap * dilation
                        if row >= past.shape[1]:
                            row = row - past.shape[1]
                        for a in range(line_taps):
                            line = q * line_stride + a * line_dilation - line_before
                            for b in range(band_taps):
                                band = p * band_stride + b * band_dilation - band_before
                                first = ((tap * line_taps + a) * band_taps + b) * own
                                for j in range(own):
                                    if line >= 0 and line < lines and band >= 0 and band < bands:
                                        operand[n, first + j] = past[
                                            n, row, (line * bands + band) * channels + g * own + j
                                        ]
                                    else:
                                        operand[n, first + j] = 0
                    for r in range(rows):
                        total = dot(weight, g * rows + r, operand, n) + bias[g * rows + r]
                        out[n, k, (q * places + p) * units + g * rows + r] = saturate(
                            requantize(total, multiplier[g * rows + r], left_shift[g * rows + r]),
                            pre_shift[g * rows + r],
                        )
        return 1

    return step


@dataclass(frozen=True)
class QuantConv(QuantWindowed, QuantMatrixLayer):
    """Compute a convolution, `Conv`, in integers: y = saturate16_shifted(requantize(weight · operands + bias), pre_shift).

    The columns of the matrix are the channels of the taps of ``band``, of those of ``line``, of those of ``time`` from the oldest to the
    latest. The state holds a ring of past operands, the place in it that the next step takes, and how many steps pass before the next output.
    """

    time: Window
    band: Window = field(default=EACH, metadata=LEFT_OUT)
    bands: int = field(default=1, metadata=LEFT_OUT)
    groups: int = field(default=1, metadata=LEFT_OUT)
    line: Window = field(default=EACH, metadata=LEFT_OUT)
    lines: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        super().__post_init__()
        where, (rows, columns) = f"layer {self.name}", self.matrix.weight.shape
        require(1 <= self.groups <= rows, f"{where}: groups {self.groups}")
        taps = self.time.taps * self.step_taps
        require(columns % taps == 0, f"{where}: {columns} columns of {taps} taps")
        require(rows % self.groups == 0, f"{where}: {rows} rows of {self.groups} groups")
        self.check_windows(rows)

    @property
    def channels(self) -> int:
        """Return the number of channels of the input."""
        return int(self.matrix.weight.shape[1] // (self.time.taps * self.step_taps) * self.groups)

    @property
    def eight_bits_for(self) -> str:
        """Return why the weights have eight bits in every scheme; see `Conv.eight_bits_for`."""
        return eight_bits_for(self.groups, self.channels // self.groups, int(self.matrix.weight.shape[1]))

    def windows(self, x: FloatArray, lengths: IndexArray, most: int) -> Iterator[FloatArray]:
        """Yield the operands that the matrix multiplies, [M, groups, K], about ``most`` at a time.

        They are those of all places of sequences ``x`` [N, T, F], of which the first ``lengths`` [N] steps count.
        """
        seen = [rows for _, _, rows in self.taps(x, np.arange(x.shape[1]) < lengths[:, None], 0.0)]
        size, steps, places, channels = seen[0].shape
        real = np.arange(steps) < np.array([self.time.count(int(length)) for length in lengths])[:, None]
        at_once = max(1, most // max(1, size * places * channels * len(seen)))
        for first in range(0, steps, at_once):
            part = slice(first, first + at_once)
            block = np.stack([rows[:, part] for rows in seen], axis=3)[real[:, part]]
            by_group = block.reshape(-1, len(seen), self.groups, channels // self.groups).transpose(0, 2, 1, 3)
            yield by_group.reshape(len(by_group), self.groups, -1)

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, an input without the features of one step, and an output without those of one place."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.places * self.matrix.weight.shape[0], True)

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return the one matrix, by which every band of the output multiplies."""
        (found,) = super().matrices()
        return (replace(found, times=self.places),)

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of past operands, the place in it that the next step takes, and the steps that pass before the next output."""
        return (StateArray("past", (self.time.span, self.features), np.int16, self.operand.limit), *self.clock())

    def step_loop(self) -> StepLoop:
        """Return the step that `conv_step` makes, with the matrix and the geometry as its parameters."""
        time = self.time
        inner = *self.band_numbers, *self.line_numbers, self.groups
        parameters = (*self.numbers, time.taps, time.stride, time.dilation, *inner)
        return StepLoop(conv_step, parameters, (Scratch((self.matrix.weight.shape[1],), np.int16),))
