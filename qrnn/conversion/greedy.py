"""Spend wider operands where they remove the most noise for their cost, until a model's noise is allowed; then take back what is not needed.

The search knows nothing of models: `Point` is what it is told of one choice of widths. Noises of single operands are about additive, so the
changes that promise most are made together, and what comes out is measured before anything else is done.

Every comparison is of figures rounded to `DIGITS` significant digits, and equal ones go to the cheaper and then to the first by name.
The last bits of a sum, which differ from one machine to another, change nothing then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Widths = Mapping[str, str]
"""A value for each choice of a model."""

DIGITS = 4
"""Significant digits of the noise energies that are compared: a resolution of a thousandth, 0.004 dB, or finer."""

LEAST_GAIN = 0.01
"""A change that removes a smaller share than this of the noise that is too much is not worth its cost."""

FREE_GAIN = 0.1
"""The least share of the noise, 0.5 dB, for which one value of a choice takes the place of another that costs the same."""


@dataclass(frozen=True)
class Point:
    """What one choice of widths comes to: the noise of each output, as a share of what is allowed there, and the ``cost`` in instructions."""

    noise: Mapping[str, float]
    cost: float

    @property
    def worst(self) -> float:
        """Return the noise of the output that is furthest from what is allowed; at most 1 where all of them are within it."""
        return max((_rounded(value) for value in self.noise.values()), default=0.0)

    def total(self, allowed: float) -> float:
        """Return the sum over the outputs, of which each counts as ``allowed`` where it has no more noise than that."""
        return _rounded(sum(max(allowed, value) for value in self.noise.values()))


@dataclass
class Greedy:
    """A search over ``values``: what each choice may be, the cheapest first.

    ``measure`` tells a `Point`, of each choice of widths at most once, and ``price`` its cost alone, which takes less time. ``allowed`` is the
    noise that is aimed at, as the points count it.
    """

    values: Mapping[str, tuple[str, ...]]
    measure: Callable[[Widths], Point]
    price: Callable[[Widths], float]
    allowed: float = 1.0
    measured: dict[tuple[str, ...], Point] = field(default_factory=dict)

    def point(self, widths: Widths) -> Point:
        """Return what ``widths`` come to."""
        key = self._key(widths)
        if key not in self.measured:
            self.measured[key] = self.measure(widths)
        return self.measured[key]

    def _key(self, widths: Widths) -> tuple[str, ...]:
        return tuple(widths[name] for name in self.values)

    def _cost(self, widths: Widths) -> float:
        """Return what ``widths`` cost; their noise is not measured for that."""
        known = self.measured.get(self._key(widths))
        return self.price(widths) if known is None else known.cost

    def met(self, widths: Widths) -> bool:
        """Return whether no output has more noise than is aimed at."""
        return self.point(widths).worst <= self.allowed

    def spend(self, start: Widths) -> dict[str, str]:
        """Return wider choices than ``start``, with which the noise is what is aimed at, or on which no change improves."""
        now = dict(start)
        while not self.met(now):
            better = self._round(now)
            if better is None:
                break
            now = better
        return now

    def take_back(self, widths: Widths) -> dict[str, str]:
        """Return ``widths`` with every choice as cheap as it can be, one after the other, while the noise stays what is aimed at."""
        now = dict(widths)
        for name in sorted(self.values, key=lambda n: (-self._saving(now, n), n)):
            for value in self.values[name][: self.values[name].index(now[name])]:
                cheaper = {**now, name: value}
                if self.met(cheaper) and self.point(cheaper).cost < self.point(now).cost:  # what costs nothing stays
                    now = cheaper
                    break
        return now

    def exchange(self, widths: Widths) -> dict[str, str]:
        """Return ``widths`` with the values that cost no more and leave less noise, one choice after the other.

        What is measured on calibration data is less on other data, and here some room for that costs nothing. Of values that are about as
        good, the first one is taken: ranges for each feature, which other data leave more often, come after one range for all.
        """
        now = dict(widths)
        for name, values in sorted(self.values.items()):
            here = self.point(now)
            costs = {value: self._cost({**now, name: value}) for value in values}
            for value in (v for v in values if costs[v] <= here.cost):
                there = self.point({**now, name: value})
                if there.worst < (1.0 - FREE_GAIN) * here.worst:
                    now[name], here = value, there
            for value in (v for v in values[: values.index(now[name])] if costs[v] == here.cost):
                there = self.point({**now, name: value})
                if (1.0 - FREE_GAIN) * there.worst <= here.worst:
                    now[name] = value
                    break
        return now

    def _saving(self, now: Widths, name: str) -> float:
        """Return what the cheapest value of a choice saves."""
        return self.point(now).cost - self.point({**now, name: self.values[name][0]}).cost

    def _round(self, now: Widths) -> dict[str, str] | None:
        """Return ``now`` after the changes that should suffice, or after the best of them; None where no change is worth its cost."""
        here = self.point(now)
        total = here.total(self.allowed)
        excess = total - self.allowed * len(here.noise)
        found = []
        for name, values in self.values.items():
            for value in values[values.index(now[name]) + 1 :]:
                there = self.point({**now, name: value})
                gain = _rounded(total - there.total(self.allowed))
                if gain > 0.0 and gain >= LEAST_GAIN * excess:
                    cost = there.cost - here.cost
                    found.append((-_rounded(gain / cost) if cost > 0 else -math.inf, -gain, cost, name, value))
        if not found:
            return None
        found.sort()
        expected, changed = total, dict(now)
        for _, gain, _, name, value in found:
            if expected <= self.allowed * len(here.noise):
                break
            if changed[name] == now[name]:
                changed[name], expected = value, expected + gain
        *_, name, value = found[0]
        first = {**now, name: value}
        together, alone = self.point(changed), self.point(first)
        return changed if together.total(self.allowed) <= alone.total(self.allowed) else first


def _rounded(value: float) -> float:
    """Return ``value`` with `DIGITS` significant digits; what is no number counts as infinite."""
    return math.inf if math.isnan(value) else float(f"{value:.{DIGITS - 1}e}")
