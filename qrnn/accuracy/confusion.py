"""Decisions by class: what sequences or steps of each class were taken for (a confusion matrix)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.accuracy.metrics import wilson_interval


@dataclass
class Agreement:
    """How often two sources decide alike: ``agree`` times in ``total``."""

    agree: int = 0
    total: int = 0

    @property
    def rate(self) -> float:
        """Return the fraction agree / total."""
        return self.agree / self.total if self.total else float("nan")

    @property
    def percent(self) -> float:
        """Return the percentage 100 · agree / total, rounded once, so that a gate at a round figure is met by that figure."""
        return 100 * self.agree / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson score interval of the fraction."""
        return wilson_interval(self.agree, self.total)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers: the count, the total, the fraction, None of nothing, and its interval."""
        rate = self.rate if self.total else None
        return {"count": self.agree, "total": self.total, "rate": rate, "confidence_95": list(self.interval)}


@dataclass
class Confusion:
    """A confusion matrix: ``counts`` holds how often data of a label were decided as a class, by (label, class); others are 0."""

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, labels: npt.NDArray[Any], decided: npt.NDArray[Any]) -> None:
        """Add the decisions [n] about data with ``labels`` [n], both integers."""
        if len(labels) == 0:
            return
        pairs, counts = np.unique(np.stack([labels, decided], axis=1), axis=0, return_counts=True)
        for (label, choice), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self.counts[label, choice] += count

    @property
    def classes(self) -> list[int]:
        """Return every class that is a label or was decided, in ascending order."""
        return sorted({number for pair in self.counts for number in pair})

    def by_class(self) -> dict[int, Agreement]:
        """Return how often each label was decided rightly, by label in ascending order."""
        found: dict[int, Agreement] = {}
        for (label, choice), count in sorted(self.counts.items()):
            tally = found.setdefault(label, Agreement())
            tally.total += count
            tally.agree += count * (label == choice)
        return found

    def mistakes(self) -> list[tuple[int, int, int]]:
        """Return every mistake as (label, class, count), the most frequent first."""
        wrong = [(label, choice, count) for (label, choice), count in self.counts.items() if label != choice]
        return sorted(wrong, key=lambda mistake: (-mistake[2], mistake[:2]))

    def matrix(self, classes: list[int]) -> list[list[int]]:
        """Return the counts of these classes, one row for each label and one column for each class that was decided."""
        return [[self.counts.get((label, choice), 0) for choice in classes] for label in classes]
