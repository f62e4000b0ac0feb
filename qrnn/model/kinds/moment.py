"""Layers of kind moment give the variance, the standard deviation, the mean of the squares or the L2 norm of each group of features of a step.

Sums of values and of their squares are exact in 64 bits, so that nothing is centred first, and no square is stored in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from qrnn.arithmetic.moments import MOMENT_BITS, TERM_MAX
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Loop, Rounding, RowLoop
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import LEFT_OUT, FloatArray, require
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_FEATURES = 1 << 24
"""The most features of a step of the input."""


class Scaling(NamedTuple):
    """A factor as `moment16` takes it: floor(value / 2^before) · multiplier / 2^shift."""

    before: int
    multiplier: int
    shift: int


def scaling(factor: float) -> Scaling:
    """Return how values of up to 62 bits are multiplied by ``factor``, from 2^-62 to 1, to int16.

    What is cut off before is less than 2^-15 of a unit of the result, or nothing.
    """
    exponent = int(np.frexp(factor)[1]) - 1  # 2^exponent ≤ factor < 2^(exponent + 1)
    before = max(0, -16 - exponent)
    shift = 30 - (exponent + before)
    multiplier = min(int(round_half_up(np.ldexp(factor, before + shift))), (1 << 31) - 1)
    return Scaling(before, multiplier, shift)


@dataclass(frozen=True)
class Moment(Layer):
    """Compute y = factor · sqrt(variance + epsilon), or without ``root`` factor · (variance + epsilon), of each group of a step.

    A step of the input is [outer, count, inner], row-major, and one of the output has the [outer, inner] ``features``. Without ``centred`` the
    variance is the mean of the squares.
    """

    name: str
    input: str
    output: str
    features: int
    count: int
    inner: int = 1
    centred: bool = True
    root: bool = True
    factor: float = 1.0
    epsilon: float = 0.0

    least_frac: ClassVar[int] = 0

    def equation(self, run: Equations) -> None:
        """Compute the moments in float64."""
        x = run.read(self.input)
        grouped: FloatArray = x.reshape(*x.shape[:-1], self.features // self.inner, self.count, self.inner)
        if self.centred:
            grouped = grouped - grouped.mean(axis=-2, keepdims=True)
        found = (grouped**2).mean(axis=-2).reshape(*x.shape[:-1], self.features) + self.epsilon
        run.write(self.output, self.factor * (np.sqrt(found) if self.root else found))

    def quantize(self, plan: Plan) -> QuantMoment:
        """Choose the output's fraction bits, and make the integers of factor and epsilon."""
        in_frac = plan.frac(self.input, self.name)
        out_frac, reason = output_frac(plan, self.output)
        unit = (in_frac + MOMENT_BITS) * (1 if self.root else 2)
        out_frac = min(
            out_frac, 15, unit - int(np.frexp(self.factor)[1])
        )  # a unit of what is computed is at most one of the output
        epsilon = int(round_half_up(self.epsilon * 4.0 ** (in_frac + MOMENT_BITS)))
        if epsilon >= TERM_MAX or out_frac < -16:
            what = f"epsilon {self.epsilon:g}" if epsilon >= TERM_MAX else f"factor {self.factor:g}"
            raise QuantizationError(
                f"layer {self.name!r}: {what} is too large beside an input with {in_frac} fraction bits"
            )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        own = scaling(np.ldexp(self.factor, out_frac - unit))
        return QuantMoment(
            self.name, self.input, self.output, self.features, self.count, in_frac, out_frac, *own, epsilon, self.inner, self.centred,
            self.root,
        )  # fmt: skip


def moment_rows(contract: Any) -> Loop:
    """Return the loop that sets each feature of out to `moment16` of the mean square of a group, or with ``root`` of its root."""
    mean_square, integer_root, moment16 = contract.mean_square, contract.integer_root, contract.moment16

    def rows(
        first: int, last: int, count: int, inner: int, centred: int, root: int, epsilon: int, before: int, multiplier: int, shift: int, x: Any,
        out: Any,
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for g in range(out.shape[1]):
                start = g // inner * count * inner + g % inner
                total = 0
                squares = 0
                for c in range(count):
                    total += centred * x[m, start + c * inner]
                    squares += x[m, start + c * inner] * x[m, start + c * inner]
                square = mean_square(count, total, squares) + epsilon
                if root > 0:
                    square = integer_root(square)
                out[m, g] = moment16(square, before, multiplier, shift)

    return rows


@dataclass(frozen=True)
class QuantMoment(QuantOneInput):
    """Compute `Moment` of integers; ``epsilon`` is in units of 2^(-28 - 2 · in_frac), and the factor `moment16`'s three numbers."""

    name: str
    input: str
    output: str
    features: int
    count: int
    in_frac: int
    out_frac: int
    before: int
    multiplier: int
    shift: int
    epsilon: int = field(default=0, metadata=LEFT_OUT)
    inner: int = field(default=1, metadata=LEFT_OUT)
    centred: bool = field(default=True, metadata=LEFT_OUT)
    root: bool = field(default=True, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        owner = f"layer {self.name}"
        require(1 <= self.features <= MOST_FEATURES, f"{owner}: features {self.features}")
        require(1 <= self.count <= MOST_FEATURES // self.features, f"{owner}: {self.features} times {self.count}")
        fits = 1 <= self.inner <= self.features and self.features % self.inner == 0
        require(fits, f"{owner}: {self.features} features by {self.inner}")
        require(0 <= self.epsilon < TERM_MAX, f"{owner}: epsilon {self.epsilon} not in 0…2^61 - 1")
        require(0 <= self.before <= 62, f"{owner}: before {self.before} not in 0…62")
        require(1 << 30 <= self.multiplier < 1 << 31, f"{owner}: multiplier {self.multiplier} not in 2^30…2^31 - 1")
        require(16 <= self.shift <= 62, f"{owner}: shift {self.shift} not in 16…62")
        self.check_fracs()

    def check(self, checks: Checks) -> None:
        """Refuse an input that does not have ``count`` features for each of the output, and tensors of which one alone is over time."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.features * self.count, has_time)
        checks.expect(self.output, self.features, has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        numbers = (self.count, self.inner, int(self.centred), int(self.root), self.epsilon)
        return (RowLoop(moment_rows, (*numbers, self.before, self.multiplier, self.shift), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the rounding of the result; what is cut off before is at most a unit of what is computed."""
        what = "the root" if self.root else "the mean of the squares"
        return (Rounding(self.name, f"{what}, once, to {self.out_frac} bits", "int16"),)
