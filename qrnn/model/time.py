"""Time is data: a model has time axes, and the number of a tensor's steps follows from their lengths by a length rule.

A graph input over time names its axis (`qrnn.model.float_model.GraphInput.axis`). A `LengthRule` then says how many steps each tensor over
time has: as many as an axis, or what layers make of that by strides, windows and repetition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qrnn.model.parts import IndexArray
from qrnn.system.brief import Brief

TIME = "time"
"""The name of the time axis of a model that has one."""

Count = TypeVar("Count", int, IndexArray)


@dataclass(frozen=True)
class TimeAxis(Brief):
    """Steps of a batch: ``lengths`` [N] counts the valid steps of each sequence, ``steps`` those of the arrays, padding included."""

    lengths: IndexArray
    steps: int

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Return which steps are valid, [N, T]."""
        mask: npt.NDArray[np.bool_] = np.arange(self.steps)[None, :] < self.lengths[:, None]
        return mask

    def real(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the valid steps [M, …] of an array [N, T', …] of at most as many steps."""
        return values[self.mask[:, : values.shape[1]]]


class LengthRule(ABC):
    """A length rule: the number of steps of a tensor, as a function of the lengths of the model's time axes.

    Rules are equal where they are written alike.
    """

    @abstractmethod
    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the number of steps for the lengths of each axis, which are integers, or arrays [N] with one for each sequence."""

    @property
    @abstractmethod
    def axes(self) -> frozenset[str]:
        """Return the names of the axes that the rule depends on."""

    @property
    @abstractmethod
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return a and b, 0 or more each: no axis with at most L steps makes the rule give more than a · L + b."""

    def windows(self, plus: int, by: int) -> LengthRule:
        """Return the rule max(0, floor((L + ``plus``) / ``by``)) of this rule's L, which counts windows that begin every ``by`` steps."""
        return self if (plus, by) == (0, 1) else Windows(self, plus, by)

    def at_most(self, count: int) -> LengthRule:
        """Return the rule min(L, ``count``) of this rule's L."""
        return AtMost(self, count)

    def exactly(self, count: int) -> LengthRule:
        """Return the rule of ``count`` steps, whatever this rule gives."""
        return Exactly(self, count)

    def times(self, count: int) -> LengthRule:
        """Return the rule ``count`` · L of this rule's L."""
        return self if count == 1 else Times(self, count)


@dataclass(frozen=True)
class Axis(LengthRule):
    """The rule of as many steps as the axis ``name`` has."""

    name: str = TIME

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the length of the axis."""
        return lengths[self.name]

    @property
    def axes(self) -> frozenset[str]:
        """Return the one axis."""
        return frozenset({self.name})

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return 1 and 0."""
        return Fraction(1), Fraction(0)

    def __str__(self) -> str:
        return "T" if self.name == TIME else f"T[{self.name}]"


@dataclass(frozen=True)
class Windows(LengthRule):
    """The rule max(0, floor((L + plus) / by)), where L is what the rule ``source`` gives."""

    source: LengthRule
    plus: int
    by: int

    def windows(self, plus: int, by: int) -> LengthRule:
        """Return the rule of windows of these windows, as one rule where that is the same for every length."""
        if self.by == 1 and plus < by:
            return self.source.windows(self.plus + plus, by)
        return super().windows(plus, by)

    def times(self, count: int) -> LengthRule:
        """Return the rule of so many steps for each window, as one of windows where each step begins one: rules are equal where lengths are."""
        return self.source.times(count).windows(self.plus * count, 1) if self.by == 1 else super().times(count)

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the number of windows."""
        found = (self.source.of(lengths) + self.plus) // self.by
        if isinstance(found, np.ndarray):
            return np.maximum(found, 0)
        return max(found, 0)

    @property
    def axes(self) -> frozenset[str]:
        """Return the axes of ``source``."""
        return self.source.axes

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return the bound of ``source``, plus ``plus``, over ``by``."""
        a, b = self.source.bound
        return a / self.by, max(b + self.plus, Fraction(0)) / self.by

    def __str__(self) -> str:
        inner = f"{self.source}{self.plus:+d}" if self.plus else str(self.source)
        return inner if self.by == 1 else f"floor(({inner})/{self.by})"


@dataclass(frozen=True)
class Counted(LengthRule):
    """A rule that gives no more than ``count`` steps, of a length to which the rule ``source`` leads."""

    source: LengthRule
    count: int

    @property
    def axes(self) -> frozenset[str]:
        """Return the axes of ``source``."""
        return self.source.axes

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return 0 and ``count``."""
        return Fraction(0), Fraction(self.count)


@dataclass(frozen=True)
class AtMost(Counted):
    """The rule min(L, count), where L is what the rule ``source`` gives."""

    def at_most(self, count: int) -> LengthRule:
        """Return the rule of the lesser count."""
        return AtMost(self.source, min(self.count, count))

    def windows(self, plus: int, by: int) -> LengthRule:
        """Return the rule of the windows in ``source`` and at most as many as ``count`` steps have: rules are equal where slices are."""
        return AtMost(self.source.windows(plus, by), max(0, (self.count + plus) // by))

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the steps of ``source``, and no more than ``count``."""
        found = self.source.of(lengths)
        if isinstance(found, np.ndarray):
            return np.minimum(found, self.count)
        return min(found, self.count)

    def __str__(self) -> str:
        return f"min({self.source}, {self.count})"


@dataclass(frozen=True)
class Exactly(Counted):
    """The rule of ``count`` steps, whatever the rule ``source`` gives."""

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return ``count``, for each sequence."""
        return self.source.of(lengths) * 0 + self.count

    def __str__(self) -> str:
        return str(self.count)


@dataclass(frozen=True)
class Times(LengthRule):
    """The rule count · L, where L is what the rule ``source`` gives."""

    source: LengthRule
    count: int

    def windows(self, plus: int, by: int) -> LengthRule:
        """Return the rule of the windows, as one of windows of ``source`` where one begins with the first of ``count`` steps each time."""
        if by % self.count == 0:
            return self.source.windows(plus // self.count, by // self.count)
        return super().windows(plus, by)

    def times(self, count: int) -> LengthRule:
        """Return the rule of as many steps for each of these steps, as one rule."""
        return self.source.times(self.count * count)

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return ``count`` times the steps of ``source``."""
        return self.source.of(lengths) * self.count

    @property
    def axes(self) -> frozenset[str]:
        """Return the axes of ``source``."""
        return self.source.axes

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return ``count`` times the bound of ``source``."""
        a, b = self.source.bound
        return a * self.count, b * self.count

    def __str__(self) -> str:
        return f"{self.count}·{self.source}"


@dataclass(frozen=True)
class Least(LengthRule):
    """The rule of the least number of steps that one of several rules gives."""

    sources: tuple[LengthRule, ...]

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the least number, element by element."""
        return _folded(self.sources, lengths, largest=False)

    @property
    def axes(self) -> frozenset[str]:
        """Return the axes of all rules together."""
        return frozenset().union(*(rule.axes for rule in self.sources))

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return the bound of the rule that grows least."""
        return min(rule.bound for rule in self.sources)

    def __str__(self) -> str:
        return f"min({', '.join(map(str, self.sources))})"


@dataclass(frozen=True)
class Most(LengthRule):
    """The rule of the largest number of steps that one of several rules gives."""

    sources: tuple[LengthRule, ...]

    def of(self, lengths: Mapping[str, Count]) -> Count:
        """Return the largest number, element by element."""
        return _folded(self.sources, lengths, largest=True)

    @property
    def axes(self) -> frozenset[str]:
        """Return the axes of all rules together."""
        return frozenset().union(*(rule.axes for rule in self.sources))

    @property
    def bound(self) -> tuple[Fraction, Fraction]:
        """Return the largest a and the largest b of all rules."""
        rates, more = zip(*(rule.bound for rule in self.sources), strict=True)
        return max(rates), max(more)

    def __str__(self) -> str:
        return f"max({', '.join(map(str, self.sources))})"


def _folded(sources: tuple[LengthRule, ...], lengths: Mapping[str, Count], largest: bool) -> Count:
    """Return the largest or the least of what ``sources`` give, element by element."""
    first, *others = (rule.of(lengths) for rule in sources)
    for other in others:
        if isinstance(first, np.ndarray):
            first = np.maximum(first, other) if largest else np.minimum(first, other)
        else:
            first = max(first, other) if largest else min(first, other)
    return first


def length_rules(
    inputs: Iterable[Any], layers: Iterable[Any], over_time: Callable[[str], bool]
) -> dict[str, LengthRule]:
    """Return the length rule of every tensor over time of a model.

    Parameters
    ----------
    inputs: graph inputs (`qrnn.model.float_model.GraphInput`).
    layers: layers in order (`qrnn.model.layer.GraphLayer`), each of which says what it makes of its input's rule.
    over_time: whether a tensor, by name, is over time.
    """
    rules: dict[str, LengthRule] = {i.name: Axis(i.axis) for i in inputs if i.has_time}
    for layer in layers:
        given = next((rules[name] for name in layer.inputs if name in rules), None)
        for name in layer.outputs:
            if given is not None and over_time(name):
                rules[name] = layer.length_rule(given)
    return rules
