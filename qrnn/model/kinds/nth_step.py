"""Layers of kind nth_step give one step of a sequence, counted from its beginning, at each step from there on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.errors import DataError
from qrnn.model.copied import QuantCopy
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import StateArray, Step, StepLoop
from qrnn.model.parts import STATE_MAX, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import LengthRule
from qrnn.model.windowed import MOST_ELEMENTS


class Held:
    """The step ``step`` of a sequence, at each step from there on."""

    if TYPE_CHECKING:  # dataclasses' fields
        step: int

    @property
    def least_steps(self) -> int:
        """Return the number of steps up to the one that is held."""
        return self.step + 1

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule max(0, L - step)."""
        return given.windows(-self.step, 1)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return that the first output comes with the step that is held."""
        return 1, self.step


@dataclass(frozen=True)
class NthStep(Held, Layer):
    """Compute y[j] = x[step] for j = 0 … T - step - 1; x is [N, T, F] and y is [N, T - step, F].

    Its last step, by `qrnn.model.kinds.last_step.LastStep`, is x[step] of the sequence. A sequence has to have step + 1 steps, or none.
    """

    name: str
    input: str
    output: str
    features: int
    step: int

    keeps_state: ClassVar[bool] = True
    carries_offset: ClassVar[bool] = True

    @property
    def homogeneous(self) -> bool:
        """Return True: a copy of a feature keeps its scale."""
        return True

    def equation(self, run: Equations) -> None:
        """Copy the step in float64; DataError for a sequence that does not have it."""
        x, lengths = run.read(self.input), run.over(self.input).lengths
        short = lengths[(lengths > 0) & (lengths <= self.step)]
        if short.size:
            raise DataError(
                f"layer {self.name!r} reads step {self.step} of each sequence, and one has {int(short[0])} steps; expected at least "
                f"{self.step + 1}"
            )
        held = x[:, self.step] if x.shape[1] > self.step else np.zeros((len(x), x.shape[2]))
        run.write(self.output, np.repeat(held[:, None], run.over(self.output).steps, axis=1))

    def quantize(self, plan: Plan) -> QuantNthStep:
        """Give the output the format of the input."""
        plan.copy_format(self.input, self.output)
        return QuantNthStep(self.name, self.input, self.output, self.features, self.step)


def nth_step(contract: Any) -> Step:
    """Return the step that keeps x where it is the one to be held, and writes what is held."""

    def step(n: int, t: int, k: int, x: Any, out: Any, kept: Any, steps: Any, held: int) -> int:
        if steps[n, 0] < held:
            steps[n, 0] = steps[n, 0] + 1
            return 0
        if steps[n, 0] == held:
            for j in range(kept.shape[1]):
                kept[n, j] = x[n, t, j]
            steps[n, 0] = held + 1
        for j in range(kept.shape[1]):
            out[n, k, j] = kept[n, j]
        return 1

    return step


@dataclass(frozen=True)
class QuantNthStep(Held, QuantCopy):
    """Compute `NthStep` of integers: ``features`` of the step ``step``, copied.

    The state holds that step, and the number of steps until it was there.
    """

    name: str
    input: str
    output: str
    features: int
    step: int

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(0 <= self.step < (1 << 31) - 1, f"{where}: step {self.step}")
        require(1 <= self.features <= MOST_ELEMENTS, f"{where}: {self.features} features")

    def check(self, checks: Checks) -> None:
        """Refuse tensors of other shapes than ``features`` over time."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.features, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the step that is held, and the number of steps until it was there."""
        return (
            StateArray("kept", (self.features,), np.int16, STATE_MAX, least=-STATE_MAX - 1),
            StateArray("steps", (1,), np.int32, self.step + 1, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step that `nth_step` makes."""
        return StepLoop(nth_step, (self.step,))
