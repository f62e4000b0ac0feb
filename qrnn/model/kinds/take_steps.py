"""Layers of kind take steps read windows that lie wholly inside a sequence, and put steps of them side by side: slices, strides and frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.errors import DataError
from qrnn.model.gathered import QuantGathered
from qrnn.model.kinds.concat import carried_offset
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import StateArray, Step, StepLoop, Written
from qrnn.model.parts import LEFT_OUT, STATE_MAX, IndexArray, Int64Array, QuantInitialState, TensorFormat, require
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.time import LengthRule
from qrnn.model.windowed import MOST_ELEMENTS

LONGEST_SPAN = 1 << 24
"""The most steps of a window, and the largest stride."""


class Taken:
    """Windows of ``span`` steps that begin every ``stride`` steps, among the first ``until`` steps of a sequence, or all of them (0)."""

    if TYPE_CHECKING:  # dataclasses' fields
        span: int
        stride: int
        until: int
        exact: bool

    @property
    def fixed_steps(self) -> int | None:
        """Return the steps of the window, where a sequence has to have as many."""
        return self.span if self.exact else None

    @property
    def least_steps(self) -> int:
        """Return the steps of the window, where a sequence has to have as many."""
        return self.fixed_steps or 0

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of the windows that lie wholly inside the steps that are read."""
        read = given if self.until == 0 else given.at_most(self.until)
        return read.windows(self.stride - self.span, self.stride)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return the stride, and the last step of the first window."""
        return self.stride, self.span - 1


@dataclass(frozen=True)
class TakeSteps(Taken, Layer):
    """Compute y[j, k] = x[j·stride + offsets[k], indices[k]]; x is [N, T, F] and y is [N, T', K].

    The window at place j is the steps j·stride … j·stride + span - 1. Every one that lies wholly inside the sequence gives a step of y:
    T' = max(0, floor((T - span) / stride) + 1). With ``until`` above 0, the first ``until`` steps of a sequence are read alone; the others
    give nothing. With ``exact``, a sequence has to have ``span`` steps, and gives one step of y, or none.

    Slices are windows of which one step is taken: x[a:-b:s] has offsets a, span a + b + 1 and stride s. All steps of a fixed number T side
    by side have the offsets 0 … T - 1.

    Parameters
    ----------
    indices, offsets: [K] each, a feature of x and a step of the window, 0 … span - 1.
    """

    name: str
    input: str
    output: str
    indices: IndexArray
    offsets: IndexArray
    span: int = 1
    stride: int = 1
    until: int = 0
    exact: bool = False

    keeps_state: ClassVar[bool] = True
    carries_offset: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Copy the steps in float64; DataError for a sequence of another number of steps than ``exact`` asks for."""
        x, axis = run.read(self.input), run.over(self.input)
        others = axis.lengths[(axis.lengths != self.span) & (axis.lengths > 0)]
        if self.exact and others.size:
            raise DataError(
                f"layer {self.name!r} takes sequences of {self.span} steps alone, and one has {int(others[0])}"
            )
        places = run.over(self.output).steps
        steps = np.arange(places)[:, None] * self.stride + self.offsets
        inside = steps < x.shape[1]  # of padding, which nobody reads
        y = np.where(inside, x[:, np.minimum(steps, x.shape[1] - 1), self.indices], 0.0)
        run.write(self.output, y)

    def quantize(self, plan: Plan) -> QuantTakeSteps:
        """Give the output the fraction bits and the offsets of the input."""
        frac = plan.frac(self.input, self.name)
        offset = carried_offset(plan.offset(self.input), self.indices, frac, frac)
        assert offset is not None, "the fraction bits are the same"
        plan.set_format(self.output, frac, offset=offset)
        where = self.indices, self.offsets, self.span, self.stride, self.until, self.exact
        return QuantTakeSteps(self.name, self.input, self.output, frac, *where)


def take_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past steps and, where a window ends, copies features of its steps."""

    def step(
        n: int, t: int, k: int, x: Any, out: Any, past: Any, place: Any, wait: Any, steps: Any, indices: Any, delays: Any,
        stride: int, until: int,
    ) -> int:  # fmt: skip
        if until > 0:
            if steps[n, 0] == until:
                return 0
            steps[n, 0] = steps[n, 0] + 1
        newest = place[n, 0]
        for j in range(past.shape[2]):
            past[n, newest, j] = x[n, t, j]
        following = newest + 1
        if following == past.shape[1]:
            following = 0
        place[n, 0] = following
        if wait[n, 0] > 0:
            wait[n, 0] = wait[n, 0] - 1
            return 0
        wait[n, 0] = stride - 1
        for j in range(out.shape[2]):
            row = newest - delays[j]
            if row < 0:
                row = row + past.shape[1]
            out[n, k, j] = past[n, row, indices[j]]
        return 1

    return step


@dataclass(frozen=True)
class QuantTakeSteps(Taken, QuantGathered):
    """Compute `TakeSteps` of integers; the output has the fraction bits of the input, ``frac``, and its offsets.

    The state holds a ring of past steps from the first one that a window takes, the place in it that the next step takes, how many steps pass
    before the next output, and the number of steps so far, where that is limited.
    """

    name: str
    input: str
    output: str
    frac: int
    indices: Int64Array
    offsets: Int64Array
    span: int = field(default=1, metadata=LEFT_OUT)
    stride: int = field(default=1, metadata=LEFT_OUT)
    until: int = field(default=0, metadata=LEFT_OUT)
    exact: bool = field(default=False, metadata=LEFT_OUT)

    by_rows = False
    carries_offset: ClassVar[bool] = True

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for what, array in (("indices", self.indices), ("offsets", self.offsets)):
            require(array.ndim == 1 and array.dtype == np.int64 and array.size > 0, f"{where}: {what} is not int64[K]")
            require(int(array.min()) >= 0, f"{where}: {what} below 0")
        require(self.indices.shape == self.offsets.shape, f"{where}: indices and offsets of different lengths")
        require(self.indices.size <= MOST_ELEMENTS, f"{where}: {self.indices.size} features")
        for what, value in (("span", self.span), ("stride", self.stride)):
            require(1 <= value <= LONGEST_SPAN, f"{where}: {what} {value}, expected 1 to {LONGEST_SPAN}")
        require(int(self.offsets.max()) < self.span, f"{where}: offset {int(self.offsets.max())} of {self.span} steps")
        require(0 <= self.until < 1 << 31, f"{where}: until {self.until}")
        require(
            not self.exact or self.until == self.span, f"{where}: exact with until {self.until} and span {self.span}"
        )
        require(0 <= self.frac <= 15, f"{where}: frac {self.frac} not in 0…15")
        require(self.ring * self.features <= MOST_ELEMENTS, f"{where}: a ring of {self.ring} steps is too large")

    @property
    def ring(self) -> int:
        """Return the number of steps of the ring."""
        return self.span - int(self.offsets.min())

    @property
    def most_steps(self) -> int | None:
        """Return the number of steps that a sequence has to have, where it has to have one."""
        return self.fixed_steps

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the fraction bits of the input, and the offset of each feature that is copied."""
        offset = carried_offset(tensors[self.input].offset, self.indices, self.frac, self.frac)
        return {self.output: Written(self.frac, STATE_MAX, offset or (0,))}

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of past steps, the place of the next one, the steps before the next output, and the number of steps so far."""
        past = StateArray("past", (self.ring, self.features), np.int16, STATE_MAX, least=-STATE_MAX - 1)
        first = self.span - 1
        starts = (QuantInitialState(np.array([first], np.int32)),) if first else ()
        return (
            past,
            StateArray("place", (1,), np.int32, self.ring - 1, least=0),
            StateArray("wait", (1,), np.int32, max(first, self.stride - 1), starts=starts, least=0),
            StateArray("steps", (1,), np.int32, self.until, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step that `take_step` makes, which counts offsets back from the last step of a window."""
        return StepLoop(take_step, (self.indices, self.span - 1 - self.offsets, self.stride, self.until))
