"""Layers of kind align give each step as it is, but some steps later, so that what joins it with a later tensor has both at one time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Part, Reading, StateArray, Step, StepLoop, Written
from qrnn.model.parts import STATE_MAX, QuantInitialState, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.window import LARGEST_WINDOW
from qrnn.model.windowed import MOST_ELEMENTS


@dataclass(frozen=True)
class Align(Layer):
    """Compute y[j] = x[j], [N, T, F], of F ``features``. In a stream step j comes out ``steps`` steps after its own, 1 or more.

    Over a whole sequence it changes nothing. `qrnn.model.aligning` puts it in front of what joins tensors that come at different times.
    """

    name: str
    input: str
    output: str
    features: int
    steps: int

    keeps_state: ClassVar[bool] = True

    @property
    def homogeneous(self) -> bool:
        """Return True: a copy of a feature keeps its scale."""
        return True

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return 1 and the steps by which each step is late."""
        return 1, self.steps

    def equation(self, run: Equations) -> None:
        """Copy all steps in float64."""
        run.write(self.output, run.read(self.input))

    def quantize(self, plan: Plan) -> QuantAlign:
        """Give the output the format of the input."""
        frac = plan.frac(self.input, self.name)
        plan.copy_format(self.input, self.output)
        return QuantAlign(self.name, self.input, self.output, frac, self.features, self.steps)


def align_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of held steps and, when all of them are taken, gives the oldest one."""

    def step(n: int, t: int, k: int, x: Any, out: Any, held: Any, place: Any, phase: Any) -> int:
        for j in range(held.shape[2]):
            if t >= 0:
                held[n, place[n, 0], j] = x[n, t, j]
        oldest = place[n, 0] + 1
        if oldest == held.shape[1]:
            oldest = 0
        place[n, 0] = oldest
        if phase[n, 0] > 0:
            phase[n, 0] = phase[n, 0] - 1
            return 0
        for j in range(held.shape[2]):
            out[n, k, j] = held[n, oldest, j]
        return 1

    return step


@dataclass(frozen=True)
class QuantAlign(QuantLayer):
    """Compute `Align` of integers; the output has the format of the input, with ``frac`` fraction bits and ``features`` features.

    The state holds a ring of ``steps`` + 1 steps, the place in it that the next step takes, and how many steps pass before the first output.
    """

    name: str
    input: str
    output: str
    frac: int
    features: int
    steps: int

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(1 <= self.features <= MOST_ELEMENTS, f"{where}: features {self.features}")
        require(1 <= self.steps < LARGEST_WINDOW, f"{where}: steps {self.steps}, expected 1 to {LARGEST_WINDOW - 1}")
        require(
            (self.steps + 1) * self.features <= MOST_ELEMENTS, f"{where}: a ring of {self.steps + 1} steps is too large"
        )
        require(0 <= self.frac <= 15, f"{where}: frac {self.frac} not in 0…15")

    @property
    def steps_past_end(self) -> int:
        """Return the steps by which each step is late."""
        return self.steps

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return 1 and the steps by which each step is late."""
        return 1, self.steps

    def rows_in(self, steps: int) -> int:
        """Return the rows of ``steps`` steps and of those past the end."""
        return steps + self.steps

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, or of other features."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.features, True)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with ``frac`` fraction bits."""
        return (Reading(self.input, self.frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the format of the input."""
        return {self.output: Written(self.frac, tensors[self.input].limit)}

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: a copy rounds nothing."""
        return ()

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of held steps, the place that the next step takes, and the steps that pass before the first output."""
        start = (QuantInitialState(np.array([self.steps], np.int32)),)
        return (
            StateArray("held", (self.steps + 1, self.features), np.int16, STATE_MAX, least=-STATE_MAX - 1),
            StateArray("place", (1,), np.int32, self.steps, least=0),
            StateArray("phase", (1,), np.int32, self.steps, starts=start, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step that `align_step` makes."""
        return StepLoop(align_step, ())
