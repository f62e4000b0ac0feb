"""Layers of kind repeat give a vector at every step: the state that an encoder ends in, or an input without time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qrnn.model.copied import QuantCopy
from qrnn.model.layer import NEVER, Layer
from qrnn.model.layer_facts import Loop, RowLoop
from qrnn.model.parts import LEFT_OUT, require
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.time import LengthRule
from qrnn.model.window import LARGEST_WINDOW


class Repeated:
    """A vector at each of as many steps as the tensor ``like`` has, or of ``count`` where that is not 0."""

    if TYPE_CHECKING:  # dataclasses' fields
        like: str
        vector: str
        count: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensor whose steps count, and of the vector."""
        return (self.like, self.vector)

    @property
    def repeated(self) -> str | None:
        """Return the name of the vector."""
        return self.vector

    @property
    def repeats(self) -> int:
        """Return the number of steps; 0 for as many as ``like`` has."""
        return self.count

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the rule of ``like``, or that of ``count`` steps."""
        return given if self.count == 0 else given.exactly(self.count)

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return that steps come with those of ``like``; a fixed number of them belongs to a whole sequence."""
        return (1, NEVER) if self.count else (1, 0)


@dataclass(frozen=True)
class Repeat(Repeated, Layer):
    """Compute y[n, t] = vector[n] for each of as many steps as the tensor ``like`` has, or of ``count`` where that is not 0.

    ``vector`` is [N, F] and y is [N, T, F]; of ``like`` [N, T, …] nothing but the number of steps is read.
    """

    name: str
    like: str
    vector: str
    output: str
    count: int = 0

    carries_offset: ClassVar[bool] = True

    def equation(self, run: Equations) -> None:
        """Copy the vector in float64."""
        run.write(self.output, np.repeat(run.read(self.vector)[:, None], run.over(self.output).steps, axis=1))

    def quantize(self, plan: Plan) -> QuantRepeat:
        """Give the output the format of the vector."""
        plan.copy_format(self.vector, self.output)
        return QuantRepeat(self.name, self.like, self.vector, self.output, self.count)


def copied_rows(contract: Any) -> Loop:
    """Return the loop that copies rows."""

    def rows(first: int, last: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for j in range(out.shape[1]):
                out[m, j] = x[m, j]

    return rows


@dataclass(frozen=True)
class QuantRepeat(Repeated, QuantCopy):
    """Compute `Repeat` of integers, which are copied."""

    name: str
    like: str
    vector: str
    output: str
    count: int = field(default=0, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        require(0 <= self.count <= LARGEST_WINDOW, f"layer {self.name}: count {self.count}")

    @property
    def step_for_step(self) -> bool:
        """Return whether each step of ``like`` gives one step."""
        return self.count == 0

    @property
    def copied(self) -> str:
        """Return the name of the vector; of ``like`` no value is read."""
        return self.vector

    def check(self, checks: Checks) -> None:
        """Refuse a vector over time, an output of others features or without time, and a ``like`` without time."""
        features = checks.tensors[self.vector].features
        checks.expect(self.vector, features, False)
        checks.expect(self.output, features, True)
        checks.expect(self.like, checks.tensors[self.like].features, True)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows, of which each has the same row of the vector."""
        return (RowLoop(copied_rows, (), (self.vector,)),)
