"""The rows of buffers in the shapes of users' arrays, and which arrays are copied to them as they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import ModelRows
from qrnn.model.parts import FloatArray
from qrnn.model.real_types import FLOAT32, FLOAT64, NARROW

TOKENS = np.dtype(np.int64).char


KINDS = {FLOAT64: NARROW + FLOAT64, FLOAT32: NARROW, TOKENS: "bhilqBHI"}
"""NumPy's type characters of arrays that are copied as they are into float64, float32 and int64, which hold all of their values."""


def is_alike(value: npt.NDArray[Any], view: npt.NDArray[Any]) -> bool:
    """Return whether compiled code can read a user's array in the place of ``view``: of its type and contiguous.

    A type's character says nothing of its byte order, and `carray` neither.
    """
    return value.dtype.char == view.dtype.char and value.dtype.isnative and value.flags.carray


class Views:
    """The rows of the first ``count`` streams or sequences, in the shapes that users know."""

    def __init__(self, rows: ModelRows, count: int) -> None:
        self.count = count
        model, steps = rows.model, rows.steps
        self.inputs: list[tuple[str, npt.NDArray[Any], tuple[int, ...], str]] = []
        for graph_input in model.inputs:
            if graph_input.name in rows.inputs:
                lead = (count,) if steps is None or not graph_input.has_time else (count, steps)
                view = rows.inputs[graph_input.name][: math.prod(lead)].reshape(*lead, *graph_input.shape)
                kinds = KINDS[view.dtype.char]
                self.inputs.append((graph_input.name, view, view.shape, kinds))
        self.outputs: list[tuple[str, FloatArray]] = []
        for output in model.outputs:
            shape = model.step_shape(output) if steps is None else output.shape
            if steps is not None and output.has_time:
                shape = (rows.output_steps[output.name], *shape)
            own = rows.outputs[output.name][: count * rows.output_steps[output.name]]
            self.outputs.append((output.name, own.reshape(count, *shape)))
