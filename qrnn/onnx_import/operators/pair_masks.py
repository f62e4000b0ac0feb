"""Masks of products at pairs of steps: of later steps, of all but the last few, and of the steps that pad a sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.onnx_import.builder import LARGE_FILL, Builder
from qrnn.onnx_import.by_steps import BySteps
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.step_scores import LEFT, MOST_STEPS, RIGHT, Scores
from qrnn.onnx_import.values import BATCH, TIME, Array, Features, is_shape


def left_by_numbers(node: Node, numbers: Array) -> Array:
    """Return where a mask of numbers leaves what it is added to."""
    if ((numbers != 0.0) & (numbers > -LARGE_FILL)).any():
        raise node.refuse(
            f"adds numbers that differ from step to step to products at pairs of steps; only a mask of 0 and of -{LARGE_FILL:g} or less is "
            "supported"
        )
    return np.asarray(numbers == 0.0)


def masked_scores(node: Node, build: Builder, scores: Scores, value: Features, mask: Any, allowed: Any) -> Scores:
    """Return what products in the shape of ``value`` stand for with a mask, of which ``allowed`` says where it leaves them."""
    if isinstance(mask, Features):
        _check_padding(node, build, value, mask, allowed)
        return scores
    if isinstance(mask, BySteps):
        found = pairs_left(node, value, lambda steps: allowed(mask.at(steps)), None)
    elif isinstance(mask, np.ndarray) and not is_shape(mask):
        found = pairs_left(node, value, lambda steps: allowed(mask), mask)
    else:
        raise node.refuse(
            "masks products at pairs of steps by something that is no mask of steps; run this part outside the model"
        )
    if found is None:
        return scores
    if scores.mask not in (None, found):
        raise node.refuse("masks products at pairs of steps twice, in different ways; re-export with one mask")
    return replace(scores, mask=found)


def _check_padding(node: Node, build: Builder, value: Features, mask: Features, allowed: Any) -> None:
    """Refuse a mask of products that leaves out anything else than the steps that pad a sequence, which take no part here."""
    parts = build.book.parts(mask.ids)
    if not {part.tensor.kind for part in parts} <= {"mask", "fills"}:
        raise node.refuse(
            f"adds {mask.describe()} to products at pairs of steps, or chooses by it; only a mask of steps is supported"
        )
    for part in parts:
        numbers = np.array(numbers_of(build, part.tensor.start))
        if [bool(kept) for kept in allowed(numbers)] != [True, False]:
            raise node.refuse(
                "masks a sequence's own steps, or leaves those that pad it; expected a mask of the steps that pad"
            )
    for back, symbol in enumerate(mask.axes[::-1], 1):
        own = value.axes[-back] if back <= value.ids.ndim else None
        if (symbol is TIME and own not in (LEFT, RIGHT)) or (symbol is BATCH and own is not BATCH):
            raise node.refuse(
                f"masks {value.describe()} by {mask.describe()}; expected the batch and the steps of both on the same axes"
            )


def numbers_of(build: Builder, start: int) -> tuple[float, float]:
    """Return the numbers that a mask has at a sequence's own steps, and at those that pad it."""
    if start in build.fills_of:
        return build.fills_of[start]
    return (1.0, 0.0) if build.masks[start].valid else (0.0, 1.0)


def pairs_left(node: Node, value: Features, allowed: Any, constant: Array | None) -> tuple[str, int] | None:
    """Return which pairs of steps a mask leaves: ``right`` where those of the axis RIGHT are not behind those of LEFT, or ``left``.

    With it comes how many steps each one reads, 0 for all earlier ones. None for a mask that leaves all pairs.
    """
    tries = [1 << bits for bits in range(MOST_STEPS.bit_length() - 1, 1, -1)]
    if constant is not None:
        tries = [max(constant.shape, default=1)]
        if constant.size == 1:
            tries = [1]
    for steps in tries:
        kept = np.asarray(allowed(steps))
        if kept.ndim > value.ids.ndim:
            break
        places = [k for k, axis in enumerate(value.axes) if axis in (LEFT, RIGHT)]
        kept = kept.reshape((1,) * (value.ids.ndim - kept.ndim) + kept.shape)
        if any(kept.shape[k] not in (1, steps) for k in places):
            continue
        first = kept
        for k in range(kept.ndim):
            if k not in places:
                if (kept != kept.take([0], axis=k)).any():
                    raise node.refuse(
                        "masks pairs of steps in another way for each head or sequence; only one mask for all is supported"
                    )
                first = first.take([0], axis=k)
        shape = [1 if k not in places else steps for k in range(kept.ndim)]
        square = np.broadcast_to(first, shape).reshape(steps, steps)
        if square.all():
            return None
        order = square if value.axes.index(LEFT) < value.axes.index(RIGHT) else square.T
        lag = np.arange(steps)[:, None] - np.arange(steps)
        for side, behind in (("right", lag), ("left", -lag)):
            window = int(order[behind >= 0].sum() and behind[order].max()) + 1 if order.any() else 0
            if window and np.array_equal(order, (behind >= 0) & (behind < window)):
                return side, 0 if window == steps else window
        break
    raise node.refuse(
        "masks pairs of steps, but not those of later steps, or of all but the last few ones; only such masks, and those of the steps that pad "
        "a sequence, are supported"
    )
