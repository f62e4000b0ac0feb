"""Whole numbers that a loop counts with: indices, limits and numbers of iterations, as a·i + s + b with the iteration i and a free size s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from qrnn.onnx_import.control.facts import Facts
from qrnn.onnx_import.values import Dim, Symbol

MOST_NESTED = 64
"""The deepest expression that is followed."""

UNBOUNDED = 1 << 31
"""A number of iterations from which on it is no bound: exporters write the largest integer where only the condition ends a loop."""

KEEPS = frozenset(["Cast", "Ceil", "Floor", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"])
"""The operators that leave a single whole number as it is."""


@dataclass(frozen=True)
class Count:
    """The number ``steps``·i + ``times``·``size`` + ``offset`` in iteration i, where ``size`` is a free size or nothing."""

    steps: int = 0
    size: Symbol | None = None
    offset: int = 0
    times: int = 1

    def plus(self, other: Count, sign: int = 1) -> Count | None:
        """Return the sum or the difference; None for one of two sizes."""
        if self.size is not None and other.size is not None and self.size is not other.size:
            return None
        times = (self.times if self.size is not None else 0) + sign * (other.times if other.size is not None else 0)
        size = (self.size or other.size) if times else None
        return Count(self.steps + sign * other.steps, size, self.offset + sign * other.offset, times if size else 1)

    def scaled(self, by: int) -> Count:
        """Return a multiple."""
        return Count(by * self.steps, self.size if by else None, by * self.offset, by * self.times if by else 1)

    @property
    def dim(self) -> Dim | None:
        """Return the number that is the same in every iteration, or the free size; None for any other."""
        if self.steps:
            return None
        if self.size is None:
            return self.offset
        return self.size if self.offset == 0 and self.times == 1 else None


class Counts:
    """The counts among the values of a loop; ``given`` are those of the body's inputs."""

    def __init__(self, facts: Facts, given: dict[str, Count]) -> None:
        self._facts = facts
        self.given = given

    def of(self, name: str) -> Count | None:
        """Return a value of one element as a count, None where it is none."""
        return self._of(name, 0, {})

    def _of(self, name: str, nested: int, found: dict[str, Count | None]) -> Count | None:
        """Return a count, by those that were ``found`` of this expression: it may read one value many times."""
        if name in self.given:
            return self.given[name]
        if name not in found:
            found[name] = None if nested > MOST_NESTED else self._computed(name, nested, found)
        return found[name]

    def _computed(self, name: str, nested: int, found: dict[str, Count | None]) -> Count | None:
        known = self._facts.number(name)
        if isinstance(known, Symbol):
            return Count(size=known)
        if known is not None:
            return Count(offset=int(known)) if float(known).is_integer() else None
        node = self._facts.writer.get(name)
        if node is None or not node.input:
            return None
        if node.op_type in KEEPS:
            return self._of(node.input[0], nested + 1, found)
        if node.op_type not in ("Add", "Sub", "Neg", "Mul", "Div"):
            return None
        operands = [self._of(i, nested + 1, found) for i in node.input[:2]]
        first, second = operands[0], operands[-1]
        if first is None or second is None:
            return None
        if node.op_type == "Neg":
            return first.scaled(-1)
        if node.op_type == "Mul":
            for a, b in ((first, second), (second, first)):
                if isinstance(b.dim, int):
                    return a.scaled(b.dim)
            return None
        if node.op_type == "Div":
            return first.scaled(second.dim) if second.dim in (1, -1) else None
        return first.plus(second, 1 if node.op_type == "Add" else -1)

    def less(self, condition: str) -> list[tuple[Count, Count]] | None:
        """Return pairs (a, b) such that a condition is that all a < b; None for another condition."""
        found: list[tuple[Count, Count]] = []
        joined = self._joined(condition)
        for name in joined or ():
            known = self._facts.number(name)
            if isinstance(known, bool | np.bool_) and known:
                continue
            node = self._facts.writer.get(name)
            pair = None if node is None else self._pair(node)
            if pair is None:
                return None
            found.append(pair)
        return None if joined is None else found

    def _joined(self, condition: str) -> list[str] | None:
        """Return what a condition joins by And; None for more than is looked at."""
        joined: list[str] = []
        left, seen = [condition], 0
        while left:
            name = left.pop()
            seen += 1
            if seen > MOST_NESTED:
                return None
            node = self._facts.writer.get(name)
            if node is not None and node.op_type == "And":
                left += node.input
            elif node is not None and node.op_type in KEEPS and node.input:
                left.append(node.input[0])
            else:
                joined.append(name)
        return joined

    def _pair(self, node: onnx.NodeProto) -> tuple[Count, Count] | None:
        if node.op_type == "Not":
            inner = self._facts.writer.get(node.input[0])
            opposite = {"GreaterOrEqual": (0, 1, 0), "LessOrEqual": (1, 0, 0), "Greater": (0, 1, 1), "Less": (1, 0, 1)}
        else:
            inner = node
            opposite = {"Less": (0, 1, 0), "Greater": (1, 0, 0), "LessOrEqual": (0, 1, 1), "GreaterOrEqual": (1, 0, 1)}
        if inner is None or inner.op_type not in opposite or len(inner.input) != 2:
            return None
        a, b, equal = opposite[inner.op_type]
        less, more = self.of(inner.input[a]), self.of(inner.input[b])
        raised = None if more is None else more.plus(Count(offset=equal))
        return None if less is None or raised is None else (less, raised)


def iterations(counts: Counts, limit: str, first: str, again: str) -> Dim | str:
    """Return how many iterations a Loop has, by its number of trips, its first condition, and the condition of its body.

    Where that is not known the reason is returned.
    """
    bounds: list[Count] = []
    if limit:
        count = counts.of(limit)
        if count is None or count.steps:
            return "its number of iterations is computed at run time"
        if count.size is not None or count.offset < UNBOUNDED:
            bounds.append(count)
    begins = counts.less(first) if first else []
    goes_on = counts.less(again) if again else []
    if begins is None or goes_on is None:
        return "when it ends depends on computed values"
    for a, b in goes_on:  # after iteration i it goes on while a·i + c < b: there are b - c + 1 iterations
        count = b.plus(Count(0, a.size, a.offset, a.times), -1)
        if a.steps != 1 or b.steps or count is None:
            return "when it ends depends on more than the number of its iterations"
        bounds.append(Count(0, count.size, count.offset + 1, count.times))
    for a, b in begins:  # a sequence has a step at least
        difference = b.plus(a, -1)
        least = None if difference is None or difference.steps or difference.times < 1 else difference.offset
        if difference is None or least is None or least + (difference.size is not None) < 1:
            return "whether it runs at all is not known"
    if not bounds:
        return "nothing bounds its number of iterations"
    if len({(b.size, b.times) for b in bounds}) > 1:
        return "what bounds its number of iterations is of different sizes"
    return min(bounds, key=lambda b: b.offset).dim or "its number of iterations is not that of the steps of a sequence"
