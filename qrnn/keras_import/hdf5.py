"""Read datasets of an HDF5 file in memory, each checked before anything is allocated for it: its links, type, shape, storage and filters."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.onnx_import.budget import Budget

SIGNATURE = b"\x89HDF\r\n\x1a\n"

FILTERS = frozenset([1, 2, 3])
"""The filters of HDF5 that are read: deflate, shuffle and the checksum of Fletcher. All are a part of the library itself."""

MOST_MEMBERS = 100_000
"""The most members of a group, and the most names in an attribute."""

LARGEST_CHUNK = 1 << 20
"""Bytes of a chunk that may be larger than its dataset."""

DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    IndexError,
    NotImplementedError,
)
"""What h5py raises for a file that is damaged."""


def require_h5py() -> Any:
    """Return the module h5py, or say how to install it."""
    try:
        import h5py
    except ImportError:
        raise QrnnError("Keras models are read by h5py: pip install h5py, or pip install 'qrnn[keras]'") from None
    return h5py


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise ModelFileError(f"{what} is damaged ({str(error)[:120]}); save the model again") from error


class Datasets:
    """An HDF5 file of ``content``, whose datasets are read by path. ``budget`` counts what they take."""

    def __init__(self, content: bytes, what: str, budget: Budget) -> None:
        h5py = require_h5py()
        self._what, self._budget, self._h5py = what, budget, h5py
        with _told(what):
            self._file = h5py.File(io.BytesIO(content), "r")

    def close(self) -> None:
        """Close the file."""
        with _told(self._what):
            self._file.close()

    def _find(self, path: str) -> Any:
        """Return the object at a path; None where there is none. Links that are not plain ones are refused, not followed."""
        at = self._file
        for part in path.strip("/").split("/") if path.strip("/") else ():
            if not isinstance(at, self._h5py.Group):
                return None
            link = at.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                raise ModelFileError(
                    f"{self._what}: '{path[:200]}' is a link of the kind {type(link).__name__}, which is not followed; save the model again"
                )
            at = at.get(part)
        return at

    def names(self, path: str) -> list[str]:
        """Return the names of a group's members; none where there is no such group."""
        with _told(f"{self._what}: group '{path[:200]}'"):
            group = self._find(path)
            if not isinstance(group, self._h5py.Group):
                return []
            if len(group) > MOST_MEMBERS:
                raise ModelFileError(
                    f"{self._what}: group '{path[:200]}' has {len(group)} members; save the model again"
                )
            return [str(name) for name in group]

    def texts(self, path: str, attribute: str) -> list[str] | None:
        """Return an attribute of texts of a group, which may be in pieces under numbered names; None where there is none."""
        with _told(f"{self._what}: attribute '{attribute}' of '{path[:200]}'"):
            group = self._find(path)
            if group is None:
                return None
            if attribute in group.attrs:
                return [_text(value) for value in np.asarray(self._attribute(group, attribute)).reshape(-1)]
            found: list[str] = []
            for k in range(MOST_MEMBERS):
                if f"{attribute}{k}" not in group.attrs:
                    break
                found += [_text(v) for v in np.asarray(self._attribute(group, f"{attribute}{k}")).reshape(-1)]
            return found or None

    def text(self, attribute: str, path: str = "") -> str | None:
        """Return an attribute that is one text; None where there is none."""
        with _told(f"{self._what}: attribute '{attribute}'"):
            at = self._find(path)
            if at is None or attribute not in at.attrs:
                return None
            return _text(self._attribute(at, attribute))

    def _attribute(self, group: Any, name: str) -> Any:
        found = group.attrs.get_id(name)
        count = int(np.prod(found.shape, dtype=object)) if found.shape else 1
        if count > MOST_MEMBERS or found.dtype.itemsize > 1 << 26:
            raise ModelFileError(
                f"{self._what}: attribute '{name}' has {count} values of {found.dtype}; save the model again"
            )
        self._budget.hold(f"{self._what}: attribute '{name}'", count * found.dtype.itemsize)
        return group.attrs[name]

    def read(self, path: str, where: str) -> np.ndarray[Any, Any]:
        """Return a dataset of real numbers as float64, as all of the importer's values are."""
        what = f"{where}: weight '{path[:200]}' of {self._what}"
        with _told(what):
            found = self._find(path)
            if not isinstance(found, self._h5py.Dataset):
                raise ModelFileError(f"{what} is missing; save the model again")
            dtype = found.dtype
            bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and str(found.attrs.get("dtype", "")) == "bfloat16"
            if dtype.kind not in "fiu" and not bfloat16:
                raise UnsupportedError(f"{what} is of type {dtype}, expected real numbers; save the model in float32")
            if dtype.itemsize > 8:
                raise UnsupportedError(
                    f"{what} is of type {dtype}, expected at most float64; save the model in float32"
                )
            size = int(np.prod(found.shape, dtype=object)) if found.shape is not None else 0
            self._check_storage(found, size * dtype.itemsize, what)
            self._budget.value(what, size, scratch=size)
            raw = found[()]
            if bfloat16:
                raw = (np.asarray(raw).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            return np.asarray(raw, dtype=np.float64)

    def _check_storage(self, found: Any, size: int, what: str) -> None:
        """Refuse data that lie in other files, filters that are no part of the library, and chunks larger than their dataset."""
        settings = found.id.get_create_plist()
        if found.is_virtual or settings.get_external_count():
            raise ModelFileError(f"{what} has its data in other files, which are not read; save the model again")
        filters = {settings.get_filter(k)[0] for k in range(settings.get_nfilters())}
        if filters - FILTERS:
            raise UnsupportedError(
                f"{what} is stored by the filter {min(filters - FILTERS)} of HDF5; save the model with gzip or none"
            )
        if found.chunks is not None:
            chunk = int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize
            if chunk > size + LARGEST_CHUNK:
                raise ModelFileError(
                    f"{what} has chunks of {chunk} bytes for {size} bytes of data; save the model again"
                )


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
