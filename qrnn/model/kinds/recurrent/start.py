"""An initial state may be computed: elements of h_0 and c_0 are features of tensors without time, such as another layer's last states.

The state of such a layer has a third array, ``begun``, which is 0 before a sequence's first step and 1 after it: a step that finds 0 begins
with what the tensors hold. So a sequence in chunks, and a stream, begin once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.cells import begin_state
from qrnn.model.parts import CELL_MAX, STATE_MAX, FloatArray, IndexArray, Int64Array, check_array, require

MOST_SHIFT = 30
"""The most bits by which an integer is shifted to the format of a state."""


@dataclass(frozen=True)
class StartPart:
    """Elements of h_0 or c_0 that are features of a tensor: element ``positions[k]`` is feature ``indices[k]`` of ``tensor`` [N, F].

    The elements of a state are counted direction after direction.
    """

    tensor: str
    indices: IndexArray
    positions: IndexArray


@dataclass(frozen=True)
class QuantStartPart:
    """A `StartPart` of integers: sat(round(x · 2^``left_shift`` / 2^``right_shift``)), of which one shift is 0 (docs/arithmetic.md, 4)."""

    tensor: str
    indices: Int64Array
    positions: Int64Array
    left_shift: int
    right_shift: int

    def __post_init__(self) -> None:
        where = f"initial state from {self.tensor!r}"
        require(self.indices.ndim == 1 and self.indices.size > 0, f"{where}: indices are not int64[K]")
        for name in ("indices", "positions"):
            check_array(where, name, getattr(self, name), np.int64, self.indices.shape)
        shifts = self.left_shift, self.right_shift
        require(
            min(shifts) == 0 and max(shifts) <= MOST_SHIFT, f"{where}: shifts {shifts}, expected one of 0…{MOST_SHIFT}"
        )

    def check_places(self, where: str, features: int, size: int) -> None:
        """Refuse indices outside the ``features`` of the tensor, and positions outside the ``size`` of the state."""
        for name, values, most in (("indices", self.indices, features), ("positions", self.positions, size)):
            require(
                bool(((values >= 0) & (values < most)).all()), f"{where}: {name} of {self.tensor!r} not in 0…{most - 1}"
            )


def real_start(
    parts: tuple[StartPart, ...], read: Callable[[str], FloatArray], before: list[FloatArray]
) -> list[FloatArray]:
    """Return the initial state of each direction, [N, W] each: ``before``, with the elements that ``parts`` take of tensors [N, F].

    ``read`` gives a tensor by its name.
    """
    if not parts:
        return before
    whole = np.concatenate(before, axis=1)
    for part in parts:
        whole[:, part.positions] = read(part.tensor)[:, part.indices]
    return np.split(whole, len(before), axis=1)


def limits(dtype: Any) -> tuple[int, int]:
    """Return the least and the largest value that an initial state of a type has: h is int16 within ±32767, c any int32."""
    return (-STATE_MAX, STATE_MAX) if dtype == np.int16 else (-CELL_MAX - 1, CELL_MAX)


def with_start(parts: tuple[QuantStartPart, ...], tensors: Mapping[str, Any], state: Any, begins: Any) -> Any:
    """Return a state array [N, D, W] with the elements that ``parts`` read of ``tensors``, for the sequences that begin, ``begins`` [N]."""
    if not parts or not begins.any():
        return state
    whole, fresh = state.reshape(len(state), -1).copy(), begins
    for part in parts:
        read = tensors[part.tensor][fresh][:, part.indices].astype(np.int64)
        values = of_arrays(begin_state)(read, part.left_shift, part.right_shift, *limits(state.dtype))
        whole[np.ix_(fresh, part.positions)] = values
    return whole.reshape(state.shape)
