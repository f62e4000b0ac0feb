"""Cycles, with what kind of figure they are, their range, and where they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["measured", "traced", "modelled", "guessed"]

WORDS: dict[Kind, str] = {
    "measured": "counted by the emulator, exactly",
    "traced": "each executed instruction with the timing in the core's manual",
    "modelled": "each executed block of instructions by llvm-mca's model of the core",
    "guessed": "counted or estimated instructions, times cycles for one",
}
"""The kinds, from the surest to the least sure."""

REST = "rest"
"""The part of a step that belongs to no layer: copies to outputs, and the calls of layers."""


@dataclass(frozen=True)
class Span:
    """A number of cycles: the least, the one to expect, and the most. They are equal where only one figure is known."""

    low: float
    mid: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Return the sums."""
        return Span(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def __mul__(self, factor: float) -> Span:
        """Return the products with a number."""
        return Span(self.low * factor, self.mid * factor, self.high * factor)

    @classmethod
    def of(cls, figure: float) -> Span:
        """Return the one figure that is known."""
        return cls(figure, figure, figure)

    def to_dict(self) -> dict[str, float]:
        """Return the three by name."""
        return {"low": self.low, "mid": self.mid, "high": self.high}


NONE = Span(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Loops:
    """The cycles of W·x and R·h in blocks of instructions that repeat themselves, and the ``share`` of their products that these compute."""

    cycles: Span
    share: float

    def per_product(self, products: float) -> float | None:
        """Return the cycles of a product in the loops, where W·x and R·h have ``products`` in all; None where none is in a loop."""
        return self.cycles.mid / (self.share * products) if self.share else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {**self.cycles.to_dict(), "share": self.share}


@dataclass(frozen=True)
class Cycles:
    """Cycles of a step, their ``kind``, and the ``source`` of it in words.

    ``phases`` has the parts by `qrnn.export.replay.PHASES`, ``layers`` those by the model's layers and `REST`; both are empty where nobody
    knows. ``problem`` says why no better kind of figure was to be had. ``loops`` are those of the products; None where no trace tells.
    """

    kind: Kind
    total: Span
    source: str
    phases: Mapping[str, Span] = field(default_factory=dict)
    layers: Mapping[str, Span] = field(default_factory=dict)
    loops: Loops | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "kind": self.kind,
            **self.total.to_dict(),
            "source": self.source,
            "phases": {name: span.to_dict() for name, span in self.phases.items()},
            "layers": {name: span.to_dict() for name, span in self.layers.items()},
            "loops": None if self.loops is None else self.loops.to_dict(),
            "problem": self.problem,
        }
