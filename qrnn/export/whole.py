"""What a model needs of C that reads whole sequences grows with their length: room between layers, and rows of outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Linear:
    """The number floor((``per_step`` · length + ``fixed``) / ``over``) for a sequence of ``length`` steps."""

    per_step: int = 0
    fixed: int = 0
    over: int = 1

    @classmethod
    def below(cls, bound: tuple[Fraction, Fraction]) -> Linear:
        """Return the largest integers up to a · length + b, for a bound (a, b) as of `qrnn.model.time.LengthRule.bound`."""
        over = math.lcm(*(value.denominator for value in bound))
        per_step, fixed = (int(value * over) for value in bound)
        return cls(per_step, fixed, over)

    def of(self, length: int) -> int:
        """Return the number for a length."""
        return (self.per_step * length + self.fixed) // self.over

    def text(self, length: str) -> str:
        """Return the number as an expression of C, of the length's."""
        found = length if self.per_step == 1 else f"{self.per_step}U * {length}"
        if self.fixed:
            found = f"({found}) + {self.fixed}U" if "*" in found else f"{found} + {self.fixed}U"
        if self.over == 1:
            return found
        return f"({found}) / {self.over}U" if " " in found else f"{found} / {self.over}U"


@dataclass(frozen=True)
class Whole:
    """What there is to know of C that reads whole sequences alone."""

    why: str
    """Why there is no function of a time step."""
    work: Linear
    """The int16_t of room for what lies between layers."""
    rows: Linear
    """The most rows of outputs over time."""
    filling_steps: int
    """The least steps of a sequence in which every layer is called."""
