"""Types of arrays, and checks that every part makes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import ModelFileError

UInt8Array = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

LEFT_OUT: Mapping[str, bool] = {"left_out": True}
"""The metadata of a dataclass's field that a file leaves out where it has its default, so that files without it stay what they were."""

ACCUMULATOR_LIMIT = 1 << 31
"""The magnitude of every accumulator, shifted left, stays below this."""


def require(condition: bool, message: str) -> None:
    """Raise ModelFileError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ModelFileError(message)


def check_array(
    owner: str, name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    """Raise ModelFileError unless ``array`` has exactly this type and shape."""
    if array.dtype == dtype and array.shape == shape:
        return
    raise ModelFileError(
        f"{owner}.{name} is {array.dtype}{list(array.shape)}, expected {np.dtype(dtype)}{list(shape)}; convert the model again"
    )
