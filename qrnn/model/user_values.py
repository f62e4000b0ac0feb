"""Values that users give, arrays, mappings and numbers, are checked here one by one, in the same words wherever they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.parts import FloatArray, IndexArray

FLOAT32_MAX = float(np.finfo(np.float32).max)
"""The largest magnitude of an input: ONNX models compute in float32."""


_DLPACK_CUDA = (2, 13)
"""DLPack's numbers of the devices of CUDA's own memory and of managed memory."""


def on_cuda_device(value: object) -> bool:
    """Return whether an array lies on a CUDA device: by the CUDA array interface, by DLPack, or by the mark of Numba and its simulator."""
    if isinstance(value, np.ndarray):
        return False
    if getattr(value, "__cuda_ndarray__", False) or hasattr(value, "__cuda_array_interface__"):
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and int(where()[0]) in _DLPACK_CUDA


def as_array(where: str, value: object) -> npt.NDArray[Any]:
    """Return ``value`` as NumPy's array; DataError, which names ``where``, for what is no array."""
    if type(value) is np.ndarray:
        return value
    if on_cuda_device(value):
        raise DataError(
            f"{where}: lies on a CUDA device; copy it to the host, or use backend 'cuda' and its run or step"
        )
    try:
        array = np.asanyarray(value)
    except ValueError:  # rows of different lengths
        raise DataError(f"{where}: not an array; expected rows of one length") from None
    except Exception as error:  # noqa: BLE001  # whatever another library's conversion raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where}: {type(value).__name__} is not an array ({reason}); give a NumPy array") from None
    if _has_mask(value) or isinstance(array, np.ma.MaskedArray):
        raise DataError(
            f"{where}: a masked array, whose mask would be lost; give filled(value), and lengths where the mask marks padding"
        )
    return np.asarray(array)


def _has_mask(value: object) -> bool:
    """Return whether a masked array is among nested lists; NumPy drops the masks of those when it makes one array of them."""
    if isinstance(value, (list, tuple)):
        return any(map(_has_mask, value))
    return isinstance(value, np.ma.MaskedArray)


def first_bad(where: str, array: npt.NDArray[Any], bad: npt.NDArray[np.bool_], expected: str, first: int = 0) -> None:
    """Raise DataError, which names the first value of ``array`` that is marked in ``bad`` and its place; ``first``: see `make_batch`."""
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        place = [first + position[0], *position[1:]]
        raise DataError(f"{where}: value {array[position]} at {place}, expected {expected}")


def check_mapping(data: object) -> None:
    """Raise DataError unless ``data`` maps texts to what should be arrays."""
    if not isinstance(data, Mapping):
        raise DataError(f"inputs: {type(data).__name__}, expected a mapping from the names of graph inputs to arrays")
    for name in data:
        if not isinstance(name, str):
            raise DataError(f"inputs: key {name!r} of type {type(name).__name__}, expected the name of a graph input")


def check_type(where: str, dtype: np.dtype[Any], expected: type) -> None:
    """Raise DataError unless arrays of ``dtype`` hold numbers of the kind ``expected``, np.floating or np.integer; integers serve as both.

    Spans of time, dates, truth values, complex numbers, texts, objects and records are no such numbers. NumPy counts timedelta64 among its
    integers, so the decision is by the kind's letter.
    """
    if dtype.kind not in ("iuf" if expected is np.floating else "iu"):
        what = "real numbers" if expected is np.floating else "integers"
        raise DataError(f"{where}: type {dtype}, expected {what}; convert the array, for example with astype")


def check_finite(where: str, real: FloatArray, first: int = 0) -> None:
    """Raise DataError, which names the first value, where values are not finite numbers of float32's range; ``first``: see `make_batch`."""
    if not (real.max() <= FLOAT32_MAX and real.min() >= -FLOAT32_MAX):  # not so for NaN
        first_bad(where, real, ~(np.abs(real) <= FLOAT32_MAX), "a finite number of float32's range", first)


def real_values(where: str, array: npt.NDArray[Any], keep_float32: bool = False, first: int = 0) -> FloatArray:
    """Return ``array``, whose type `check_type` accepts, as float64 in the machine's byte order; DataError where a value is not finite.

    With ``keep_float32``, an array of float32 that compiled code can read as it is comes back unchanged.
    """
    if keep_float32 and array.dtype == np.float32 and array.flags.aligned:
        real: FloatArray = array
    else:
        with np.errstate(over="ignore"):  # of a type wider than float64; refused as infinity
            real = array.astype(np.float64)
    check_finite(where, real, first)
    return real


def token_values(where: str, array: npt.NDArray[Any], vocabulary: int, first: int = 0) -> IndexArray:
    """Return ``array``, of any type of integers, as int64; DataError where a value is not in 0 … vocabulary - 1."""
    first_bad(where, array, (array < 0) | (array >= vocabulary), f"a token in 0…{vocabulary - 1}", first)
    return array.astype(np.int64)


def check_count(where: str, number: object) -> None:
    """Raise DataError, which names ``where``, unless ``number`` is a whole number of at least 1; True is none."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise DataError(f"{where}={number!r}, expected a whole number of at least 1")
