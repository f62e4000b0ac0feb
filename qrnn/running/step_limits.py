"""Layers that sum over time take a limited number of steps, which is checked here before they are taken."""

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
    return DataError(
        f"layer {layer.name!r} sums at most {layer.most_steps} steps of a sequence, and one would have {taken}; begin it anew, with a new state"
    )


class StepLimits:
    """The limits of a model's layers; it is false where there are none."""

    def __init__(self, model: QuantModel) -> None:
        self._layers = [layer for layer in model.layers if layer.most_steps is not None]

    def __bool__(self) -> bool:
        """Return whether any layer has a limit."""
        return bool(self._layers)

    def check(
        self,
        begin: Mapping[str, LayerState],
        steps: int | Mapping[str, IndexArray],
        to_host: Callable[[Any], Any] = np.asarray,
    ) -> None:
        """Raise DataError where sequences that begin with the states ``begin`` pass a limit.

        ``steps`` is how many steps each tensor has, or maps their names to those of each sequence, [N].
        """
        for layer in self._layers:
            taken = to_host(_steps_of(layer, begin[layer.name]))[:, 0].astype(np.int64)
            taken = taken + (steps if isinstance(steps, int) else steps[layer.inputs[0]])
            if (most := int(taken.max(initial=0))) > (layer.most_steps or 0):
                raise _refuse(layer, most)

    def room(self, layers: Mapping[str, LayerState]) -> int:
        """Return how many steps every one of the streams whose states ``layers`` holds can still take."""
        return min(
            (layer.most_steps or 0) - int(_steps_of(layer, layers[layer.name]).max(initial=0)) for layer in self._layers
        )


class WatchedStreams:
    """Counts the steps of `StreamRows`, so that the states are looked at only where one of them may have come to a limit."""

    def __init__(self, model: QuantModel, streams: StreamRows) -> None:
        self._limits, self._streams, self._left = StepLimits(model), streams, 0

    def look_again(self) -> None:
        """Forget what is known of the states, where some were replaced."""
        self._left = 0

    def runner(self, count: int) -> Callable[[], Any]:
        """Return `StreamRows.runner`, which raises DataError, with no state changed, in the place of a step past a limit."""
        run = self._streams.runner(count)
        if not self._limits:
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
            self._limits.check({name: tuple(a[rows] for a in arrays) for name, arrays in layers.items()}, 1)
            self._left = 1
