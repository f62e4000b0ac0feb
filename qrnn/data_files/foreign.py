"""Zarr stores and Parquet files, by the libraries of the extra ``data``; their rows are read in order, a few at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qrnn.data_files.archive import Declared, available_memory
from qrnn.data_files.stores import AHEAD_BYTES, Reader, Rows, ahead
from qrnn.errors import DataError
from qrnn.system.extras import missing_library
from qrnn.system.sizes import size_text

PARQUET_BUFFER_BYTES = 1 << 20
"""How many bytes of a column of a Parquet file are read at a time."""

ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Files of which one lies in every Zarr store."""


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in ZARR_MARKS)


def zarr_library() -> Any:
    """Return the package zarr; MissingLibraryError where it is not installed."""
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise missing_library(error, "a Zarr store") from None
    return zarr


class ZarrStore:
    """A Zarr group of arrays, or a single array."""

    def __init__(self, path: Path) -> None:
        zarr = zarr_library()
        try:
            opened = zarr.open(str(path), mode="r")
        except Exception as error:  # noqa: BLE001  # whatever the library raises on a damaged store
            raise DataError(f"not a readable Zarr store ({_first_line(error)})") from None
        self._arrays = dict(opened.arrays()) if hasattr(opened, "arrays") else {"": opened}
        self.declared = {name: self._declared(name, array) for name, array in self._arrays.items()}

    def _declared(self, name: str, array: Any) -> Declared:
        """Return what an array's metadata say; its chunks, which are unpacked whole, must fit into memory."""
        dtype = np.dtype(array.dtype)
        if dtype.hasobject:
            raise DataError(f"array {name!r}: type {dtype}, expected numbers; Python objects are not read")
        chunk, free = math.prod(array.chunks) * dtype.itemsize, available_memory()
        if free is not None and chunk > free // 4:
            raise DataError(
                f"array {name!r} has chunks of {size_text(chunk)}, and {size_text(free)} are free; store it with fewer sequences a chunk"
            )
        return Declared(name, tuple(int(size) for size in array.shape), dtype, 0)

    @contextmanager
    def readers(self) -> Iterator[Mapping[str, Reader]]:
        """See `qrnn.data_files.stores.Store.readers`."""
        yield {name: _chunks_of(name, array) for name, array in self._arrays.items()}

    def close(self) -> None:
        """See `qrnn.data_files.stores.Store.close`."""


def _chunks_of(name: str, array: Any) -> Reader:
    """Return the reader of a Zarr array, by whole chunks where these are small enough to be kept."""
    first = 0

    def read(count: int) -> Rows:
        nonlocal first
        first += count
        try:
            return np.asarray(array[first - count : first])
        except Exception as error:  # noqa: BLE001  # whatever the library raises on a damaged store
            raise DataError(f"array {name!r} cannot be read ({_first_line(error)})") from None

    size, chunk = int(array.shape[0]), int(array.chunks[0])
    row_bytes = math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize
    return ahead(read, size, chunk) if chunk * row_bytes <= AHEAD_BYTES else read


class ParquetStore:
    """A Parquet file: a row for each sequence, a column of numbers or of nested lists of one length for each array."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise missing_library(error, "a Parquet file") from None
        self._file = file
        try:
            self._table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=PARQUET_BUFFER_BYTES)
            first = next(self._table.iter_batches(batch_size=1), None)
        except Exception as error:  # noqa: BLE001  # whatever the library raises on a damaged file
            raise DataError(f"not a readable Parquet file ({_first_line(error)})") from None
        if first is None:
            raise DataError("has no rows; expected one for each sequence")
        self._first = {name: _numbers(name, first.column(name), None) for name in first.schema.names}
        rows = int(self._table.metadata.num_rows)
        self.declared = {n: Declared(n, (rows, *a.shape[1:]), a.dtype, 0) for n, a in self._first.items()}

    @contextmanager
    def readers(self) -> Iterator[Mapping[str, Reader]]:
        """See `qrnn.data_files.stores.Store.readers`."""
        yield {name: self._reader_of(name) for name in self.declared}

    def _reader_of(self, name: str) -> Reader:
        shape = self._first[name].shape[1:]
        batches: Iterator[Any] | None = None
        left = self._first[name][:0]

        def read(count: int) -> Rows:
            nonlocal batches, left
            if batches is None:
                batches = self._table.iter_batches(batch_size=count, columns=[name])
            pieces, held = [left], len(left)
            while held < count:
                try:
                    batch = next(batches)
                except StopIteration:
                    raise DataError(f"column {name!r} ends early; the file is damaged") from None
                except Exception as error:  # noqa: BLE001  # as above
                    raise DataError(f"column {name!r} cannot be read ({_first_line(error)})") from None
                pieces.append(_numbers(name, batch.column(0), shape))
                held += len(pieces[-1])
            together = np.concatenate(pieces)
            left = together[count:]
            return together[:count]

        return read

    def close(self) -> None:
        """See `qrnn.data_files.stores.Store.close`."""
        self._file.close()


def _numbers(name: str, column: Any, shape: tuple[int, ...] | None) -> Rows:
    """Return a column as an array; DataError for lists of several lengths, or other than ``shape``, and for missing values."""
    import pyarrow

    sizes: list[int] = [len(column)]
    while pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type) or _is_fixed(column.type):
        if column.null_count:
            raise DataError(f"column {name!r} has missing values; expected a list of numbers in every row")
        values = column.flatten()
        count = len(values) // len(column) if len(column) else 0
        lengths = column.value_lengths() if not _is_fixed(column.type) else None
        if lengths is not None and len(column) and not (np.asarray(lengths) == count).all():
            raise DataError(
                f"column {name!r} has lists of several lengths; pad them to one, and give a column of lengths beside it"
            )
        sizes.append(count)
        column = values
    if column.null_count:
        raise DataError(f"column {name!r} has missing values; expected a number in every place")
    array = column.to_numpy(zero_copy_only=False).reshape(sizes)
    if array.dtype.hasobject:
        raise DataError(f"column {name!r} has type {column.type}, expected numbers or nested lists of numbers")
    if shape is not None and len(array) and array.shape[1:] != shape:
        raise DataError(
            f"column {name!r} has rows {list(array.shape[1:])} and {list(shape)}; pad them to one size, and give a column of lengths"
        )
    return np.asarray(array)


def _is_fixed(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_fixed_size_list(kind))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
