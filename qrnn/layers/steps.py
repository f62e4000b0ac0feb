"""Layers that choose steps of a sequence, and that give a vector at every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import place
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.last_steps import LastSteps
from qrnn.model.kinds.nth_step import NthStep
from qrnn.model.kinds.repeat import Repeat
from qrnn.model.kinds.take_steps import LONGEST_SPAN, TakeSteps
from qrnn.model.window import LARGEST_WINDOW


def time_slice(t: Tensor, start: int = 0, stop: int | None = None, step: int = 1, *, name: str | None = None) -> Tensor:
    """Take the steps t[:, start:stop:step] of each sequence, which count from its own end where they are negative.

    A slice from the beginning streams: a step comes out as soon as it is known to be inside. The last steps (a negative ``start``) are given
    where a sequence ends, by `Session.run` and `Session.finish`. ``step`` is at least 1; ``start`` below 0 and ``stop`` of 0 or more do not go
    together.
    """
    where = place("time_slice", name)
    t = sequence(where, t)
    least = {"start": -LARGEST_WINDOW, "stop": -LONGEST_SPAN, "step": 1}
    for what, value in (("start", start), ("stop", 0 if stop is None else stop), ("step", step)):
        fits = not isinstance(value, bool) and isinstance(value, (int, np.integer))
        if not fits or not least[what] <= value <= LONGEST_SPAN:
            raise DataError(f"{where}: {what} is {value!r}, expected a whole number of {least[what]} to {LONGEST_SPAN}")
    if start < 0:
        if stop is not None and (stop >= 0 or stop <= start):
            raise DataError(f"{where}: start {start} and stop {stop}, expected a stop from {start + 1} to -1, or None")
        count, without = -start, 0 if stop is None else -stop
        made = _named(
            "last_steps",
            t,
            name if step == 1 else None,
            lambda own, x: LastSteps(own, x, own, t.features, count, without),
        )
        return made if step == 1 else time_slice(made, 0, None, step, name=name)
    if stop is not None and stop >= 0:
        if stop <= start:
            raise DataError(f"{where}: start {start} and stop {stop}, expected a stop from {start + 1} on")
        span, until = start + 1, stop
    else:
        span, until = start + 1 - (stop or 0), 0
    every, offsets = np.arange(t.features), np.full(t.features, start, np.int64)
    return _named("take_steps", t, name, lambda own, x: TakeSteps(own, x, own, every, offsets, span, step, until))


def step_at(t: Tensor, step: int, *, name: str | None = None) -> Tensor:
    """Take one step of each sequence: [N, T, F] → [N, F]. ``step`` counts from the beginning, or from -1 at the end.

    A sequence without a step that counts from the beginning is refused; one without a step that counts from its end gives zeros.
    """
    where = place("step_at", name)
    t = sequence(where, t)
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not -LONGEST_SPAN <= step < LONGEST_SPAN:
        raise DataError(f"{where}: step is {step!r}, expected a whole number")
    if step < -1:
        t = time_slice(t, 0, int(step) + 1)
    elif step >= 0:
        held = t
        t = _named("nth_step", t, None, lambda own, x: NthStep(own, x, own, held.features, int(step)))
    return simple_layer("last_step", name, (t,), (t.features, False), lambda own, names: LastStep(own, names[0], own))


def side_by_side(t: Tensor, steps: int, *, name: str | None = None) -> Tensor:
    """Put all steps of sequences of exactly ``steps`` steps side by side: [N, steps, F] → [N, steps · F], the features of a step together.

    Sequences of another length are refused.
    """
    where = place("side_by_side", name)
    t = sequence(where, t)
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 1 <= steps <= LARGEST_WINDOW:
        raise DataError(f"{where}: steps is {steps!r}, expected a whole number of 1 to {LARGEST_WINDOW}")
    features, count = t.features, int(steps)
    indices, offsets = np.tile(np.arange(features), count), np.repeat(np.arange(count), features)
    row = simple_layer(
        "take_steps",
        None,
        (t,),
        (features * count, True),
        lambda own, names: TakeSteps(own, names[0], own, indices, offsets, count, 1, count, True),
    )
    shape = (row.features, False)
    return simple_layer("last_step", name, (row,), shape, lambda own, names: LastStep(own, names[0], own))


def repeat(t: Tensor, like: Tensor, *, count: int = 0, name: str | None = None) -> Tensor:
    """Give a vector at every step: [N, F] → [N, T, F], with as many steps as the sequence ``like`` has, or ``count`` where that is not 0.

    A model that repeats what it knows at the end of a sequence alone, such as a last state, runs whole sequences and cannot stream.
    """
    where = place("repeat", name)
    t, like = readable(where, t), sequence(where, like)
    if t.has_time:
        raise DataError(f"{where}: its input {t.name!r} is a sequence, expected a vector [N, F]")
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 <= count <= LARGEST_WINDOW:
        raise DataError(f"{where}: count is {count!r}, expected a whole number of 0 to {LARGEST_WINDOW}")
    shape = (t.features, True)
    return simple_layer(
        "repeat", name, (like, t), shape, lambda own, names: Repeat(own, names[0], names[1], own, int(count))
    )


def _named(kind: str, t: Tensor, name: str | None, make: Any) -> Tensor:
    """Return the output of a layer over time with the features of its input, which ``make(name, input)`` makes."""
    return simple_layer(kind, name, (t,), (t.features, True), lambda own, names: make(own, names[0]))
