"""The states of sequences in one buffer, so that all arrays of all layers are copied at once; and looked at one by one where that is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.quant_model import QuantModel

ALIGNMENT = 64
"""Bytes: every array begins at a multiple of so many."""

Place = tuple[tuple[int, ...], npt.DTypeLike, int]
"""Shape, type and first byte of an array."""


class StateLayout:
    """Where the arrays of the states of ``size`` sequences lie in one buffer: the places by the layer's name, and the bytes of them all."""

    def __init__(self, model: QuantModel, size: int) -> None:
        self.places: dict[str, tuple[Place, ...]] = {}
        self.bytes = 0
        for layer in model.layers_with_states:
            places: list[Place] = []
            for state in layer.states():
                shape = (size, *state.shape)
                places.append((shape, state.dtype, self.bytes))
                length = math.prod(shape) * np.dtype(state.dtype).itemsize
                self.bytes += -(-length // ALIGNMENT) * ALIGNMENT
            self.places[layer.name] = tuple(places)


class StoredStates(Mapping[str, tuple[npt.NDArray[Any], ...]]):
    """The states in a buffer, by the layer's name; the arrays of a layer are made when it is asked for, and are parts of the buffer."""

    def __init__(self, layout: StateLayout, buffer: npt.NDArray[np.uint8]) -> None:
        self._places, self._buffer = layout.places, buffer
        self._made: dict[str, tuple[npt.NDArray[Any], ...]] = {}

    def __getitem__(self, name: str) -> tuple[npt.NDArray[Any], ...]:
        found = self._made.get(name)
        if found is None:
            found = tuple(np.ndarray(shape, dtype, self._buffer, first) for shape, dtype, first in self._places[name])
            self._made[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
