"""Layers of kind delay put past steps of a tensor beside its present one, as caches of past frames and spliced contexts do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.model.gathered import QuantGathered
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import StateArray, Step, StepLoop, Written
from qrnn.model.parts import STATE_MAX, IndexArray, Int64Array, TensorFormat, require
from qrnn.model.surroundings import Equations, Plan
from qrnn.model.window import LARGEST_WINDOW
from qrnn.model.windowed import MOST_ELEMENTS


@dataclass(frozen=True)
class Delay(Layer):
    """Compute y[t, k] = x[t - delays[k], indices[k]], which is 0 before the first step; x is [N, T, F] and y is [N, T, K].

    ``indices`` and ``delays`` are [K], each delay at least 0.
    """

    name: str
    input: str
    output: str
    indices: IndexArray
    delays: IndexArray

    keeps_state: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Copy the features of past steps in float64."""
        x = run.read(self.input)
        y = np.zeros_like(x, np.float64, shape=(*x.shape[:2], len(self.indices)))
        for delay in np.unique(self.delays):
            (places,) = np.nonzero(self.delays == delay)
            y[:, delay:, places] = x[:, : max(0, x.shape[1] - delay), :][:, :, self.indices[places]]
        run.write(self.output, y)

    def quantize(self, plan: Plan) -> QuantDelay:
        """Give the output the fraction bits of the input."""
        frac = plan.frac(self.input, self.name)
        plan.set_format(self.output, frac)
        return QuantDelay(self.name, self.input, self.output, frac, self.indices, self.delays)


def delay_step(contract: Any) -> Step:
    """Return the step that puts x into the ring of past steps and copies features of it."""

    def step(n: int, t: int, k: int, x: Any, out: Any, past: Any, place: Any, indices: Any, delays: Any) -> int:
        for j in range(past.shape[2]):
            past[n, place[n, 0], j] = x[n, t, j]
        for j in range(out.shape[2]):
            row = place[n, 0] - delays[j]
            if row < 0:
                row = row + past.shape[1]
            out[n, k, j] = past[n, row, indices[j]]
        following = place[n, 0] + 1
        if following == past.shape[1]:
            following = 0
        place[n, 0] = following
        return 1

    return step


@dataclass(frozen=True)
class QuantDelay(QuantGathered):
    """Compute `Delay` of integers; the output has the fraction bits of the input, ``frac``.

    The state holds a ring of past steps and the place in it that the next step takes.
    """

    name: str
    input: str
    output: str
    frac: int
    indices: Int64Array
    delays: Int64Array

    by_rows = False

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for what, array in (("indices", self.indices), ("delays", self.delays)):
            require(array.ndim == 1 and array.dtype == np.int64 and array.size > 0, f"{where}: {what} is not int64[K]")
            require(int(array.min()) >= 0, f"{where}: {what} below 0")
        require(self.indices.shape == self.delays.shape, f"{where}: indices and delays of different lengths")
        require(self.indices.size <= MOST_ELEMENTS, f"{where}: {self.indices.size} features")
        require(int(self.delays.max()) <= LARGEST_WINDOW, f"{where}: a delay above {LARGEST_WINDOW}")
        require(0 <= self.frac <= 15, f"{where}: frac {self.frac} not in 0…15")
        require(
            self.span * (int(self.indices.max()) + 1) <= MOST_ELEMENTS,
            f"{where}: a ring of {self.span} steps is too large",
        )

    @property
    def span(self) -> int:
        """Return the number of steps of the ring."""
        return int(self.delays.max()) + 1

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the fraction bits and the limit of the input."""
        return {self.output: Written(self.frac, STATE_MAX)}

    def states(self) -> tuple[StateArray, ...]:
        """Return the ring of past steps, and the place in it that the next step takes."""
        past = StateArray("past", (self.span, self.features), np.int16, STATE_MAX, least=-STATE_MAX - 1)
        return (past, StateArray("place", (1,), np.int32, self.span - 1, least=0))

    def step_loop(self) -> StepLoop:
        """Return the step that `delay_step` makes."""
        return StepLoop(delay_step, (self.indices, self.delays))
