"""Which graph inputs share a time axis, and what each time axis is called.

In the graph of an encoder and a decoder, inputs over time have lengths of their own. Nothing in a file says so but the sizes that it declares:
two fixed numbers of steps, or free ones under two names, of inputs whose steps no node joins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qrnn.model.time import TIME
from qrnn.onnx_import.roles import Axis, Roles

MADE_UP = re.compile(r"(s|u)\d+|unk__\d+|.*_dynamic_axes_\d+|dyn.*\d+")
"""The names that exporters make up for free sizes: the input's name says more to a reader."""


class TimedInput(NamedTuple):
    """A graph input over time: its name, its axis of steps, and the number of steps that the file declares, or the name of a free one."""

    name: str
    axis: Axis
    steps: int | None
    free: str


def shared_axes(roles: Roles, timed: Sequence[TimedInput]) -> dict[str, str]:
    """Return the name of the time axis of each input over time: `TIME` for all where they share one.

    ``roles`` is what the first pass found, which says whose steps a node joins.
    """
    groups: list[list[TimedInput]] = []
    for own in timed:
        alike = [group for group in groups if any(_share(roles, own, other) for other in group)]
        groups = [group for group in groups if group not in alike]
        groups.append([*(other for group in alike for other in group), own])
    if len(groups) < 2:
        return {own.name: TIME for own in timed}
    found: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: timed.index(group[0])):
        axis = _free_name(group, found.values())
        found.update({own.name: axis for own in group})
    return found


def _share(roles: Roles, a: TimedInput, b: TimedInput) -> bool:
    """Return whether two inputs have one time axis: a node joins their steps, or the file declares these alike."""
    if roles.are_joined(a.axis, b.axis):
        return True
    if a.steps is not None or b.steps is not None:
        return a.steps == b.steps
    return a.free == b.free or "" in (a.free, b.free)


def _free_name(group: Sequence[TimedInput], taken: Iterable[str]) -> str:
    """Return a name for the axis of a group: that of its size, if a person gave it one, else its first input's."""
    names = [own.free for own in group if own.free and not MADE_UP.fullmatch(own.free)]
    names += [own.name for own in group]
    others = set(taken)
    return next((name for name in names if name not in others), group[0].name)
