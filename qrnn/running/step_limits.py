"""Layers that sum over time, or read a fixed number of steps, take a limited number of them, which is checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qrnn.backends.base import LayerState, StreamRows
from qrnn.errors import DataError
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import IndexArray
from qrnn.model.quant_model import QuantModel


def _steps_of(layer: QuantLayer, state: LayerState) -> Any:
    """Return the array in which a layer with a limit counts its steps, [N, 1]."""
    return state[[array.name for array in layer.states()].index("steps")]


def _refuse(layer: QuantLayer, taken: int) -> DataError:
    if layer.least_steps:
        expected = f"{layer.fixed_steps}" if layer.fixed_steps else f"at least {layer.least_steps}"
        return DataError(f"layer {layer.name!r} needs sequences of {expected} steps, and one has {taken}")
    return DataError(
        f"layer {layer.name!r} takes at most {layer.most_steps} steps of a sequence, and one would have {taken}; begin it anew, with a new "
        "state"
    )


class StepLimits:
    """The limits of a model's layers; it is false where there are none."""

    def __init__(self, model: QuantModel) -> None:
        self._layers = [layer for layer in model.layers if layer.most_steps is not None or layer.least_steps]
        self._input = next((i.name for i in model.inputs if i.has_time and i.kind in ("features", "tokens")), "")
        self._watched = [
            layer for layer in self._layers if layer.most_steps is not None and layer.inputs[0] not in model.counted
        ]
        """Those with a largest number that take a step in each call of a stream."""

    def __bool__(self) -> bool:
        """Return whether any layer has a limit."""
        return bool(self._layers)

    def check(
        self,
        begin: Mapping[str, LayerState],
        steps: Mapping[str, IndexArray] | Mapping[str, int],
        to_host: Callable[[Any], Any] = np.asarray,
        end: bool = False,
    ) -> None:
        """Raise DataError where sequences that begin with the states ``begin`` pass a limit, or with ``end`` are too short at their end.

        ``steps`` maps the names of tensors to how many steps they have: each sequence, [N], or all.
        """
        for layer in self._layers:
            taken = to_host(_steps_of(layer, begin[layer.name]))[:, 0].astype(np.int64) + steps[layer.inputs[0]]
            if layer.most_steps is not None and (most := int(taken.max(initial=0))) > layer.most_steps:
                raise _refuse(layer, most)
            short = (taken < layer.least_steps) & (
                (taken > 0) | (steps[self._input] > 0)
            )  # a sequence of no steps gives zeros
            if end and short.any():
                raise _refuse(layer, int(taken[short][0]))

    @property
    def watches(self) -> bool:
        """Return whether any layer has to be watched in streams."""
        return bool(self._watched)

    def check_one(self, begin: Mapping[str, LayerState]) -> None:
        """Raise DataError where streams with the states ``begin`` pass a limit with their next step."""
        for layer in self._watched:
            if (most := int(_steps_of(layer, begin[layer.name]).max(initial=0)) + 1) > (layer.most_steps or 0):
                raise _refuse(layer, most)

    def room(self, layers: Mapping[str, LayerState]) -> int:
        """Return how many steps every one of the streams whose states ``layers`` holds can still take."""
        return min(
            (layer.most_steps or 0) - int(_steps_of(layer, layers[layer.name]).max(initial=0))
            for layer in self._watched
        )


class WatchedStreams:
    """Counts the steps of streams, so that the states are looked at only where one of them may have come to a limit.

    The streams may be in several `StreamRows`, which are `StreamRows.alike`.
    """

    def __init__(self, model: QuantModel, streams: StreamRows) -> None:
        self._limits, self._streams, self._left = StepLimits(model), streams, 0

    def look_again(self) -> None:
        """Forget what is known of the states, where some were replaced."""
        self._left = 0

    def runner(self, streams: StreamRows, count: int) -> Callable[[], Any]:
        """Return ``streams.runner``, which raises DataError, with no state changed, in the place of a step past a limit."""
        run = streams.runner(count)
        if not self._limits.watches:
            return run

        def watched() -> Any:
            if self._left < 1:
                self._look(count)
            self._left -= 1
            return run()

        return watched

    def _look(self, count: int) -> None:
        layers = self._streams.layers
        self._left = self._limits.room(layers)
        if self._left < 1:  # of any stream; it counts whether that is one of those that take a step now
            rows = self._streams.rows[:count]
            self._limits.check_one({name: tuple(a[rows] for a in arrays) for name, arrays in layers.items()})
            self._left = 1
