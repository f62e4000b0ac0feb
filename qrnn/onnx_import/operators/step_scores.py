"""Products of queries and keys at all pairs of steps, while a graph computes attention of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.values import BATCH_TIME, TIME, TIME_BATCH, Features, Symbol

LEFT, RIGHT = Symbol("T"), Symbol("T")
"""The axes of the steps of the first and of the second factor of products at pairs of steps."""

OVER_STEPS = (TIME, TIME_BATCH, BATCH_TIME)
"""What an axis of steps may be: with a batch that the file declares as 1, batch and time may be one axis."""

MOST_STEPS = 1024
"""The most steps of a sequence for a layer that reads all earlier ones: it keeps so many."""


@dataclass(frozen=True)
class Scores:
    """Products of two tensors at pairs of steps, whose features stand for them: [.., steps, D] both, with equal axes in front.

    ``symbols`` are what their axes of steps are. ``mask`` is which pairs are left, as `pairs_left` of
    `qrnn.onnx_import.operators.pair_masks` says, or None for all of them. ``over`` is the axis of the softmax, LEFT or RIGHT, once there is
    one: the factor of that axis has the keys, the other one the queries.
    """

    factors: tuple[Features, Features]
    symbols: tuple[Symbol, Symbol]
    scale: float = 1.0
    mask: tuple[str, int] | None = None
    over: Symbol | None = None


def scores_of(build: Builder, value: object) -> Scores | None:
    """Return what a value stands for, where it stands for products at pairs of steps, all of them in their order; None for another."""
    if not isinstance(value, Features) or LEFT not in value.axes or RIGHT not in value.axes:
        return None
    flat = value.ids.reshape(-1)
    found = build.scores.get(int(flat[0]))
    if found is None or not np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
        return None
    return found if flat.size == found.factors[0].ids[..., 0].size else None
