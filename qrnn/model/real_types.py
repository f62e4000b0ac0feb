"""The type of the real numbers that outputs are given in: float32 where all that was given is, and float64 otherwise, or as is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput
from qrnn.model.user_values import as_array

RealType = Literal["float32", "float64"]

FLOAT32, FLOAT64 = "f", "d"
"""NumPy's characters of the two types."""

NARROW = "ef"
"""The characters of the types all of whose values are float32's."""

_CHARS = {"float32": FLOAT32, "float64": FLOAT64}


def real_names(inputs: Iterable[GraphInput]) -> tuple[str, ...]:
    """Return the names of the graph inputs of real numbers."""
    return tuple(i.name for i in inputs if i.kind in ("features", "state"))


def asked_type(real: str | None, integers: bool = False) -> str | None:
    """Return the character of the type that ``real`` names, None for None; DataError for another name, and for one beside ``integers``."""
    if real is None:
        return None
    if not isinstance(real, str) or real not in _CHARS:
        raise DataError(f"real={real!r}, expected 'float32' or 'float64', or None for the type of the inputs")
    if integers:
        raise DataError(f"real={real!r}: outputs are integers, which have types of their own; leave it out")
    return _CHARS[real]


def type_of_inputs(names: Iterable[str], inputs: Mapping[str, Any]) -> str:
    """Return `FLOAT32` where the arrays of real numbers among ``inputs`` are float32 or float16, and `FLOAT64` otherwise or without any."""
    found = FLOAT64
    for name in names:
        value = inputs.get(name)
        if value is None:
            continue
        dtype = getattr(value, "dtype", None)
        if not isinstance(dtype, np.dtype):
            dtype = as_array(f"input {name!r}", value).dtype
        if dtype.char not in NARROW:
            return FLOAT64
        found = FLOAT32
    return found


def as_type(values: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Return real numbers as the type of character ``kind``, rounded once where it is float32; beyond its range they are infinities."""
    if values.dtype.char == kind:
        return values
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(kind)
