"""Files of arrays that are read from the first row to the last, a few rows at a time: .npz, .npy, and folders of .npy.

A file may be damaged or hostile. What an array's header says is compared with the size of the file before anything is allocated, and no more
is read at once than was asked for.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from qrnn.data_files.archive import (
    Declared,
    array_members,
    available_memory,
    checked_header,
    declared_in,
    read_header,
)
from qrnn.errors import DataError
from qrnn.system.files import open_regular, plain_error
from qrnn.system.sizes import size_text

Rows = npt.NDArray[Any]

Reader = Callable[[int], Rows]
"""reader(n) → the next n rows of an array."""


AHEAD_BYTES = 32 << 20
"""The most bytes that are read ahead of an array whose rows cost less when many are read at once."""


def ahead(read: Reader, size: int, step: int) -> Reader:
    """Return a reader of the same ``size`` rows that calls ``read`` for a multiple of ``step`` rows, and keeps what is not asked for yet."""
    come = 0
    kept: Rows | None = None

    def asked(count: int) -> Rows:
        nonlocal come, kept
        missing = count - (0 if kept is None else len(kept))
        if missing > 0:
            stop = min(size, come + -(-missing // step) * step)
            rows = read(stop - come)
            come = stop
            kept = rows if kept is None or not len(kept) else np.concatenate([kept, rows])
        assert kept is not None
        given, kept = kept[:count], kept[count:]
        return given

    return asked


class Store(Protocol):
    """Arrays by name, whose rows are read in order."""

    declared: dict[str, Declared]
    """Names, shapes and types; of an array without a name the name is empty."""

    def readers(self) -> Any:
        """Return a context of readers by name, which begin with the first row."""

    def close(self) -> None:
        """Close the files."""


class NpzStore:
    """An .npz file, whose members are unpacked as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._archive = file, zipfile.ZipFile(file)
        self._members = array_members(self._archive)
        self.declared = {name: declared_in(self._archive, name, info) for name, info in self._members.items()}

    @contextmanager
    def readers(self) -> Iterator[Mapping[str, Reader]]:
        """See `Store.readers`."""
        with ExitStack() as stack:
            opened = {n: stack.enter_context(self._archive.open(info)) for n, info in self._members.items()}
            yield {name: _reader_of(self.declared[name], member, name) for name, member in opened.items()}

    def close(self) -> None:
        """See `Store.close`."""
        self._archive.close()
        self._file.close()


class NpyStore:
    """One .npy file, or several by the names of their arrays."""

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        self._files = files
        self.declared = {name: _declared_alone(name, file) for name, file in files.items()}

    @contextmanager
    def readers(self) -> Iterator[Mapping[str, Reader]]:
        """See `Store.readers`."""
        for file in self._files.values():
            file.seek(0)
        yield {name: _reader_of(self.declared[name], file, name) for name, file in self._files.items()}

    def close(self) -> None:
        """See `Store.close`."""
        for file in self._files.values():
            file.close()


def npy_folder(folder: Path) -> NpyStore:
    """Return the store of a folder with files NAME.npy."""
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".npy")
    if not paths:
        raise DataError("is a folder without files NAME.npy; expected one for each graph input, or a Zarr group")
    with ExitStack() as stack:
        files = {}
        for path in paths:
            try:
                files[path.stem] = stack.enter_context(open_regular(path))
            except OSError as error:
                raise DataError(f"{path.name}: {plain_error(error, path.name).strerror}") from None
        store = NpyStore(files)
        stack.pop_all()
        return store


def _declared_alone(name: str, file: BinaryIO) -> Declared:
    """Return the header of a file that holds one array, whose size must be that of the file."""
    shape, dtype, header_bytes, _ = read_header(name, file)
    found = checked_header(name, shape, dtype, header_bytes)
    size = os.fstat(file.fileno()).st_size
    if header_bytes + found.nbytes != size:
        raise DataError(
            f"array {name!r}: its header says {dtype}{list(shape)}, {header_bytes + found.nbytes} bytes in all, and the file has {size}; "
            "the file is damaged"
        )
    return found


def _reader_of(declared: Declared, file: IO[bytes], name: str) -> Reader:
    """Return the reader of an array whose header ``file`` is at the beginning of."""
    if read_header(name, file).fortran_order and len(declared.shape) > 1:
        return _reader_of_columns(declared, file)
    row, dtype = declared.shape[1:], declared.dtype
    row_bytes = declared.nbytes // max(1, declared.shape[0])

    def read(count: int) -> Rows:
        content = bytearray(count * row_bytes)
        _read_into(file, memoryview(content), name)
        return np.frombuffer(content, dtype, count * int(np.prod(row, dtype=np.int64))).reshape(count, *row)

    return read


def _reader_of_columns(declared: Declared, file: IO[bytes]) -> Reader:
    """Return the reader of an array in Fortran's order: column by column from a file, and whole from an archive's member."""
    if isinstance(file, zipfile.ZipExtFile):
        return _reader_of_whole(declared, file)
    count, row = declared.shape[0], declared.shape[1:]
    item = int(declared.dtype.itemsize)
    first = 0

    def read(rows: int) -> Rows:
        """Read what each column has of the rows; a column is one place of all rows. The pages of a memory map would count as held."""
        nonlocal first
        columns = np.empty((math.prod(row), rows), declared.dtype)
        for column, values in enumerate(columns.view(np.uint8)):
            file.seek(declared.header_bytes + item * (column * count + first))
            _read_into(file, memoryview(values), declared.name)
        first += rows
        return np.ascontiguousarray(columns.reshape(*row[::-1], rows).T)

    return ahead(read, count, max(1, AHEAD_BYTES // max(1, item * math.prod(row))))


def _reader_of_whole(declared: Declared, file: IO[bytes]) -> Reader:
    free = available_memory()
    if free is not None and declared.nbytes > free // 2:
        raise DataError(
            f"array {declared.name!r} takes {size_text(declared.nbytes)} in Fortran's order, which is read whole; save "
            "np.ascontiguousarray of it"
        )
    whole: Rows = np.frombuffer(file.read(declared.nbytes), declared.dtype).reshape(declared.shape, order="F")
    first = 0

    def read(count: int) -> Rows:
        nonlocal first
        first += count
        return np.ascontiguousarray(whole[first - count : first])

    return read


def _read_into(file: Any, view: memoryview, name: str) -> None:
    """Fill ``view`` from a file; DataError where the file ends before."""
    held = 0
    while held < len(view):
        got = file.readinto(view[held:])
        if not got:
            raise DataError(f"array {name!r} ends after {held} of {len(view)} bytes; the file is damaged")
        held += got
