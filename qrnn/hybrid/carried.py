"""Real arrays on their way from one part to the next: sequences, each with its own number of steps, and values without time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qrnn.model.parts import FloatArray, IndexArray


class Carried(NamedTuple):
    """A tensor of N sequences, batch first: ``values`` [N, T, *shape] with the ``lengths`` [N], or [N, *shape] and None."""

    values: FloatArray
    lengths: IndexArray | None

    def one(self, n: int) -> FloatArray:
        """Return sequence ``n`` with the steps that it has, as a batch of one."""
        return self.values[n : n + 1] if self.lengths is None else self.values[n : n + 1, : self.lengths[n]]

    def few(self, count: int, steps: int | None = None) -> Carried:
        """Return the first ``count`` sequences, cut to at most ``steps`` steps."""
        if self.lengths is None:
            return Carried(self.values[:count], None)
        most = self.values.shape[1] if steps is None else steps
        return Carried(self.values[:count, :most], np.minimum(self.lengths[:count], most))


def together(pieces: Sequence[FloatArray | None], timed: bool, steps: int, shape: tuple[int, ...]) -> Carried:
    """Return the results [1, T, *shape] or [1, *shape] of single sequences as one tensor, zero past their steps.

    None stands for a sequence of no steps. There are at least ``steps`` steps.
    """
    if not timed:
        return Carried(np.concatenate([np.zeros((1, *shape)) if p is None else p for p in pieces]), None)
    lengths = np.array([0 if p is None else p.shape[1] for p in pieces], np.int64)
    values = np.zeros((len(pieces), max(1, steps, int(lengths.max(initial=0))), *shape))
    for n, piece in enumerate(pieces):
        if piece is not None:
            values[n, : lengths[n]] = piece[0]
    return Carried(values, lengths)
