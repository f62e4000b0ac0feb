"""Layers of kind unstack give several steps for each step: what lies side by side in a step comes one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.model.gathered import QuantGathered
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import StateArray, Step, StepLoop, Written
from qrnn.model.parts import LEFT_OUT, STATE_MAX, IndexArray, Int64Array, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import LengthRule
from qrnn.model.window import LARGEST_WINDOW
from qrnn.model.windowed import MOST_ELEMENTS


class Unstacked:
    """Each step gives `count` steps; the last ``cut`` steps of a sequence are left out, so that they come with the step that follows."""

    if TYPE_CHECKING:  # dataclasses' fields
        indices: Int64Array
        cut: int

    @property
    def count(self) -> int:
        """Return the number of steps that each step gives."""
        return len(self.indices)

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of `count` times as many steps without the last ``cut`` ones."""
        return given.times(self.count).windows(-self.cut, 1)

    @property
    def gives_steps(self) -> tuple[int, int]:
        """Return `count` and ``cut``."""
        return self.count, self.cut


@dataclass(frozen=True)
class Unstack(Unstacked, Layer):
    """Compute y[j·s + r, i] = x[j, indices[r, i]] for r = 0 … s - 1, without the last ``cut`` steps of each sequence.

    x is [N, T, F] and y is [N, s·T - cut, K], or [N, 0, K] for a sequence of no steps. So come the phases of a transposed convolution
    with stride s one after the other, and a step that is repeated.

    Parameters
    ----------
    indices: [s, K], the feature of x that is feature i of step r; a feature may be read several times.
    cut: 0 … s - 1.
    """

    name: str
    input: str
    output: str
    indices: IndexArray
    cut: int = 0

    keeps_state: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Copy the features in float64."""
        x = run.read(self.input)
        steps = x[:, :, self.indices].reshape(len(x), -1, self.indices.shape[1])
        run.write(self.output, steps[:, : run.over(self.output).steps])

    def quantize(self, plan: Plan) -> QuantUnstack:
        """Give the output the fraction bits of the input."""
        frac = plan.frac(self.input, self.name)
        plan.set_format(self.output, frac)
        return QuantUnstack(self.name, self.input, self.output, frac, self.indices, self.cut)


def unstack_step(contract: Any) -> Step:
    """Return the step that writes the steps that x holds: the last ``cut`` of them are held until the next step has come."""

    def step(n: int, t: int, k: int, x: Any, out: Any, held: Any, begun: Any, indices: Any, cut: int) -> int:
        last: int = indices.shape[0] - cut
        if begun[n, 0] > 0:
            for r in range(cut):
                for j in range(out.shape[2]):
                    out[n, k + r, j] = held[n, r, j]
            for r in range(last):
                for j in range(out.shape[2]):
                    out[n, k + cut + r, j] = x[n, t, indices[r, j]]
        else:
            for r in range(last):
                for j in range(out.shape[2]):
                    out[n, k + r, j] = x[n, t, indices[r, j]]
        for r in range(cut):
            for j in range(out.shape[2]):
                held[n, r, j] = x[n, t, indices[last + r, j]]
        if begun[n, 0] == 0:
            begun[n, 0] = 1
            return last
        return last + cut

    return step


@dataclass(frozen=True)
class QuantUnstack(Unstacked, QuantGathered):
    """Compute `Unstack` of integers; the output has the fraction bits of the input, ``frac``.

    The state holds the steps that come with the step that follows, and whether there was a step before.
    """

    name: str
    input: str
    output: str
    frac: int
    indices: Int64Array
    cut: int = field(default=0, metadata=LEFT_OUT)

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        indices = self.indices
        require(
            indices.ndim == 2 and indices.dtype == np.int64 and indices.size > 0, f"{where}: indices is not int64[S, K]"
        )
        require(int(indices.min()) >= 0, f"{where}: indices below 0")
        require(self.count <= LARGEST_WINDOW, f"{where}: {self.count} steps for one, expected at most {LARGEST_WINDOW}")
        require(indices.size <= MOST_ELEMENTS, f"{where}: {indices.size} features")
        require(0 <= self.cut < self.count, f"{where}: cut {self.cut} of {self.count} steps")
        require(0 <= self.frac <= 15, f"{where}: frac {self.frac} not in 0…15")

    def rows_in(self, steps: int) -> int:
        """Return `count` rows for each step."""
        return self.count * steps

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, an input with fewer features than are read, and an output of others."""
        checks.expect(self.output, self.indices.shape[1], True)
        self.check_read(checks)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the fraction bits of the input."""
        return {self.output: Written(self.frac, STATE_MAX)}

    def states(self) -> tuple[StateArray, ...]:
        """Return the steps that are held, one number where there are none, and whether there was a step before."""
        shape = (self.cut, self.indices.shape[1]) if self.cut else (1, 1)
        held = StateArray("held", shape, np.int16, STATE_MAX, least=-STATE_MAX - 1)
        return (held, StateArray("begun", (1,), np.int32, 1, least=0))

    def step_loop(self) -> StepLoop:
        """Return the step that `unstack_step` makes."""
        return StepLoop(unstack_step, (self.indices, self.cut))
