"""Buffers of runs and steps are kept between calls, by what shapes and types they are made for, since making them takes longer than a run."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Buffers = TypeVar("Buffers")

MOST_KINDS = 8
"""The number of kinds of buffers, each of one shape and type, that are kept at once."""


class KeptBuffers(Generic[Buffers]):
    """Buffers that no call uses now, by kind: a key that holds their shape and types. Many threads may take and give back at once."""

    def __init__(self) -> None:
        self._idle: dict[Hashable, list[Buffers]] = {}
        self._asked: Hashable | None = None
        """The kind that was asked for last and had no buffers; None before the first."""

    @property
    def kinds(self) -> frozenset[Hashable]:
        """Return the kinds of which buffers are kept."""
        return frozenset(self._idle)

    def take(self, kind: Hashable) -> Buffers | None:
        """Return idle buffers of a kind; None where there are none."""
        try:
            return self._idle[kind].pop()
        except (KeyError, IndexError):
            return None

    def made(self, kind: Hashable, make: Callable[[], Buffers | None]) -> Buffers | None:
        """Return new buffers of a kind of which none are idle, from ``make``; None where they would not pay for themselves.

        They are made for a kind of which some were made before, for one that is asked for twice in a row, and for the first of all: lengths
        that always change never pay for buffers. The first time of all, code may have to be compiled, which takes longer still, and all of
        it is compiled at once where a whole run is laid out.
        """
        again, self._asked = kind == self._asked or self._asked is None, kind
        if kind not in self._idle:
            if not again:
                return None
            if len(self._idle) >= MOST_KINDS:
                self._idle = {}
            self._idle[kind] = []
        return make()

    def give_back(self, kind: Hashable, buffers: Buffers) -> None:
        """Keep buffers for the next call of their kind."""
        try:
            self._idle[kind].append(buffers)
        except KeyError:
            self._idle[kind] = [buffers]

    def prepare(self, kind: Hashable, make: Callable[[], Buffers | None]) -> None:
        """Make buffers of a kind ahead, unless some are idle."""
        if not self._idle.get(kind) and (made := make()) is not None:
            self.give_back(kind, made)
