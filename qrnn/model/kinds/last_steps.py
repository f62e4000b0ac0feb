"""Layers of kind last steps take several steps at the end of each sequence, which are given where it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.model.copied import QuantCopy
from qrnn.model.layer import NEVER, Layer
from qrnn.model.layer_facts import StateArray, Step, StepLoop
from qrnn.model.parts import LEFT_OUT, STATE_MAX, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import LengthRule
from qrnn.model.window import LARGEST_WINDOW
from qrnn.model.windowed import MOST_ELEMENTS


class AtTheEnd:
    """The last ``count`` steps of a sequence but for the last ``without``."""

    if TYPE_CHECKING:  # dataclasses' fields
        count: int
        without: int

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule max(0, min(L, count) - without)."""
        return given.at_most(self.count).windows(-self.without, 1)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return that no step is given before the end of the sequence."""
        return 1, NEVER


@dataclass(frozen=True)
class LastSteps(AtTheEnd, Layer):
    """Take each sequence's own last ``count`` steps but for the last ``without``, as x[-count:-without]: [N, T, F] becomes [N, T', F].

    T' is max(0, min(T, count) - without): a sequence of fewer steps gives what it has.
    """

    name: str
    input: str
    output: str
    features: int
    count: int
    without: int = 0

    keeps_state: ClassVar[bool] = True
    carries_offset: ClassVar[bool] = True

    @property
    def homogeneous(self) -> bool:
        """Return True: a copy of a feature keeps its scale."""
        return True

    def equation(self, run: Equations) -> None:
        """Copy the last valid steps in float64."""
        x, lengths, steps = run.read(self.input), run.over(self.input).lengths, run.over(self.output).steps
        first = np.maximum(lengths - self.count, 0)
        places = np.minimum(first[:, None] + np.arange(steps), max(0, x.shape[1] - 1))
        run.write(self.output, np.take_along_axis(x, places[:, :, None], axis=1))

    def quantize(self, plan: Plan) -> QuantLastSteps:
        """Give the output the format of the input."""
        plan.copy_format(self.input, self.output)
        return QuantLastSteps(self.name, self.input, self.output, self.features, self.count, self.without)


def last_steps_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of the last steps, and past the end writes the oldest of these."""

    def step(n: int, t: int, k: int, x: Any, out: Any, past: Any, place: Any, held: Any, without: int) -> int:
        if t >= 0:
            for j in range(past.shape[2]):
                past[n, place[n, 0], j] = x[n, t, j]
            following = place[n, 0] + 1
            if following == past.shape[1]:
                following = 0
            place[n, 0] = following
            if held[n, 0] < past.shape[1]:
                held[n, 0] = held[n, 0] + 1
            return 0
        if held[n, 0] <= without:
            return 0
        oldest = place[n, 0] - held[n, 0]
        if oldest < 0:
            oldest = oldest + past.shape[1]
        for j in range(past.shape[2]):
            out[n, k, j] = past[n, oldest, j]
        held[n, 0] = held[n, 0] - 1
        return 1

    return step


@dataclass(frozen=True)
class QuantLastSteps(AtTheEnd, QuantCopy):
    """Compute `LastSteps` of integers: ``features`` of each of the last ``count`` steps, copied past the end of the sequence.

    The state holds a ring of the last steps, the place in it that the next step takes, and how many steps it holds.
    """

    name: str
    input: str
    output: str
    features: int
    count: int
    without: int = field(default=0, metadata=LEFT_OUT)

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(1 <= self.count <= LARGEST_WINDOW, f"{where}: count {self.count}, expected 1 to {LARGEST_WINDOW}")
        require(0 <= self.without < self.count, f"{where}: without {self.without} of {self.count} steps")
        require(self.features >= 1, f"{where}: {self.features} features")
        require(self.count * self.features <= MOST_ELEMENTS, f"{where}: a ring of {self.count} steps is too large")

    @property
    def steps_past_end(self) -> int:
        """Return ``count``: each step is given past the end."""
        return self.count

    def rows_in(self, steps: int) -> int:
        """Return how many steps are given past the end."""
        return self.count - self.without

    def check(self, checks: Checks) -> None:
        """Refuse tensors of other shapes than ``features`` over time."""
        checks.expect(self.input, self.features, True)
        checks.expect(self.output, self.features, True)

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of the last steps, the place of the next one, and how many steps it holds."""
        return (
            StateArray("past", (self.count, self.features), np.int16, STATE_MAX, least=-STATE_MAX - 1),
            StateArray("place", (1,), np.int32, self.count - 1, least=0),
            StateArray("held", (1,), np.int32, self.count, least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step that `last_steps_step` makes."""
        return StepLoop(last_steps_step, (self.without,))
