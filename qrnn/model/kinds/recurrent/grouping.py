"""A recurrent layer may take more sequences than the model has: one for each band of a sequence, or one for each of its steps.

What runs a layer, and what looks into a run of it, regroups arrays by the layer's `Grouping`, so that the walk over steps and the cells know
of no bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.time import TimeAxis


@dataclass(frozen=True)
class Grouping:
    """How the N' sequences of T' steps that a layer's cell takes follow from N sequences of T steps; here they are the same.

    The arrays are NumPy's, of any type.
    """

    bands: int = 1

    def axis(self, axis: TimeAxis) -> TimeAxis:
        """Return the steps of the sequences that the cell takes."""
        return axis

    def apart(self, x: Any) -> Any:
        """Return x [N, T, F] as those sequences, [N', T', F']."""
        return x

    def together(self, y: Any, size: int) -> Any:
        """Return what `apart` takes, [N, T, F], for N = ``size`` of [N', T', F']."""
        return y

    def states_apart(self, state: Any) -> Any:
        """Return states [N, D, W] as those of the cell's sequences, [N', D, W']."""
        return state

    def states_together(self, state: Any, size: int) -> Any:
        """Return what `states_apart` takes, [N, D, W], for N = ``size`` of [N', D, W']."""
        return state

    def starts(self, values: Any, axis: TimeAxis) -> Any:
        """Return what sequences with the steps ``axis`` begin with, [N, W], for each of the cell's sequences, [N', W']."""
        return values


@dataclass(frozen=True)
class EachBand(Grouping):
    """Each band of a sequence is a sequence of as many steps: x [N, T, B·F'] is [N·B, T, F'], and states [N, D, B·W'] are [N·B, D, W']."""

    def axis(self, axis: TimeAxis) -> TimeAxis:
        """Return the steps once for each band."""
        return TimeAxis(np.repeat(axis.lengths, self.bands), axis.steps)

    def apart(self, x: Any) -> Any:
        """Return x [N, T, B·F'] as [N·B, T, F']."""
        N, T, F = x.shape
        by_band = x.reshape(N, T, self.bands, F // self.bands).transpose(0, 2, 1, 3)
        return by_band.reshape(N * self.bands, T, F // self.bands)

    def together(self, y: Any, size: int) -> Any:
        """Return y [N·B, T, F'] as [N, T, B·F']."""
        _, T, F = y.shape
        return y.reshape(size, self.bands, T, F).transpose(0, 2, 1, 3).reshape(size, T, self.bands * F)

    def states_apart(self, state: Any) -> Any:
        """Return states [N, D, B·W'] as [N·B, D, W']."""
        N, D, W = state.shape
        by_band = state.reshape(N, D, self.bands, W // self.bands).transpose(0, 2, 1, 3)
        return by_band.reshape(N * self.bands, D, W // self.bands)

    def states_together(self, state: Any, size: int) -> Any:
        """Return states [N·B, D, W'] as [N, D, B·W']."""
        _, D, W = state.shape
        return state.reshape(size, self.bands, D, W).transpose(0, 2, 1, 3).reshape(size, D, self.bands * W)

    def starts(self, values: Any, axis: TimeAxis) -> Any:
        """Return [N, B·W'] as [N·B, W']."""
        return values.reshape(len(values) * self.bands, values.shape[1] // self.bands)


@dataclass(frozen=True)
class EachStep(Grouping):
    """Each step is a sequence of B steps, its bands: x [N, T, B·F'] is [N·T, B, F']; a step past the end of a sequence is one of no steps."""

    def axis(self, axis: TimeAxis) -> TimeAxis:
        """Return B steps for each valid step, and none for the others."""
        return TimeAxis(np.where(axis.mask, self.bands, 0).reshape(-1).astype(np.int64), self.bands)

    def apart(self, x: Any) -> Any:
        """Return x [N, T, B·F'] as [N·T, B, F']."""
        N, T, F = x.shape
        return x.reshape(N * T, self.bands, F // self.bands)

    def together(self, y: Any, size: int) -> Any:
        """Return y [N·T, B, F'] as [N, T, B·F']."""
        rows, _, F = y.shape
        return y.reshape(size, rows // size, self.bands * F)

    def starts(self, values: Any, axis: TimeAxis) -> Any:
        """Return [N, W] once for each step, [N·T, W]."""
        return np.repeat(values, axis.steps, axis=0)


ALONE = Grouping()
"""The grouping of a layer that takes the model's sequences as they are."""
