"""Convolutions over time are causal: every output is computed from its step and earlier ones, so that sequences can be streamed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qrnn.model.layer_facts import Scratch, StateArray, Step, StepLoop
from qrnn.model.matrix_layer import MatrixLayer, QuantMatrixLayer
from qrnn.model.parts import FloatArray, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import LengthRule


@dataclass(frozen=True)
class Conv(MatrixLayer):
    """Compute y_j = bias + Σ_k weight[:, :, k] · x_{j·stride - (K - 1 - k)·dilation}; weight [O, F, K], bias [O].

    The layer makes [N, ⌈T / stride⌉, O] of [N, T, F]. This is the convolution of ONNX's operator Conv and PyTorch's Conv1d, whose weights
    have the same layout, padded by (K - 1)·dilation steps of zeros before the first step.
    """

    stride: int = 1
    dilation: int = 1

    keeps_state: ClassVar[bool] = True

    @property
    def columns(self) -> FloatArray:
        """Return the weights as a matrix [O, K · F], whose columns begin with the features of the oldest step."""
        return np.ascontiguousarray(self.weight.transpose(0, 2, 1)).reshape(len(self.weight), -1)

    def of_columns(self, columns: FloatArray) -> FloatArray:
        """Return the weights [O, F, K] that the columns [O, K · F] stand for."""
        return columns.reshape(len(columns), self.weight.shape[2], -1).transpose(0, 2, 1)

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule ⌈L / stride⌉ for an input of L steps."""
        return given.windows(self.stride - 1, self.stride)

    def equation(self, run: Equations) -> None:
        """Compute the convolution in float64; steps past the end of a sequence count as zero."""
        x, taps = self.read_operand(run), self.weight.shape[2]
        real = np.where(run.over(self.input).mask[:, :, None], x, 0.0)
        padded = np.pad(real, ((0, 0), ((taps - 1) * self.dilation, 0), (0, 0)))
        last = x.shape[1]
        steps = [padded[:, k * self.dilation :][:, : last : self.stride] @ self.weight[:, :, k].T for k in range(taps)]
        run.write(self.output, np.sum(steps, axis=0) + self.bias)

    def with_input_divided(self, scale: FloatArray) -> Conv:
        """Return the convolution of x · ``scale`` [F] with the same output: its weights are divided by ``scale``."""
        return replace(self, weight=self.weight / scale[:, None])

    def quantize(self, plan: Plan) -> QuantConv:
        """Make the integer matrix over the features of all taps, and the integer layer."""
        taps = self.weight.shape[2]
        parts = self.quantized_parts(plan)._asdict()
        geometry = {"taps": taps, "stride": self.stride, "dilation": self.dilation}
        return QuantConv(self.name, self.input, self.output, **parts, **geometry)


def conv_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past operands and, every ``stride`` steps, writes the requantized sums over the taps."""
    to_operand, requantize, saturate = contract.to_operand, contract.requantize, contract.saturate16_shifted
    dot = contract.dot

    def step(
        n: int, t: int, k: int, x: Any, out: Any, past: Any, place: Any, phase: Any, weight: Any, bias: Any, multiplier: Any,
        left_shift: Any, pre_shift: Any, shift: int, limit: int, taps: int, stride: int, dilation: int, operand: Any,
    ) -> int:  # fmt: skip
        F = past.shape[2]
        for j in range(F):
            past[n, place[n, 0], j] = to_operand(x[n, t, j], shift, limit)
        oldest = place[n, 0] + 1
        if oldest == past.shape[1]:
            oldest = 0
        place[n, 0] = oldest
        if phase[n, 0] > 0:
            phase[n, 0] = phase[n, 0] - 1
            return 0
        phase[n, 0] = stride - 1
        for tap in range(taps):
            row = oldest + tap * dilation
            if row >= past.shape[1]:
                row = row - past.shape[1]
            for j in range(F):
                operand[n, tap * F + j] = past[n, row, j]
        for r in range(out.shape[2]):
            total = dot(weight, r, operand, n) + bias[r]
            out[n, k, r] = saturate(requantize(total, multiplier[r], left_shift[r]), pre_shift[r])
        return 1

    return step


@dataclass(frozen=True)
class QuantConv(QuantMatrixLayer):
    """Compute a causal convolution, `Conv`, in integers: y_j = saturate16_shifted(requantize(weight · operands + bias), pre_shift).

    The columns of the matrix are the features of ``taps`` steps, from the oldest to the present one, which are ``dilation`` steps apart.
    The state holds a ring of past operands, the place in it that the next step takes, and how many steps pass before the next output.
    """

    taps: int
    stride: int = 1
    dilation: int = 1

    by_rows = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("taps", "stride", "dilation"):
            require(1 <= getattr(self, name) <= 1 << 16, f"layer {self.name}: {name} {getattr(self, name)}")
        columns = self.matrix.weight.shape[1]
        require(columns % self.taps == 0, f"layer {self.name}: {columns} columns of {self.taps} taps")
        size = self.states()[0].shape
        require(size[0] * size[1] <= 1 << 24, f"layer {self.name}: a ring of {size[0]} steps of {size[1]} features")

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule ⌈L / stride⌉ for an input of L steps."""
        return given.windows(self.stride - 1, self.stride)

    def rows_in(self, steps: int) -> int:
        """Return ⌈steps / stride⌉."""
        return -(-steps // self.stride)

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, an input without the features of one tap, and an output without one feature per row."""
        checks.expect(self.input, self.matrix.weight.shape[1] // self.taps, True)
        checks.expect(self.output, self.matrix.weight.shape[0], True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of past operands, the place in it that the next step takes, and the steps that pass before the next output."""
        steps = (self.taps - 1) * self.dilation + 1
        return (
            StateArray("past", (steps, self.matrix.weight.shape[1] // self.taps), np.int16, self.operand.limit),
            StateArray("place", (1,), np.int32, steps - 1, least=0),
            StateArray("phase", (1,), np.int32, self.stride - 1, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step that `conv_step` makes, with the matrix and the geometry as its parameters."""
        parameters = (*self.numbers, self.taps, self.stride, self.dilation)
        return StepLoop(conv_step, parameters, (Scratch((self.matrix.weight.shape[1],), np.int16),))
