"""Layers that compute one number from each two elements of two tensors have this in common: names, shapes and formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qrnn.model.formats import fraction_bits, needed
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Reading, Written
from qrnn.model.parts import STATE_MAX, TensorFormat, require
from qrnn.model.surroundings import Checks, Plan


@dataclass(frozen=True)
class TwoInputs(Layer):
    """A layer that reads ``left`` and ``right``; they and the output are all over time, or none is."""

    name: str
    left: str
    right: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of both inputs."""
        return (self.left, self.right)

    def fracs(self, plan: Plan) -> tuple[int, int]:
        """Return the fraction bits of both inputs."""
        return plan.frac(self.left, self.name), plan.frac(self.right, self.name)

    def output_frac(self, plan: Plan, most: int) -> int:
        """Give the output the most fraction bits, up to ``most``, that its range in calibration allows, and return them."""
        largest = needed(plan, self.output)
        frac = min(fraction_bits(largest), most)
        plan.set_format(self.output, frac)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits (|y| ≤ {largest:.3g} in calibration)")
        return frac


@dataclass(frozen=True)
class QuantTwoInputs(QuantLayer):
    """An integer layer that reads two int16 tensors element by element, and writes int16 with out_frac fraction bits."""

    name: str
    left: str
    right: str
    output: str
    left_frac: int
    right_frac: int
    out_frac: int

    def check_fracs(self, most: int, beyond: str) -> None:
        """Refuse fraction bits that int16 does not have, and more than ``most`` for the output, which are ``beyond`` something."""
        fracs = (self.left_frac, self.right_frac, self.out_frac)
        require(
            min(fracs) >= 0 and max(fracs) <= 15 and self.out_frac <= most,
            f"layer {self.name}: fraction bits {fracs} not in 0…15, or out_frac finer than {beyond}",
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of both inputs."""
        return (self.left, self.right)

    def check(self, checks: Checks) -> None:
        """Refuse inputs or an output of different shapes."""
        source = checks.tensors[self.left]
        for tensor in (self.right, self.output):
            checks.expect(tensor, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each input is read as fixed-point, with its own fraction bits."""
        return (Reading(self.left, self.left_frac), Reading(self.right, self.right_frac))

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}
