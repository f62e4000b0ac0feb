"""How many steps a model's sequences have to have: layers may read a fixed number of them, or one that counts from the beginning."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Protocol

from qrnn.model.layer import GraphLayer
from qrnn.model.time import LengthRule

MOST_STEPS = 1 << 31
"""No sequence is longer."""


class Lengths(Protocol):
    """A model, of floats or of integers."""

    @property
    def layers(self) -> Sequence[GraphLayer]:
        """Return the layers, in order."""

    @property
    def length_rules(self) -> Mapping[str, LengthRule]:
        """Return the length rule of each tensor over time."""


def steps_for(model: Lengths, wanted: int) -> int:
    """Return the number of steps next to ``wanted`` with which every layer has as many as it needs: itself where nothing speaks against it."""
    needs = [(model.length_rules[layer.inputs[0]], layer.least_steps) for layer in model.layers if layer.least_steps]
    fixed = any(layer.fixed_steps for layer in model.layers)

    def enough(steps: int) -> bool:
        return all(rule.of(dict.fromkeys(rule.axes, steps)) >= least for rule, least in needs)

    if not needs or (not fixed and enough(wanted)):
        return wanted
    return 1 + bisect_left(range(1, MOST_STEPS), True, key=enough)
